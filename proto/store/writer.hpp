#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "proto/limits.hpp"
#include "proto/result.hpp"
#include "proto/store/key.hpp"
#include "proto/store/layout.hpp"
#include "proto/store/transaction.hpp"

namespace taskpool::store {

/// Makes memory exist up to that many bytes from the segment's start (the daemon: fallocate). An error is answered as
/// `store_full` with its detail, and changes nothing.
using Extend = std::function<Result<void>(std::size_t bytes)>;

/// Words of an array that are changed where they are; more at a time are written to a new block.
inline constexpr std::size_t kInPlaceWords = 1000;

struct Record;

struct SegmentSpec {
  std::uint64_t owner_uid = 0;
  std::string domain;      ///< At most kMaxDomainBytes - 1.
  std::uint64_t seed = 0;  ///< Random, so that nobody can prepare colliding keys beforehand.
};

/// What to store: an entry of a dict, an item of a list, or a value. The spans are copied.
struct EntryInput {
  std::span<const std::byte> value;
  std::uint8_t encoding = 0;
  std::uint32_t writer_uid = 0;
  std::uint64_t expires_ns = 0;         ///< CLOCK_BOOTTIME; 0: never.
  std::span<const ObjectId> refs = {};  ///< Objects that the value names.
};

/// The objects that a stored value names.
class RefList {
 public:
  RefList() = default;
  RefList(const std::byte* words, std::size_t size) : words_(words), size_(size) {}
  std::size_t size() const { return size_; }
  ObjectId operator[](std::size_t index) const;

 private:
  const std::byte* words_ = nullptr;
  std::size_t size_ = 0;
};

/// What is stored. The spans point into the segment: good until the transaction that gave them ends, or the next one
/// begins.
struct EntryView {
  KeyView key;  ///< Empty for items and values.
  std::span<const std::byte> value;
  RefList refs;
  std::uint8_t encoding = 0;
  std::uint32_t writer_uid = 0;
  std::uint64_t expires_ns = 0;
  std::uint64_t order = 0;    ///< Of a dict: grows with each key that is inserted.
  std::uint64_t version = 0;  ///< As Read::version.
};

struct ObjectSpec {
  ObjectType type = ObjectType::dict;
  std::uint8_t flags = 0;  ///< kAnonymous.
  std::uint32_t owner_uid = 0;
  std::uint64_t created = 0;  ///< Unix time, seconds.
};

struct ObjectInfo {
  ObjectId id = ObjectId::none;
  std::uint64_t offset = 0;  ///< For readers: Segment::find().
  ObjectType type = ObjectType::dict;
  std::uint8_t flags = 0;
  std::uint32_t owner_uid = 0;
  std::uint64_t version = 0;
  std::uint64_t count = 0;
  std::uint64_t bytes = 0;  ///< Memory of its own: record, index, blocks.
  std::uint64_t created = 0;
  std::uint64_t aux[kAuxWords] = {};
};

struct Usage {
  std::uint64_t bound_bytes = 0;
  std::uint64_t used_bytes = 0;  ///< Memory that exists.
  std::uint64_t live_bytes = 0;  ///< Of all objects; the rest of used_bytes is free blocks.
  std::uint64_t objects = 0;
};

/// The one writer of a segment. Single-threaded. Operations belong to a transaction and see what it did before them:
///
///   Transaction tx = writer.begin(now);
///   if (auto done = writer.put(tx, id, key, entry); !done) return done.error();   // tx gives up
///   return tx.commit();
///
/// Errors of every operation: `unknown_object`; `wrong_type` (the object's shape has no such operation); `store_full`
/// (the bound or the file system); `bad_argument` (no canonical key); `body_too_large`; `out_of_range` (index);
/// `limit_reached`; `busy`: first the object needs work that may take long: call work() until it is done, then repeat
/// the whole transaction. Nothing else may change the object in between (it would answer `busy` too). The cost of
/// everything else is bounded: well below a millisecond, apart from copying the value.
class Writer {
 public:
  Writer(Writer&&) noexcept;
  Writer& operator=(Writer&&) noexcept;
  ~Writer();

  /// Makes a new, empty segment of all of `memory`, which is zero. A whole number of units between kMinSegmentBytes and
  /// kMaxSegmentBytes; else `bad_argument`. Opening an existing one is recover(), in recovery.hpp.
  static Result<Writer> create(std::span<std::byte> memory, Extend extend, const SegmentSpec& spec);

  /// Begins a change. `now_ns`: CLOCK_BOOTTIME.
  Transaction begin(std::uint64_t now_ns);

  // Objects.

  /// A new, empty object. Its content may be set in the same transaction.
  Result<ObjectInfo> create_object(Transaction& tx, const ObjectSpec& spec);
  /// Takes it away at once; its memory comes back with reclaim().
  Result<void> remove(Transaction& tx, ObjectId id);
  /// Empties it, of any shape; an array keeps its length and becomes 0. The same for its memory.
  Result<void> clear(Transaction& tx, ObjectId id);
  Result<ObjectInfo> info(Transaction& tx, ObjectId id);
  /// One of its kAuxWords words.
  Result<void> set_aux(Transaction& tx, ObjectId id, std::size_t index, std::uint64_t value);

  // Dicts (namespaces, holders of primitives).

  /// Whether it is a dict whose index is more than a CPU's own caches keep, so that each look-up waits for memory.
  bool is_large(ObjectId id) const;
  /// Has the memory fetched that the look-up of this key in a large dict begins with, and waits for nothing: for who
  /// knows some keys ahead.
  void fetch_ahead(ObjectId id, KeyView key) const;
  Result<std::optional<EntryView>> find(Transaction& tx, ObjectId id, KeyView key);
  /// Inserts or overwrites. Returns true if the key is new (or its entry had expired).
  Result<bool> put(Transaction& tx, ObjectId id, KeyView key, const EntryInput& entry);
  /// Returns false if there was no such key (or its entry had expired; it is removed all the same).
  Result<bool> erase(Transaction& tx, ObjectId id, KeyView key);
  /// The entry that was inserted last: what popitem() takes. `busy` at the first use on a large dict.
  Result<std::optional<EntryView>> newest(Transaction& tx, ObjectId id);

  // Lists (queues).

  Result<EntryView> item(Transaction& tx, ObjectId id, std::uint64_t index);
  Result<void> set_item(Transaction& tx, ObjectId id, std::uint64_t index, const EntryInput& entry);
  /// Inserts before `index`, at most the number of items. Many at once cost less than one by one.
  Result<void> insert(Transaction& tx, ObjectId id, std::uint64_t index, std::span<const EntryInput> entries);
  Result<void> erase_items(Transaction& tx, ObjectId id, std::uint64_t first, std::uint64_t count);
  /// `busy` for a long list.
  Result<void> reverse(Transaction& tx, ObjectId id);

  // Values and arrays.

  Result<std::optional<EntryView>> value(Transaction& tx, ObjectId id);
  Result<void> set_value(Transaction& tx, ObjectId id, const EntryInput& entry);
  /// Gives an array its length, of words that are 0. What it had is gone.
  Result<void> set_length(Transaction& tx, ObjectId id, std::uint64_t words);
  Result<std::uint64_t> word(Transaction& tx, ObjectId id, std::uint64_t index);
  Result<void> set_words(Transaction& tx, ObjectId id, std::uint64_t first, std::span<const std::uint64_t> words);

  // Long work, in slices; outside of transactions.

  /// Does a slice of what made an operation answer `busy`: about `steps` slots or items (1,000 take well below a
  /// millisecond). Returns true when all is done, also if there was nothing to do. `store_full`: given up, as if never
  /// begun.
  Result<bool> work(ObjectId id, std::size_t steps);
  /// Frees a slice of what removed or cleared objects held. Returns true when nothing is left. Every transaction does a
  /// little of it; this is for when there is time. Until then that memory counts as used.
  bool reclaim(std::size_t steps);

  // Looking around; outside of transactions.

  /// Every object, in no order.
  void for_each_object(const std::function<void(const ObjectInfo&)>& visit) const;
  /// Visits some entries of a dict or items of a list, from `position` on (0: from the start), and moves it. Returns
  /// false at the end. The object must not change between the calls of one walk. For what has to see everything:
  /// references, expiry.
  bool visit_entries(ObjectId id, std::uint64_t& position, std::size_t steps,
                     const std::function<void(const EntryView&)>& visit);
  Usage usage() const;

  // Who has how much, in a segment that several users write to: their entries, by EntryInput::writer_uid, and what else
  // is charged to them. Kept in private memory: whoever opens a segment counts what is there.

  /// From now on users are told apart, and none may have more: `store_full`.
  void count_writers(std::uint64_t bound);
  /// Adds an entry that was there before.
  void count(const EntryView& entry);
  /// Whether a user may have so much more. Error: `store_full`.
  Result<void> check_writer(std::uint32_t uid, std::uint64_t bytes);
  void charge_writer(std::uint32_t uid, std::int64_t bytes);
  /// By uid, those that have anything.
  std::map<std::uint32_t, std::uint64_t> writers() const;
  std::span<const std::byte> memory() const;

  /// Tells readers that the segment is no longer kept up.
  void supersede();

 private:
  friend class Recovery;
  explicit Writer(std::unique_ptr<Core> core);
  /// The index of a dict; null: it has none, or is no dict.
  Reference dict_table(ObjectId id) const;
  Result<Record> open(Transaction& tx, ObjectId id, std::optional<Shape> shape);
  /// The same for a change: `busy` during long work.
  Result<Record> change(Transaction& tx, ObjectId id, std::optional<Shape> shape);
  Result<void> replace_words(Record& record, std::span<const std::uint64_t> words);
  std::unique_ptr<Core> core_;
};

}  // namespace taskpool::store
