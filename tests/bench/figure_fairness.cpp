#include <atomic>
#include <numeric>
#include <optional>
#include <thread>

#include "tests/bench/daemon.hpp"
#include "tests/bench/figures.hpp"

namespace taskpool::bench {
namespace {

constexpr std::size_t kSessions = 7;
constexpr std::size_t kApplies = 1'000;
/// What a worker may hold when an apply arrives: the most that the supervisor hands out ahead while several sessions
/// have work. Microseconds; ARCHITECTURE.md, "Scheduling".
constexpr double kClaimedChunkUs = 500;

/// The 99th percentile of the applies of seven sessions at once, in microseconds.
double p99_of_applies(const Daemon& daemon) {
  std::vector<std::vector<double>> times(kSessions);
  std::atomic<bool> failed = false;
  std::vector<std::thread> sessions;
  for (auto& own : times) {
    sessions.emplace_back([&daemon, &own, &failed] {
      const auto client = daemon.connect();
      const auto call = client.pool().prepare("bench_noop");
      const std::byte body[64]{};
      for (std::size_t i = 0; i < kApplies; ++i) {
        const auto begun = Clock::now();
        if (!call.apply(body)) failed = true;
        own.push_back(seconds_since(begun) * 1e6);
      }
    });
  }
  for (auto& session : sessions) session.join();
  if (failed) throw std::runtime_error("an apply failed");
  std::vector<double> all;
  for (const auto& own : times) all.insert(all.end(), own.begin(), own.end());
  return percentile(std::move(all), 0.99);
}

/// The same while an eighth session maps a million integers again and again.
double p99_beside_a_map(const Daemon& daemon) {
  std::atomic<bool> stop = false;
  std::atomic<bool> running = false;
  std::thread mapper{[&] {
    const auto client = daemon.connect();
    std::vector<std::int64_t> inputs(1'000'000);
    std::iota(inputs.begin(), inputs.end(), 0);
    MapOptions options;
    options.force_json = true;
    while (!stop) {
      auto map = client.pool().map_async<std::int64_t>("square", inputs, options);
      running = true;
      (void)map.get();  // whether it succeeds is another figure's matter
    }
  }};
  while (!running) std::this_thread::yield();
  std::optional<double> p99;
  try {
    p99 = p99_of_applies(daemon);
  } catch (const std::exception&) {
    stop = true;
    mapper.join();
    throw;
  }
  stop = true;
  mapper.join();
  return *p99;
}

}  // namespace

void fairness(Report& report) {
  const Placed placed{Placement::free};
  const Daemon daemon;
  p99_of_applies(daemon);
  const auto [beside, alone] =
      measure_in_turns([&] { return p99_beside_a_map(daemon); }, [&] { return p99_of_applies(daemon); });
  report.add({"fairness_p99", beside, "us", "without the map", alone, at_most(5 * alone + kClaimedChunkUs)});
}

}  // namespace taskpool::bench
