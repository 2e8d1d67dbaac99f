#pragma once

#include <cstdint>
#include <optional>

#include "proto/items.hpp"
#include "proto/result.hpp"

namespace taskpool::pool {

/// One segment of a session's arenas, for a worker to map.
struct SegmentView {
  int fd = -1;  ///< Borrowed.
  std::uint64_t bytes = 0;
};

/// The arenas of the sessions, as the pool needs them. Session 0 is the daemon itself, for detached tasks.
class ArenaSource {
 public:
  virtual ~ArenaSource() = default;
  /// Space for a result in the session's down arena. Errors: `out_of_space`, `cancelled` (the session is gone).
  virtual Result<ArenaRef> allocate(std::uint32_t session, std::uint64_t bytes) = 0;
  /// Takes back what a worker did not fill.
  virtual void release(std::uint32_t session, const ArenaRef& region) = 0;
  virtual std::optional<SegmentView> find_segment(std::uint32_t session, bool down, std::uint64_t segment) = 0;
  /// Whether workers run as the session's user, and so may look at its memory in place.
  virtual bool is_same_uid(std::uint32_t session) = 0;
};

}  // namespace taskpool::pool
