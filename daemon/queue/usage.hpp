#pragma once

#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <cstdint>
#include <limits>

namespace taskpool::queue {

inline constexpr std::uint64_t kNoLimit = std::numeric_limits<std::uint64_t>::max();

/// What one user has of the daemon now, over all his sessions and all pools. Counted by whoever holds it: what waits by
/// the queues, bytes by the blocks, slots by the workers; so it outlives his sessions.
struct Usage {
  std::uint32_t uid = 0;
  std::uint32_t sessions = 0;
  std::uint64_t queued_tasks = 0;
  std::uint64_t queued_bytes = 0;
  std::uint64_t slots = 0;  ///< Workers that hold tasks of his.
  std::uint64_t most_slots = kNoLimit;
  std::uint32_t references = 0;

  /// No further worker may be given tasks of his.
  bool takes_no_more() const { return slots >= most_slots; }
};
inline void intrusive_ptr_add_ref(Usage* usage) { ++usage->references; }
inline void intrusive_ptr_release(Usage* usage) {
  if (--usage->references == 0) delete usage;
}
using UsagePtr = boost::intrusive_ptr<Usage>;

}  // namespace taskpool::queue
