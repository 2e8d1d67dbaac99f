#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace taskpool::cli {

/// How far a map has come.
struct Counts {
  std::uint64_t done = 0;  ///< Tasks that ended, failed ones included.
  std::uint64_t failed = 0;
  std::optional<std::uint64_t> total;  ///< Unknown while the input is still being read.
};

/// Smooths the rate of a map. It has no clock of its own.
class RateEstimate {
 public:
  using Time = std::chrono::steady_clock::time_point;

  explicit RateEstimate(Time start) : last_{start} {}
  /// Takes note that `done` tasks had ended at `now`.
  void update(Time now, std::uint64_t done);
  /// Tasks a second, weighted towards the last few seconds; 0 before the first of them.
  double per_second() const { return rate_; }
  /// How long the rest takes at this rate; nothing if the total or the rate is unknown.
  std::optional<std::chrono::milliseconds> remaining(const Counts& counts) const;

 private:
  Time last_;
  std::uint64_t last_done_ = 0;
  double rate_ = 0;
  bool has_rate_ = false;
};

/// The line for a terminal of `width` columns, at most that wide: "[####    ] 512/1000 51%  240/s  2.0s left  3
/// failed", or without a total "512 done  240/s  3 failed". What does not fit is left out, the bar first.
std::string progress_line(const Counts& counts, const RateEstimate& rate, std::size_t width);

/// Shows a progress line on a terminal and takes it away again.
class ProgressBar {
 public:
  /// Draws on `fd`; does nothing at all unless `enabled`.
  ProgressBar(int fd, bool enabled);
  ~ProgressBar() { clear(); }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  bool enabled() const { return enabled_; }
  /// Draws, at most ten times a second and not in the first tenth, so that short work shows nothing.
  void update(const Counts& counts);
  /// Takes the line away, to let something else be written; a later update() draws it again.
  void clear();

 private:
  int fd_;
  bool enabled_;
  bool drawn_ = false;
  RateEstimate rate_;
  RateEstimate::Time next_{};
};

}  // namespace taskpool::cli
