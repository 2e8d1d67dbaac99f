#include <array>
#include <deque>
#include <stdexcept>

#include "tests/bench/daemon.hpp"
#include "tests/bench/figures.hpp"
#include "tests/bench/peers.hpp"
#include "tests/bench/relay.hpp"

namespace taskpool::bench {
namespace {

constexpr std::size_t kBodyBytes = 64;
constexpr std::size_t kRoundTrips = 20'000;

std::span<const std::byte> body() {
  static const std::array<std::byte, kBodyBytes> bytes{};
  return bytes;
}

/// Microseconds of each of many applies, one after the other.
std::vector<double> round_trips(const PreparedCall& call, std::size_t count) {
  std::vector<double> times;
  times.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    const auto begun = Clock::now();
    const auto result = call.apply(body());
    times.push_back(seconds_since(begun) * 1e6);
    if (!result) throw std::runtime_error(result.error().detail);
    if (result->bytes().size() != kBodyBytes) throw std::runtime_error("noop returned something else");
  }
  return times;
}

/// Tasks per second with `window` of them under way.
double pipelined(const PreparedCall& call, std::size_t tasks, std::size_t window) {
  std::deque<RawFuture> under_way;
  const auto begun = Clock::now();
  for (std::size_t sent = 0; sent < tasks || !under_way.empty();) {
    // Taking what has come and sending anew in blocks, as a program that cares for speed does.
    while (sent < tasks && under_way.size() < window) {
      under_way.push_back(call.apply_async(Item::raw(body())));
      ++sent;
    }
    do {
      const auto result = under_way.front().get();
      if (!result) throw std::runtime_error(result.error().detail);
      under_way.pop_front();
    } while (!under_way.empty() && under_way.front().ready());
  }
  return static_cast<double>(tasks) / seconds_since(begun);
}

}  // namespace

void apply_same(Report& report) {
  const Placed placed{Placement::same};
  const Daemon daemon{{.workers = 1}};
  const auto call = daemon.connect().pool().prepare("bench_noop");
  round_trips(call, kRoundTrips / 4);
  const auto [ours, floor] = measure_in_turns([&] { return median(round_trips(call, kRoundTrips)); },
                                              [] { return median(relay_round_trips(kRoundTrips)); });
  report.add({"apply_same_p50", ours, "us", "bare epoll relay", floor, at_most_times(1.35)});
}

void apply_free(Report& report) {
  const Placed placed{Placement::free};
  const Daemon daemon;
  const auto call = daemon.connect().pool().prepare("bench_noop");
  round_trips(call, kRoundTrips / 4);
  std::vector<double> ours_p50;
  std::vector<double> ours_p99;
  std::vector<double> relay_p50;
  std::vector<double> pool_p99;
  for (int round = 0; round < kRounds; ++round) {
    relay_p50.push_back(median(relay_round_trips(kRoundTrips)));
    pool_p99.push_back(pool_apply(kRoundTrips / 4).p99_us);
    const auto times = round_trips(call, kRoundTrips);
    ours_p50.push_back(median(times));
    ours_p99.push_back(percentile(times, 0.99));
  }
  report.add({"apply_free_p50", median(ours_p50), "us", "blocking relay", median(relay_p50), at_most_times(0.7)});
  report.add(
      {"apply_free_p99", median(ours_p99), "us", "multiprocessing Pool.apply", median(pool_p99), at_most_times(0.2)});
}

void apply_async(Report& report) {
  constexpr std::size_t kWindow = 1024;
  constexpr std::size_t kTasks = 1'000'000;
  const Placed placed{Placement::free};
  const Daemon daemon;
  const auto call = daemon.connect().pool().prepare("bench_noop");
  pipelined(call, kTasks / 10, kWindow);
  std::vector<double> ours;
  std::vector<double> relay;
  std::vector<double> pool;
  std::vector<double> beanstalkd;
  for (int round = 0; round < kRounds; ++round) {
    relay.push_back(relay_throughput(kWindow, 2, 4 * kTasks));
    pool.push_back(pool_apply_async(20'000));
    if (const auto rate = beanstalkd_throughput(kTasks / 10)) beanstalkd.push_back(*rate);
    ours.push_back(pipelined(call, kTasks, kWindow));
  }
  const double value = median(ours);
  report.add({"apply_async", value, "tasks/s", "bare epoll relay", median(relay), at_least(1'000'000)});
  report.add({"apply_async_stretch", value, "tasks/s", "bare epoll relay", median(relay), at_least_times(0.25)});
  report.add({"apply_async_pool", value, "tasks/s", "multiprocessing apply_async", median(pool), at_least_times(10)});
  if (!beanstalkd.empty())
    report.add(
        {"apply_async_beanstalkd", value, "tasks/s", "beanstalkd end to end", median(beanstalkd), at_least_times(10)});
}

}  // namespace taskpool::bench
