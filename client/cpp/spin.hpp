#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <optional>

namespace taskpool::client {

/// One wait that looks again and again whether something has come, instead of sleeping.
class Spin {
 public:
  using Time = std::chrono::steady_clock::time_point;
  static constexpr std::chrono::microseconds kLongest{60};
  /// What a look takes at most, besides a nanosecond for each byte that came. After more than that somebody else has
  /// had the CPU: spinning kept him from it.
  static constexpr std::chrono::microseconds kLook{5};

  explicit Spin(Time now) : last_{now}, end_{now + kLongest} {}
  /// After a look that found so many bytes: whether to look again.
  bool looked(Time now, std::size_t bytes) {
    ++looks_;
    was_away_ = now - last_ > kLook + std::chrono::nanoseconds{bytes};
    found_ = bytes != 0;
    last_ = now;
    return !found_ && !was_away_ && now < end_;
  }
  /// Whether it found something on a CPU that nobody else wanted; nothing: it was there already, so that no wait was
  /// spared.
  std::optional<bool> has_paid() const {
    if (looks_ == 1 && found_) return std::nullopt;
    return found_ && !was_away_;
  }

 private:
  Time last_;
  Time end_;
  std::size_t looks_ = 0;
  bool found_ = false;
  bool was_away_ = false;
};

/// Decides whether a wait may spin before it sleeps: only while spinning pays. Where processes share a CPU, spinning
/// makes a round trip ten times slower, or the slowest of many; where they do not, it spares the wake-up, which is most
/// of it (tests/bench/RESULTS.md). A session begins with long answers, so that it may have given up before the first
/// short one: it tries again soon, and each time that this was a mistake much less soon.
class SpinPolicy {
 public:
  /// Spins in a row that do not pay until it gives up.
  static constexpr unsigned kPatience = 4;
  /// Waits from one try to the next when it has given up for the first time; so many times more whenever it gives up
  /// again, or a try fails,
  static constexpr unsigned kFirstPause = 8;
  static constexpr unsigned kLonger = 8;
  static constexpr unsigned kLongestPause = 512;
  /// until so many have paid since it gave up last.
  static constexpr unsigned kTrust = 512;

  /// At the start of a wait.
  bool should_spin() {
    if (failures_ < kPatience) return true;
    if (++waits_ < pause_) return false;
    waits_ = 0;
    return true;
  }
  /// After a spin: whether it has paid.
  void spun(bool has_paid) {
    if (has_paid) {
      failures_ = 0;
      if (++paid_ >= kTrust) pause_ = 0;
      return;
    }
    if (failures_ < kPatience && ++failures_ < kPatience) return;
    pause_ = pause_ == 0 ? kFirstPause : std::min(kLonger * pause_, kLongestPause);
    paid_ = 0;
  }

 private:
  unsigned failures_ = 0;  ///< In a row; kPatience: it has given up.
  unsigned paid_ = 0;      ///< Spins since it gave up last.
  unsigned pause_ = 0;     ///< Waits from one try to the next; 0: it has not given up yet.
  unsigned waits_ = 0;
};

}  // namespace taskpool::client
