#pragma once

#include <chrono>
#include <optional>

namespace taskpool {

/// How much of something long is done in one turn of the event loop, so that the others' turn comes: so many steps of
/// some microseconds as fit into a time.
class TimeSlice {
 public:
  static constexpr std::chrono::microseconds kTime{250};
  /// Few steps need no look at the clock.
  static constexpr unsigned kStepsPerLook = 16;

  /// Before each step: whether there is time for it. Once there is none, there is none.
  bool has_time() {
    if (is_over_ || ++steps_ % kStepsPerLook != 0) return !is_over_;
    const auto now = std::chrono::steady_clock::now();
    if (!end_) end_ = now + kTime;
    is_over_ = now >= *end_;
    return !is_over_;
  }

 private:
  unsigned steps_ = 0;
  std::optional<std::chrono::steady_clock::time_point> end_;  ///< Counted from the first look.
  bool is_over_ = false;
};

}  // namespace taskpool
