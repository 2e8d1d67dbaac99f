#pragma once

#include <chrono>

namespace taskpool::client {

/// Decides whether a wait may spin before it blocks: only while spinning has been succeeding, else once in
/// kRetryEvery waits. Where processes share a CPU, spinning makes a round trip ten times slower; where they do not, it
/// spares the wake-up, which is most of it (tests/bench/RESULTS.md).
class SpinPolicy {
 public:
  static constexpr std::chrono::microseconds kLongest{60};
  static constexpr unsigned kRetryEvery = 512;
  /// Failures in a row until it gives up.
  static constexpr unsigned kPatience = 4;

  /// At the start of a wait.
  bool should_spin() {
    if (failures_ < kPatience) return true;
    if (++waits_ < kRetryEvery) return false;
    waits_ = 0;
    return true;
  }
  /// After a spin: whether what it waited for came.
  void spun(bool success) {
    if (success) {
      failures_ = 0;
    } else if (failures_ < kPatience) {
      ++failures_;
    }
  }

 private:
  unsigned failures_ = 0;
  unsigned waits_ = 0;
};

}  // namespace taskpool::client
