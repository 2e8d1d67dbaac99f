#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>

#include "tests/bench/daemon.hpp"
#include "tests/bench/figures.hpp"

namespace taskpool::bench {
namespace {

constexpr int kDeaths = 100;
constexpr int kHeldMb = 48;  ///< With the runtime itself, a worker of 50 MB.
constexpr std::size_t kHeldBytes = std::size_t{kHeldMb} << 20;

struct Death {
  double error_ms = 0;        ///< From the signal to the caller's error.
  double replacement_ms = 0;  ///< From there to the first result of the next worker.
};

/// Milliseconds until the kernel reports the end of a killed process that has as much memory and nothing else: the
/// memory is freed first.
double bare_death_ms() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("pipe failed");
  const os::UniqueFd told{ends[0]};
  const os::UniqueFd tell{ends[1]};
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    void* memory = ::mmap(nullptr, kHeldBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    std::memset(memory, 1, kHeldBytes);
    if (::write(tell.get(), "x", 1) == 1)
      for (;;) ::pause();
    ::_exit(1);
  }
  const os::UniqueFd pidfd{static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))};
  char byte = 0;
  if (pid < 0 || !pidfd || ::read(told.get(), &byte, 1) != 1) throw std::runtime_error("no process to kill");
  const auto killed = Clock::now();
  ::kill(pid, SIGKILL);
  pollfd ended{pidfd.get(), POLLIN, 0};
  ::poll(&ended, 1, -1);
  const double took = seconds_since(killed) * 1e3;
  ::waitpid(pid, nullptr, 0);
  return took;
}

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
  std::vector<double> bare;
  std::vector<double> replacement;
  for (int round = 0; round < kRounds; ++round) {
    std::vector<double> errors;
    std::vector<double> replacements;
    std::vector<double> bares;
    for (int i = 0; i < kDeaths; ++i) {
      bares.push_back(bare_death_ms());
      const auto death = kill_one(client, next);
      errors.push_back(death.error_ms);
      replacements.push_back(death.replacement_ms);
    }
    bare.push_back(percentile(bares, 0.99));
    error.push_back(percentile(errors, 0.99));
    replacement.push_back(percentile(replacements, 0.99));
  }
  report.add({"death_to_error_p99", median(error), "ms", "bare process, to its pidfd", median(bare), at_most(5)});
  report.add({"death_to_next_p99", median(replacement), "ms", "", 0, at_most(2)});
}

}  // namespace taskpool::bench
