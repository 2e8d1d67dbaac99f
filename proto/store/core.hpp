#pragma once

#include <deque>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "proto/store/allocator.hpp"
#include "proto/store/object_index.hpp"
#include "proto/store/transaction.hpp"
#include "proto/store/words.hpp"
#include "proto/store/writer.hpp"

/// What the parts of the writer share. Private to proto/store/.
namespace taskpool::store {

/// Tables and lists up to this size are worked on at once; larger ones in slices.
inline constexpr std::uint64_t kInlineSteps = 16 * 1024;

/// A new table being filled while the old one is still read.
struct Growth {
  std::uint64_t table = 0;  ///< The new block; 0: its memory is being made.
  std::uint64_t slots = 0;
  std::uint64_t zeroed = 0;   ///< Of its slots.
  std::uint64_t scanned = 0;  ///< Of the old one's.
  std::uint64_t filled = 0;
};

/// A list's tree in reverse, ready to replace it once it is complete.
struct Reversal {
  std::uint64_t version = 0;         ///< Of the object: good for this state only.
  std::vector<std::uint64_t> items;  ///< From the last to the first.
  std::uint64_t collected = 0;       ///< Of the list's items, from the first on.
  std::uint64_t placed = 0;          ///< Of `items`, in leaves.
  std::vector<Branch> leaves;
  std::vector<std::uint64_t> blocks;  ///< All that were allocated.
  Reference root;
  bool is_done = false;
};

/// The youngest entries of a dict, oldest first: for newest(). Those that were erased since are found out when they are
/// met.
struct Ages {
  struct Age {
    std::uint64_t order;
    std::uint64_t tag;
  };
  std::vector<Age> ages;
  std::uint64_t table = 0;    ///< The root that is scanned.
  std::uint64_t scanned = 0;  ///< Its slots so far.
  bool is_cut = false;        ///< There are older ones than these.
  bool is_done = false;
};

/// What is known of an object besides its record.
struct ObjectState {
  std::uint64_t record = 0;
  std::unique_ptr<Growth> growth;
  std::unique_ptr<Reversal> reversal;
  std::unique_ptr<Ages> ages;
};

/// A block that nothing refers to any more, and what can be reached from it: to be freed in slices.
struct Doomed {
  Reference root;
  ObjectId object = ObjectId::none;  ///< Whose bytes they are until then.
  bool keeps_items = false;          ///< Only nodes of a list's tree; its items are in another one now.
  std::uint64_t position = 0;        ///< Of a table or node, how far it is.
};

/// The state of the one open transaction.
struct Pending {
  bool is_open = false;
  bool overflowed = false;
  bool has_changed_blocks = false;
  std::uint64_t now_ns = 0;
  std::vector<RedoPair> words;
  std::vector<std::uint16_t> places;  ///< Of each word in `index`.
  std::vector<std::uint16_t> index;   ///< Hash of an offset to the number of its word + 1.
  std::vector<std::uint64_t> touched;
  std::vector<std::uint64_t> fresh;    ///< Blocks allocated.
  std::vector<std::uint64_t> retired;  ///< Blocks no longer referred to.
  std::vector<Doomed> doomed;
  std::vector<std::pair<ObjectId, std::uint64_t>>
      freed;  ///< Bytes of doomed blocks that an allocation freed meanwhile.
  std::vector<ObjectId> created;
  std::vector<std::pair<ObjectId, std::uint64_t>> removed;  ///< With their records.
};

/// In a segment that several users write to: what each of them has there.
struct WriterAccounts {
  std::uint64_t bound = 0;                                 ///< Of each, bytes.
  std::unordered_map<std::uint32_t, std::uint64_t> bytes;  ///< By uid: of entries, and what else was charged.
};

struct Core {
  Core(std::span<std::byte> segment, Extend extend);

  std::byte* at(std::uint64_t offset) { return memory.data() + offset; }
  const std::byte* at(std::uint64_t offset) const { return memory.data() + offset; }
  std::uint64_t word(std::uint64_t offset) const { return load_word(at(offset)); }
  /// The parts of a block's header.
  BlockAbout about(std::uint64_t block) const { return BlockAbout::unpack(word(block + offsetof(BlockHeader, about))); }
  /// A block to be filled; of a larger class than that, if the bound is reached and one is free. `store_full`, after a
  /// slice of what is doomed did not help.
  Result<std::uint64_t> allocate_block(unsigned size_class);
  /// Frees a block at once: it must not be reachable any more.
  void free_block(std::uint64_t block);
  bool reclaim(std::size_t steps);
  /// A removed object's record is free.
  void forget(ObjectId id, std::uint64_t record);
  /// Takes the bytes of what reclaim() freed off an object's account; what is exact is only what recovery counts.
  void credit(ObjectId object, std::uint64_t bytes);

  /// Whether this user may have so much more, after a slice of what is doomed did not help. Always, without accounts.
  /// Error: `store_full`.
  Result<void> check_writer(std::uint32_t uid, std::uint64_t bytes);
  /// Notes a change of what a user has.
  void charge_writer(std::uint32_t uid, std::int64_t bytes);

  std::span<std::byte> memory;
  std::uint64_t seed = 0;
  std::uint32_t owner_uid = 0;
  Allocator allocator;
  ObjectIndex<ObjectState> objects;
  std::deque<Doomed> doomed;
  Pending pending;
  std::unique_ptr<WriterAccounts> writers;  ///< Null: one user's segment.
};

/// The entry in a block. It must be one.
EntryView view_entry(const Core& core, Reference reference);
/// Bytes of an entry's block that are used.
constexpr std::uint64_t entry_bytes(const BlockAbout& about, std::uint64_t refs) {
  std::uint64_t words = sizeof(BlockHeader) / sizeof(std::uint64_t);
  if (about.flags & kHasWriter) words += 1;
  if (about.flags & kHasExpiry) words += 1;
  if (about.flags & kHasRefs) words += 1 + refs;
  return words * sizeof(std::uint64_t) + padded(about.key_bytes) + padded(about.value_bytes);
}
/// Writes an entry into a new block. The key is canonical, or empty for items and values.
Result<Reference> make_entry(Transaction& tx, Core& core, ObjectId object, std::uint64_t order, KeyView key,
                             const EntryInput& entry);
/// Bytes of the block that a reference names, as an object's account has them.
std::uint64_t block_bytes(const Core& core, Reference reference);

/// One object during one operation: its record, read and changed through the transaction.
struct Record {
  Transaction& tx;
  Core& core;
  ObjectId id;
  ObjectState& state;

  std::uint64_t get(std::size_t field) const { return tx.load(state.record + field); }
  void set(std::size_t field, std::uint64_t value) { tx.store(state.record + field, value); }
  Reference root() const { return Reference{get(offsetof(ObjectRecord, root))}; }
  void set_root(Reference root) { set(offsetof(ObjectRecord, root), root.word); }
  std::uint64_t count() const { return get(offsetof(ObjectRecord, count)); }
  void set_count(std::uint64_t count) { set(offsetof(ObjectRecord, count), count); }
  /// Accounts for a change of the object's memory.
  void add_bytes(std::int64_t change) {
    if (change != 0)
      set(offsetof(ObjectRecord, bytes), get(offsetof(ObjectRecord, bytes)) + static_cast<std::uint64_t>(change));
  }
  void touch() { tx.touch(state.record); }
  /// The block is replaced: retires it and accounts for it.
  void drop(Reference block) {
    add_bytes(-static_cast<std::int64_t>(block_bytes(core, block)));
    tx.retire(block.offset());
  }
};

}  // namespace taskpool::store
