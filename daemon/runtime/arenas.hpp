#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>

#include "daemon/os/memory.hpp"
#include "proto/items.hpp"
#include "proto/message.hpp"
#include "proto/result.hpp"

namespace taskpool::runtime {

/// The arena segments that the supervisor has attached to a worker.
class Arenas {
 public:
  /// Maps a segment: for reading if it is up, for writing too if it is down. Errors: `bad_message` if it is not sealed
  /// or smaller than it says; the operating system's.
  Result<void> attach(const Attach& segment, os::UniqueFd fd);
  /// Unmaps what a session had.
  void detach(std::uint32_t session);

  struct Region {
    std::span<const std::byte> bytes;
    bool same_uid = false;  ///< Otherwise its owner is not trusted: copy before parsing, as it may change under us.
  };
  /// What a reference into the session's up arena names; an empty one names nothing. Error: `bad_message` if it is not
  /// inside an attached segment.
  Result<Region> view(std::uint32_t session, const ArenaRef& ref) const;
  /// The bytes of a region of the down arena. Error: as view().
  Result<std::span<std::byte>> room(std::uint32_t session, const ArenaRef& ref) const;

 private:
  struct Key {
    std::uint32_t session = 0;
    bool down = false;
    std::uint64_t segment = 0;
    auto operator<=>(const Key&) const = default;
  };
  struct Segment {
    os::SharedMemory memory;
    bool same_uid = false;
  };
  Result<const Segment*> find(const Key& key, const ArenaRef& ref) const;

  std::map<Key, Segment> segments_;
};

}  // namespace taskpool::runtime
