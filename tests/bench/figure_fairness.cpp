#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
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

/// Processes that do nothing but compute, for as long as it lives.
class BusyProcesses {
 public:
  explicit BusyProcesses(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      const pid_t pid = ::fork();
      if (pid == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (volatile std::uint64_t turns = 0;;) turns = turns + 1;
      }
      if (pid > 0) pids_.push_back(pid);
    }
  }
  ~BusyProcesses() {
    for (const pid_t pid : pids_) {
      ::kill(pid, SIGKILL);
      ::waitpid(pid, nullptr, 0);
    }
  }
  BusyProcesses(const BusyProcesses&) = delete;
  BusyProcesses& operator=(const BusyProcesses&) = delete;

 private:
  std::vector<pid_t> pids_;
};

/// What the kernel alone makes of it: as many processes compute as the map keeps busy, two workers and the program that
/// maps. How long, in microseconds, is somebody kept waiting for a given one of them, one time in a hundred?
double p99_of_waiting_for_a_busy_process() {
  const BusyProcesses others{2};
  constexpr double kSeconds = 2;
  constexpr double kRunningUs = 20;  // what lies between two readings of the clock otherwise
  std::vector<double> gaps;
  const auto begun = Clock::now();
  for (auto last = begun; seconds_since(begun) < kSeconds;) {
    const auto now = Clock::now();
    const double us = std::chrono::duration<double, std::micro>(now - last).count();
    if (us > kRunningUs) gaps.push_back(us);
    last = now;
  }
  // Who comes at a random moment waits longer than `wait` with this probability.
  const auto exceeds = [&](double wait) {
    double total = 0;
    for (const double gap : gaps) total += std::max(0.0, gap - wait);
    return total / (kSeconds * 1e6);
  };
  double wait = 0;
  while (exceeds(wait) > 0.01) wait += 10;
  return wait;
}

}  // namespace

void fairness(Report& report) {
  const Placed placed{Placement::free};
  const Daemon daemon;
  p99_of_applies(daemon);
  const auto [beside, alone] =
      measure_in_turns([&] { return p99_beside_a_map(daemon); }, [&] { return p99_of_applies(daemon); });
  report.add({"fairness_p99", beside, "us", "without the map", alone, at_most(5 * alone + kClaimedChunkUs)});
  report.add({"fairness_p99_floor", beside, "us", "a busy process's turn, of three on two CPUs",
              measure(&p99_of_waiting_for_a_busy_process), at_most_times(1)});
}

}  // namespace taskpool::bench
