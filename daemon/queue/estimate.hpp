#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace taskpool::queue {

using Nanoseconds = std::chrono::nanoseconds;
using TimePoint = std::chrono::steady_clock::time_point;

/// The measured run time of one item: a moving average over what finished lately.
class Estimate {
 public:
  /// What an item is taken to cost before anything is known.
  static constexpr Nanoseconds kUnknown{100'000};

  void add(Nanoseconds total, std::uint64_t items) {
    if (items == 0) return;
    const auto sample = static_cast<double>(total.count()) / static_cast<double>(items);
    // A large sample counts for more: after 64 items the past hardly matters.
    const double weight = known_ ? std::min(0.5, 0.1 + static_cast<double>(items) / 128.0) : 1.0;
    average_ += weight * (sample - average_);
    known_ = true;
  }
  bool known() const { return known_; }
  Nanoseconds per_item() const { return known_ ? Nanoseconds{static_cast<std::int64_t>(average_) + 1} : kUnknown; }

 private:
  double average_ = 0;
  bool known_ = false;
};

}  // namespace taskpool::queue
