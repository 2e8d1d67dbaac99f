#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace taskpool::runtime {

/// How many items of one function a worker claims at once: one while they are slow, so that the supervisor can take the
/// others back, and a block of them while claiming would cost more than they do.
class Pace {
 public:
  static constexpr std::chrono::nanoseconds kShort{10'000};  ///< A block below this may be doubled.
  static constexpr std::chrono::nanoseconds kLong{50'000};   ///< A block above this was a mistake.

  /// Items of the next block, at most `most`.
  std::uint32_t block(std::uint32_t most) const { return std::min(block_, most); }
  /// Tells how long a block of `items` items took.
  void ran(std::uint32_t items, std::chrono::nanoseconds took) {
    if (took > kLong)
      block_ = 1;
    else if (took < kShort && items >= block_)
      block_ = std::min(block_ * 2, kMost);
  }

 private:
  static constexpr std::uint32_t kMost = 1u << 16;
  std::uint32_t block_ = 1;
};

}  // namespace taskpool::runtime
