#include "proto/arena_space.hpp"

#include <algorithm>
#include <cassert>
#include <iterator>

#include "proto/limits.hpp"

namespace taskpool {

void ArenaSpace::add(std::uint32_t segment, std::uint64_t bytes) {
  const auto whole = bytes / kArenaAlignment * kArenaAlignment;
  segments_.push_back({segment, {}});
  if (whole > 0) segments_.back().gaps.emplace(0, whole);
  total_bytes_ += whole;
}

std::optional<ArenaRef> ArenaSpace::allocate(std::uint64_t bytes) {
  if (bytes > kMaxSegmentBytes) return std::nullopt;
  const auto want = std::max<std::uint64_t>((bytes + kArenaAlignment - 1) / kArenaAlignment, 1) * kArenaAlignment;
  for (auto& segment : segments_) {
    const auto gap =
        std::find_if(segment.gaps.begin(), segment.gaps.end(), [&](const auto& each) { return each.second >= want; });
    if (gap == segment.gaps.end()) continue;
    const auto [offset, size] = *gap;
    const auto next = segment.gaps.erase(gap);
    if (size > want) segment.gaps.emplace_hint(next, offset + want, size - want);
    used_bytes_ += want;
    return ArenaRef{segment.number, offset, want};
  }
  return std::nullopt;
}

void ArenaSpace::free(const ArenaRef& place) {
  const auto segment =
      std::find_if(segments_.begin(), segments_.end(), [&](const auto& each) { return each.number == place.segment; });
  assert(segment != segments_.end());
  auto& gaps = segment->gaps;
  auto [gap, added] = gaps.emplace(place.offset, place.bytes);
  assert(added);
  used_bytes_ -= place.bytes;
  if (const auto next = std::next(gap); next != gaps.end() && gap->first + gap->second == next->first) {
    gap->second += next->second;
    gaps.erase(next);
  }
  if (gap == gaps.begin()) return;
  if (const auto before = std::prev(gap); before->first + before->second == gap->first) {
    before->second += gap->second;
    gaps.erase(gap);
  }
}

}  // namespace taskpool
