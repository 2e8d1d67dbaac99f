#pragma once

#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "daemon/queue/estimate.hpp"
#include "daemon/queue/usage.hpp"
#include "proto/frame.hpp"
#include "proto/items.hpp"

namespace taskpool::queue {

/// Counts the bytes that blocks of one session hold; shared, because blocks may outlive the session.
struct Quota {
  std::uint64_t bytes = 0;
  UsagePtr user{};  ///< Whose session it is: counts them as well. May be null.
  std::uint32_t references = 0;

  void add(std::uint64_t more) {
    bytes += more;
    if (user) user->queued_bytes += more;
  }
  void take(std::uint64_t less) {
    bytes -= less;
    if (user) user->queued_bytes -= less;
  }
};
inline void intrusive_ptr_add_ref(Quota* quota) { ++quota->references; }
inline void intrusive_ptr_release(Quota* quota) {
  if (--quota->references == 0) delete quota;
}
using QuotaPtr = boost::intrusive_ptr<Quota>;

class Block;
void intrusive_ptr_add_ref(const Block* block);
void intrusive_ptr_release(const Block* block);
using BlockPtr = boost::intrusive_ptr<const Block>;

/// The items of one `apply`, `map` or `input` frame as they arrived, one allocation with its bytes behind it.
/// Immutable; freed when the last range of it is gone. Not thread-safe: the supervisor has one thread.
class Block {
 public:
  /// Copies `body`, which check_items() has passed. `first` is the index in the job of the first item, `arrived` the
  /// turn's time.
  static BlockPtr make(std::uint8_t flags, Encoding encoding, std::uint32_t first, std::uint32_t count,
                       std::span<const std::byte> body, TimePoint arrived = {});
  /// The block of one item that came alone, as `apply` sends it.
  static BlockPtr make_single(std::uint8_t flags, Encoding encoding, std::uint32_t elements,
                              std::span<const std::byte> item, TimePoint arrived = {});

  bool in_arena() const { return in_arena_; }
  /// One item, whose array encoding does not make it many.
  bool is_single() const { return single_; }
  Encoding encoding() const { return encoding_; }
  std::uint32_t first() const { return first_; }
  /// Items; for a single array 1.
  std::uint32_t count() const { return single_ ? 1 : count_; }
  /// When its frame was read.
  TimePoint arrived() const { return arrived_; }
  /// Elements of a single array, else count().
  std::uint32_t elements() const { return count_; }
  /// True if items have no lengths of their own: numbers of an array.
  bool is_numbers() const { return is_array(encoding_) && !single_; }
  /// True if the body begins with a table of lengths.
  bool is_packed() const { return !in_arena_ && !single_ && !is_array(encoding_); }
  std::span<const std::byte> bytes() const { return {data(), size_}; }
  /// Bytes that this holds in memory: what quotas count. Arenas have bounds of their own.
  std::uint64_t quota_bytes() const { return sizeof(Block) + size_; }
  /// Counts quota_bytes() in `quota` for as long as this lives. Once at most.
  void count_in(const QuotaPtr& quota) const;

 private:
  friend void intrusive_ptr_add_ref(const Block* block);
  friend void intrusive_ptr_release(const Block* block);
  Block() = default;
  static Block* allocate(std::size_t bytes);
  std::byte* data() { return reinterpret_cast<std::byte*>(this + 1); }
  const std::byte* data() const { return reinterpret_cast<const std::byte*>(this + 1); }

  mutable QuotaPtr quota_;
  TimePoint arrived_{};
  mutable std::uint32_t references_ = 0;
  std::uint32_t size_ = 0;
  std::uint32_t first_ = 0;
  std::uint32_t count_ = 0;
  Encoding encoding_ = Encoding::none;
  bool in_arena_ = false;
  bool single_ = false;
};

/// Consecutive items of one block that share their history.
struct Range {
  BlockPtr block;
  std::uint32_t index = 0;  ///< Of the first item, in the job.
  std::uint32_t count = 0;
  std::uint32_t offset = 0;  ///< In a packed body: where the first item's bytes begin.
  // Runs that came before the next one, by how they ended; each at most kMaxRetries.
  std::uint32_t attempt : 11 = 0;        ///< In an error of the task's own.
  std::uint32_t deaths : 5 = 0;          ///< With the worker, but for:
  std::uint32_t zygote_deaths : 5 = 0;   ///< Its zygote died.
  std::uint32_t memory_deaths : 11 = 0;  ///< Memory ran out.

  std::uint32_t runs() const { return std::uint32_t{attempt} + deaths + zygote_deaths + memory_deaths; }

  static Range whole(BlockPtr block);
  /// Splits off the front: at most `most` items (at least 1), fewer if their bytes would pass `max_bytes` (but one).
  Range take_front(std::uint32_t most, std::size_t max_bytes);
  /// Drops the first `items` items.
  void drop_front(std::uint32_t items);
  /// The bytes of this range as a body has them: a table (or nothing), and what follows it. References into an array
  /// are computed into `scratch`.
  std::pair<std::span<const std::byte>, std::span<const std::byte>> body(ArenaRef& scratch) const;
  /// The count that goes into a frame: items, or the elements of a single array.
  std::uint32_t frame_count() const { return block->is_single() ? block->elements() : count; }

 private:
  std::size_t packed_bytes(std::uint32_t items) const;
};

}  // namespace taskpool::queue
