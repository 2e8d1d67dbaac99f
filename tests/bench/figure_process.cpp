#include <deque>
#include <fstream>
#include <stdexcept>
#include <thread>

#include "tests/bench/daemon.hpp"
#include "tests/bench/figures.hpp"
#include "tests/bench/peers.hpp"

namespace taskpool::bench {
namespace {

constexpr double kMb = 1 << 20;

std::uint64_t sleeps_of_all(const Daemon& daemon) {
  auto sleeps = sleeps_of(daemon.pid());
  for (const pid_t pid : descendants_of(daemon.pid())) sleeps += sleeps_of(pid);
  return sleeps;
}

/// Runs so many tasks, 1,024 of them under way at a time.
void run_tasks(const PreparedCall& call, std::size_t tasks) {
  constexpr std::size_t kWindow = 1'024;
  const std::byte body[64]{};
  std::deque<RawFuture> under_way;
  for (std::size_t sent = 0; sent < tasks || !under_way.empty();) {
    for (; sent < tasks && under_way.size() < kWindow; ++sent) under_way.push_back(call.apply_async(Item::raw(body)));
    do {
      need(under_way.front().get());
      under_way.pop_front();
    } while (!under_way.empty() && under_way.front().ready());
  }
}

/// Milliseconds from nothing to a first result.
double first_result_ms() {
  const auto begun = Clock::now();
  const Daemon daemon{{.workers = 2}};
  const std::byte body[1]{};
  need(daemon.connect().pool().prepare("bench_noop").apply(body));
  return seconds_since(begun) * 1e3;
}

/// Milliseconds from nothing to so many workers that take work.
double all_ready_ms(unsigned workers) {
  const auto begun = Clock::now();
  const Daemon daemon{{.workers = workers}};
  const auto client = daemon.connect();
  for (;;) {
    const auto pools = need(client.pools());
    if (pools.at("pools").at(0).at("idle") == workers) return seconds_since(begun) * 1e3;
    if (seconds_since(begun) > 10) throw std::runtime_error("the workers are not ready");
    std::this_thread::sleep_for(std::chrono::microseconds{500});
  }
}

}  // namespace

void idle(Report& report) {
  constexpr std::chrono::seconds kQuiet{1};
  constexpr std::chrono::seconds kWatched{10};
  const Placed placed{Placement::free};
  const Daemon daemon{{.workers = 2}};
  std::vector<pid_t> workers;
  {
    const auto client = daemon.connect();
    const auto call = client.pool().prepare("bench_noop");
    const std::byte body[64]{};
    for (int i = 0; i < 1000; ++i) need(call.apply(body));
    const auto rows = need(client.workers());
    for (const auto& worker : rows.at("workers")) workers.push_back(worker.at("pid").get<pid_t>());
  }
  std::this_thread::sleep_for(kQuiet);
  const double wake_ups = measure([&] {
    const auto before = sleeps_of_all(daemon);
    std::this_thread::sleep_for(kWatched);
    return static_cast<double>(sleeps_of_all(daemon) - before);
  });
  report.add({"idle_wake_ups_10s", wake_ups, "", "", 0, at_most(0)});
  report.add({"idle_daemon_rss", static_cast<double>(memory_of(daemon.pid(), "status", "VmRSS")) / kMb, "MB", "", 0,
              at_most(10)});
  std::vector<double> pss;
  for (const pid_t pid : workers) pss.push_back(static_cast<double>(memory_of(pid, "smaps_rollup", "Pss")) / kMb);
  report.add({"idle_worker_pss", percentile(pss, 1), "MB", "", 0, at_most(0.5)});
}

void memory_after_tasks(Report& report) {
  constexpr std::size_t kFew = 10'000;
  constexpr std::size_t kMany = 10'000'000;
  const Placed placed{Placement::free};
  const Daemon daemon{{.workers = 2}};
  const auto call = daemon.connect().pool().prepare("bench_noop");
  const auto memory = [&] { return static_cast<double>(memory_of(daemon.pid(), "status", "VmRSS")) / kMb; };
  run_tasks(call, kFew);
  const auto after_few = memory();
  run_tasks(call, kMany - kFew);
  report.add({"memory_after_10M_tasks", memory(), "MB", "after 10 k", after_few, at_most_times(1.05)});
}

void cold_start(Report& report) {
  const Placed placed{Placement::free};
  first_result_ms();  // the files are in the page cache from now on
  const auto [all, first] = measure_in_turns([] { return all_ready_ms(64); }, [] { return first_result_ms(); });
  report.add({"cold_start", first, "ms", "", 0, at_most(50)});
  report.add({"cold_start_64_more", all - first, "ms", "", 0, at_most(15)});
}

void exec(Report& report) {
  constexpr std::size_t kCommands = 1'000;
  const Placed placed{Placement::free};
  const Daemon daemon{{.workers = 2, .commands = true}};
  (void)daemon.connect();  // it answers from now on
  const TemporaryFolder folder;
  const auto inputs = folder.path() + "/inputs";
  std::ofstream out{inputs};
  for (std::size_t i = 0; i < kCommands; ++i) out << i << '\n';
  out.close();
  const auto ours = [&] {
    const auto begun = Clock::now();
    run_program({program_folder() + "/taskpool", "--socket", daemon.socket(), "map", "--exec", "true"}, inputs);
    return static_cast<double>(kCommands) / seconds_since(begun);
  };
  ours();
  const auto [rate, xargs] = measure_in_turns(ours, [] { return xargs_rate(kCommands); });
  report.add({"exec", rate, "tasks/s", "xargs -P2", xargs, at_least_times(1.0)});
}

}  // namespace taskpool::bench
