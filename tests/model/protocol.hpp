#pragma once

#include <array>
#include <deque>
#include <map>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "tests/model/weak_memory.hpp"

/// The store's protocol (ARCHITECTURE.md, "How the store's protocol is held") with as few words as it can have.
namespace taskpool::model {

/// A step left out or done wrongly. Each must break a property.
enum class Bug : std::uint8_t {
  none,
  publish_before_fill,       ///< The reference is stored before the block is filled.
  reuse_without_sequence,    ///< A block is reused with the sequence that it had.
  no_second_check,           ///< The reader does not look at the sequence again.
  old_root_trusted,          ///< A miss counts although the table may have been replaced.
  lost_redo_record,          ///< Recovery forgets a committed record.
  life_not_compared,         ///< Any live block will do, also one that is not yet published.
  list_root_trusted,         ///< A list's reader does not look at the root again.
  version_not_odd,           ///< A change of several words does not make the version odd.
  commit_not_ordered,        ///< A compiler may apply a change before its record is committed.
  clear_not_ordered,         ///< The next change may be seen, or happen, before the end of this one.
  retired_by_death_trusted,  ///< Recovery frees a block whose sequence the dead writer had left even.
};
inline constexpr std::array<std::string_view, 12> kBugNames{"none",
                                                            "publish_before_fill",
                                                            "reuse_without_sequence",
                                                            "no_second_check",
                                                            "old_root_trusted",
                                                            "lost_redo_record",
                                                            "life_not_compared",
                                                            "list_root_trusted",
                                                            "version_not_odd",
                                                            "commit_not_ordered",
                                                            "clear_not_ordered",
                                                            "retired_by_death_trusted"};

/// Where everything is. Blocks are type-stable: an entry's block never becomes a table.
struct Layout {
  static constexpr Word kObjects = 2, kEntries = 5, kTables = 4, kSlots = 4, kRecord = 24;
  static constexpr Location record_count = 0;                  // 0: no committed record
  static constexpr Location record = 1;                        // {location, value} each
  static constexpr Location objects = record + kRecord;        // {id, version, root, count} each
  static constexpr Location entries = objects + kObjects * 4;  // {sequence, object, key, value, check} each
  static constexpr Location tables = entries + kEntries * 5;   // {sequence, object, slots, {tag, reference} each} each
  static constexpr Location table_words = 3 + kSlots * 2;
  static constexpr Location words = tables + kTables * table_words;
};

/// A block: 1 to kEntries are entries, then come tables (of a dict: slots; of a list: references of items). 0 is none.
using Block = Word;
/// Block in the low byte, above it which of the block's lives is meant: half of its sequence.
using Reference = Word;
inline Block block_of(Reference reference) { return reference & 0xff; }
inline bool names(Reference reference, Word sequence) { return sequence % 2 == 0 && reference >> 8 == sequence / 2; }
inline bool is_entry(Block block) { return block >= 1 && block <= Layout::kEntries; }
inline bool is_table(Block block) { return block > Layout::kEntries && block <= Layout::kEntries + Layout::kTables; }
Location place(Block block);
inline Location object_place(Word object) { return Layout::objects + static_cast<Location>(object) * 4; }
inline Word tag_of(Word key) { return key + 100; }
/// What stands beside a value in its block, to know a torn one.
inline Word check_of(Word key, Word value) { return value * 1000 + key; }

/// The writer: performs operations in `history`, and knows what it did since take_events().
class Writer {
 public:
  /// How many blocks there are: few, so that they are reused soon.
  struct Blocks {
    Word entries = Layout::kEntries;
    Word tables = Layout::kTables;
  };
  /// A fresh segment, or with `recovering` one that a dead writer left behind.
  Writer(History& history, Bug bug, Blocks blocks, bool recovering);

  struct Put {
    Word object, key, value;  ///< value 0: delete
  };
  void create(Word object, Word id, Word slots);
  void remove(Word object);
  void change(std::span<const Put> puts);                    ///< All or nothing.
  void grow(Word object, Word slots);                        ///< Also cleans up: a new table without what was deleted.
  void set_list(Word object, std::span<const Word> values);  ///< Shares the items that stay.

  std::vector<Event> take_events() { return std::exchange(events_, {}); }
  /// The object's entries, as only the writer can know them.
  std::map<Word, Word> entries(Word object) const;
  std::vector<Word> list(Word object) const;

 private:
  struct Change {
    std::vector<std::pair<Location, Word>> words;  // in order; a later one wins
    std::vector<Block> retired;
    std::vector<Block> fresh;
    std::vector<std::pair<Block, Put>> late_fills;
    std::vector<Word> objects;
  };
  Word load(Location location) const { return history_.latest(location); }
  Word load(const Change& change, Location location) const;
  void store(Location location, Word value, Order order = Order::relaxed);
  void fence();
  Block allocate(std::deque<Block>& free, Change& change);
  void end_fill(Block block);
  void fill(Block block, const Put& put);
  Reference refer(Block block, bool filled = true) const;
  Word next_life(Block block) const;
  void put(Change& change, const Put& put);
  void commit(Change& change);
  void apply_words(std::span<const std::pair<Location, Word>> words);
  void retire(Block block);
  void recover();
  Location find(const Change& change, Word object, Word key, bool for_insert) const;

  History& history_;
  Bug bug_;
  Blocks blocks_;
  std::vector<Event> events_;
  std::deque<Block> free_entries_, free_tables_;  // oldest first
};

/// What a reader found: nothing, or a value. `retried` counts what it started again.
class Reader {
 public:
  Reader(ReaderMemory& memory, Bug bug) : memory_{memory}, bug_{bug} {}

  /// The value, 0 when absent, or nothing when the object is gone.
  std::optional<Word> get(Word object, Word id, Word key, const std::vector<std::uint32_t>& state);
  /// The values of all keys, 0 when absent, as they were at one time; and how many entries the object had then.
  std::optional<std::pair<std::vector<Word>, Word>> get_many(Word object, Word id, std::span<const Word> keys,
                                                             const std::vector<std::uint32_t>& state);
  /// All values of a list as they were at one time.
  std::optional<std::vector<Word>> list(Word object, Word id, const std::vector<std::uint32_t>& state);

 private:
  enum class Outcome : std::uint8_t { found, absent, again };
  Outcome try_get(Word object, Word id, Word key, Word& value);
  Outcome probe(Block table, Word id, Word key, Word& value);
  Outcome try_list(Word id, Reference root, std::vector<Word>& values);
  void check_progress() const;
  /// Whether the object still is the one with this id.
  bool holds(Word object, Word id) { return memory_.load(object_place(object), Order::acquire) == id; }

  ReaderMemory& memory_;
  Bug bug_;
};

}  // namespace taskpool::model
