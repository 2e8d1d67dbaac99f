#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>
#include <utility>
#include <vector>

namespace taskpool::client {

/// A set of indices, kept as ranges: cheap while the indices come and go in runs, as a job's items do.
class Intervals {
 public:
  bool empty() const { return ranges_.empty(); }
  /// Adds [first, end), which must lie behind all that was ever added.
  void append(std::uint64_t first, std::uint64_t end) {
    if (first == end) return;
    if (!ranges_.empty() && std::prev(ranges_.end())->second == first) {
      std::prev(ranges_.end())->second = end;
    } else {
      ranges_.emplace_hint(ranges_.end(), first, end);
    }
  }
  /// Takes [first, end) out. False, and nothing done, unless the whole of it is in one run of the set.
  bool remove(std::uint64_t first, std::uint64_t end) {
    auto range = ranges_.upper_bound(first);
    if (first >= end || range == ranges_.begin()) return false;
    --range;
    const auto [begin, stop] = *range;
    if (end > stop) return false;
    if (begin == first) {
      range = ranges_.erase(range);
    } else {
      range->second = first;
      ++range;
    }
    if (end < stop) ranges_.emplace_hint(range, end, stop);
    return true;
  }
  /// The parts of [first, end) that are in the set, ascending.
  std::vector<std::pair<std::uint64_t, std::uint64_t>> within(std::uint64_t first, std::uint64_t end) const {
    std::vector<std::pair<std::uint64_t, std::uint64_t>> parts;
    auto range = ranges_.upper_bound(first);
    if (range != ranges_.begin()) --range;
    for (; range != ranges_.end() && range->first < end; ++range)
      if (range->second > first) parts.emplace_back(std::max(range->first, first), std::min(range->second, end));
    return parts;
  }
  /// The runs, ascending: first to end.
  const std::map<std::uint64_t, std::uint64_t>& ranges() const { return ranges_; }

 private:
  std::map<std::uint64_t, std::uint64_t> ranges_;
};

}  // namespace taskpool::client
