#include <csignal>
#include <thread>

#include "tests/bench/daemon.hpp"
#include "tests/bench/figures.hpp"

namespace taskpool::bench {
namespace {

constexpr int kDeaths = 100;
constexpr int kHeldMb = 48;  ///< With the runtime itself, a worker of 50 MB.

struct Death {
  double error_ms = 0;        ///< From the signal to the caller's error.
  double replacement_ms = 0;  ///< From there to the first result of the next worker.
};

pid_t worker_pid(const Client& client) {
  const auto workers = need(client.workers());
  for (const auto& worker : workers.at("workers"))
    if (worker.at("pool") == "default" && worker.at("state") == "busy") return worker.at("pid").get<pid_t>();
  throw std::runtime_error("no worker is busy");
}

Death kill_one(const Client& client, const PreparedCall& next) {
  auto held = client.pool().with({.announce = true}).apply_async<int>("bench_hold", kHeldMb);
  const auto begun = Clock::now();
  for (;;) {  // it reports once its memory is there
    (void)held.wait_for(std::chrono::milliseconds{1});
    const auto progress = held.progress();
    if (progress && progress->done) break;
    if (held.ready() || seconds_since(begun) > 10) throw std::runtime_error("the task to be killed does not run");
  }
  const pid_t victim = worker_pid(client);
  const auto killed = Clock::now();
  ::kill(victim, SIGKILL);
  const auto result = held.get();
  Death death;
  death.error_ms = seconds_since(killed) * 1e3;
  if (result || result.error().errc() != Errc::worker_lost) throw std::runtime_error("the caller was told something else");
  const auto told = Clock::now();
  const std::byte body[1]{};
  if (const auto answer = next.apply(body); !answer) throw std::runtime_error(answer.error().detail);
  death.replacement_ms = seconds_since(told) * 1e3;
  return death;
}

}  // namespace

void worker_death(Report& report) {
  const Placed placed{Placement::free};
  const Daemon daemon{{.workers = 1}};
  const auto client = daemon.connect();
  const auto next = client.pool().prepare("bench_noop");
  kill_one(client, next);
  std::vector<double> error;
  std::vector<double> replacement;
  for (int round = 0; round < kRounds; ++round) {
    std::vector<double> errors;
    std::vector<double> replacements;
    for (int i = 0; i < kDeaths; ++i) {
      const auto death = kill_one(client, next);
      errors.push_back(death.error_ms);
      replacements.push_back(death.replacement_ms);
    }
    error.push_back(percentile(errors, 0.99));
    replacement.push_back(percentile(replacements, 0.99));
  }
  report.add({"death_to_error_p99", median(error), "ms", "", 0, at_most(5)});
  report.add({"death_to_next_p99", median(replacement), "ms", "", 0, at_most(2)});
}

}  // namespace taskpool::bench
