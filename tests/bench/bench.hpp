#pragma once

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

/// What every benchmark shares: how often to measure, where processes may run, and how a figure is reported.
namespace taskpool::bench {

using Clock = std::chrono::steady_clock;

inline double seconds_since(Clock::time_point begun) {
  return std::chrono::duration<double>(Clock::now() - begun).count();
}

/// How often each figure is measured; the median is reported.
inline constexpr int kRounds = 5;

double median(std::vector<double> values);
/// The value that `share` of the values are not above: 0.5, 0.99.
double percentile(std::vector<double> values, double share);

/// Where processes may run. A figure and what stands beside it always share a placement: a wake-up costs ten times more
/// across CPUs than on one.
enum class Placement {
  same,  ///< All on one CPU.
  free,  ///< Wherever the scheduler likes.
};
/// Places this process and everything that it starts from now on, for the lifetime of the object.
class Placed {
 public:
  explicit Placed(Placement placement);
  ~Placed();
  Placed(const Placed&) = delete;
  Placed& operator=(const Placed&) = delete;
};

/// What a figure should be. `bound` is in the figure's unit, or a factor of the reference.
struct Goal {
  enum class Kind { at_most, at_least, at_most_times, at_least_times };
  Kind kind = Kind::at_most;
  double bound = 0;
};
inline Goal at_most(double bound) { return {Goal::Kind::at_most, bound}; }
inline Goal at_least(double bound) { return {Goal::Kind::at_least, bound}; }
inline Goal at_most_times(double factor) { return {Goal::Kind::at_most_times, factor}; }
inline Goal at_least_times(double factor) { return {Goal::Kind::at_least_times, factor}; }

/// One measured figure.
struct Row {
  std::string figure;
  double value = 0;
  std::string unit;
  std::string reference{};     ///< What it stands beside; empty: nothing but its goal.
  double reference_value = 0;  ///< In the same unit.
  Goal goal;
};
bool is_met(const Row& row);
/// "<= 1.35 x reference", ">= 1000000".
std::string to_text(const Goal& goal);

/// Prints rows as they come: a table for people, or one JSON object a line.
class Report {
 public:
  /// `only`: the measures that are wanted of a figure that has many; all if there are none.
  Report(bool json, std::vector<std::string> only) : json_{json}, only_{std::move(only)} {}
  bool wants(const std::string& measure) const {
    return only_.empty() || std::find(only_.begin(), only_.end(), measure) != only_.end();
  }
  void add(const Row& row);
  /// Says why a figure has no value.
  void fail(const std::string& figure, const std::string& why);
  int missed() const { return missed_; }
  int failed() const { return failed_; }

 private:
  bool json_;
  std::vector<std::string> only_;
  bool header_printed_ = false;
  int missed_ = 0;
  int failed_ = 0;
};

/// Medians of two measurements that were taken in turns.
struct Pair {
  double ours = 0;
  double reference = 0;
};
Pair measure_in_turns(const std::function<double()>& ours, const std::function<double()>& reference,
                      int rounds = kRounds);
/// The median of several measurements.
double measure(const std::function<double()>& once, int rounds = kRounds);

}  // namespace taskpool::bench
