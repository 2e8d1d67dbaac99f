#include "tests/bench/bench.hpp"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace taskpool::bench {
namespace {

cpu_set_t allowed_cpus() {
  static const cpu_set_t at_start = [] {
    cpu_set_t cpus;
    if (::sched_getaffinity(0, sizeof cpus, &cpus) != 0) throw std::runtime_error("sched_getaffinity failed");
    return cpus;
  }();
  return at_start;
}

void set_cpus(const cpu_set_t& cpus) {
  if (::sched_setaffinity(0, sizeof cpus, &cpus) != 0) throw std::runtime_error("sched_setaffinity failed");
}

/// Three significant digits, or a whole number.
std::string number(double value) {
  const double size = std::abs(value);
  if (size >= 1000) return fmt::format("{:.0f}", value);
  if (size >= 100) return fmt::format("{:.0f}", value);
  if (size >= 10) return fmt::format("{:.1f}", value);
  return fmt::format("{:.3g}", value);
}

}  // namespace

double median(std::vector<double> values) { return percentile(std::move(values), 0.5); }

double percentile(std::vector<double> values, double share) {
  if (values.empty()) throw std::runtime_error("nothing was measured");
  const auto last = static_cast<double>(values.size() - 1);
  const auto index = static_cast<std::ptrdiff_t>(std::ceil(share * last));
  std::nth_element(values.begin(), values.begin() + index, values.end());
  return values[static_cast<std::size_t>(index)];
}

Placed::Placed(Placement placement) {
  auto cpus = allowed_cpus();
  if (placement == Placement::same) {
    int first = 0;
    while (!CPU_ISSET(first, &cpus)) ++first;
    CPU_ZERO(&cpus);
    CPU_SET(first, &cpus);
  }
  set_cpus(cpus);
}

Placed::~Placed() {
  const auto cpus = allowed_cpus();
  ::sched_setaffinity(0, sizeof cpus, &cpus);
}

bool is_met(const Row& row) {
  switch (row.goal.kind) {
    case Goal::Kind::at_most: return row.value <= row.goal.bound;
    case Goal::Kind::at_least: return row.value >= row.goal.bound;
    case Goal::Kind::at_most_times: return row.value <= row.goal.bound * row.reference_value;
    case Goal::Kind::at_least_times: return row.value >= row.goal.bound * row.reference_value;
  }
  return false;
}

std::string to_text(const Goal& goal) {
  switch (goal.kind) {
    case Goal::Kind::at_most: return "<= " + number(goal.bound);
    case Goal::Kind::at_least: return ">= " + number(goal.bound);
    case Goal::Kind::at_most_times: return "<= " + number(goal.bound) + " x reference";
    case Goal::Kind::at_least_times: return ">= " + number(goal.bound) + " x reference";
  }
  return "";
}

void Report::add(const Row& row) {
  const bool met = is_met(row);
  if (!met) ++missed_;
  if (json_) {
    nlohmann::ordered_json json{{"figure", row.figure}, {"value", row.value}, {"unit", row.unit}};
    json["reference"] = row.reference.empty() ? nlohmann::ordered_json{} : nlohmann::ordered_json(row.reference);
    json["reference_value"] =
        row.reference.empty() ? nlohmann::ordered_json{} : nlohmann::ordered_json(row.reference_value);
    json["goal"] = to_text(row.goal);
    json["met"] = met;
    fmt::print("{}\n", json.dump());
  } else {
    if (!header_printed_)
      fmt::print("{:<24} {:>11} {:<8} {:>11}  {:<28} {:<19} {}\n", "figure", "value", "unit", "reference", "", "goal",
                 "met");
    header_printed_ = true;
    const auto reference = row.reference.empty() ? std::string{"-"} : number(row.reference_value);
    fmt::print("{:<24} {:>11} {:<8} {:>11}  {:<28} {:<19} {}\n", row.figure, number(row.value), row.unit, reference,
               row.reference, to_text(row.goal), met ? "yes" : "NO");
  }
  std::fflush(stdout);
}

void Report::fail(const std::string& figure, const std::string& why) {
  ++failed_;
  fmt::print(stderr, "{}: {}\n", figure, why);
}

Pair measure_in_turns(const std::function<double()>& ours, const std::function<double()>& reference, int rounds) {
  std::vector<double> our_values;
  std::vector<double> reference_values;
  for (int round = 0; round < rounds; ++round) {
    reference_values.push_back(reference());
    our_values.push_back(ours());
  }
  return {median(our_values), median(reference_values)};
}

double measure(const std::function<double()>& once, int rounds) {
  std::vector<double> values;
  for (int round = 0; round < rounds; ++round) values.push_back(once());
  return median(values);
}

}  // namespace taskpool::bench
