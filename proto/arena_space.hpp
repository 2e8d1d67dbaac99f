#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "proto/items.hpp"

namespace taskpool {

/// Hands out the space of an arena's segments; knows nothing of memory. The lowest free place comes first, so that
/// memory that has been touched is used again: first touch costs more than the copy. The client keeps one for the up
/// arena, the supervisor one for the down arena.
class ArenaSpace {
 public:
  /// A new segment of `bytes`, all free.
  void add(std::uint32_t segment, std::uint64_t bytes);
  /// A place of at least `bytes` (at least 1), its size rounded up to the alignment, or nothing where no gap is large
  /// enough.
  std::optional<ArenaRef> allocate(std::uint64_t bytes);
  /// Gives back what allocate() returned.
  void free(const ArenaRef& place);
  /// Bytes of all segments.
  std::uint64_t total_bytes() const { return total_bytes_; }
  std::uint64_t used_bytes() const { return used_bytes_; }

 private:
  struct Segment {
    std::uint32_t number;
    std::map<std::uint64_t, std::uint64_t> gaps;  ///< Offset to bytes; neighbours are joined.
  };
  std::vector<Segment> segments_;
  std::uint64_t total_bytes_ = 0;
  std::uint64_t used_bytes_ = 0;
};

}  // namespace taskpool
