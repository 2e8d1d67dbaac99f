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

/// The floor: a process that forks another, and again each time that one ends; nothing else. What is killed is as large
/// as the worker.
class BareZygote {
 public:
  BareZygote() {
    int told[2];
    int ordered[2];
    if (::pipe2(told, O_CLOEXEC) != 0 || ::pipe2(ordered, O_CLOEXEC) != 0) throw std::runtime_error("pipe failed");
    told_.reset(told[0]);
    orders_.reset(ordered[1]);
    const os::UniqueFd tell{told[1]};
    const os::UniqueFd hear{ordered[0]};
    zygote_ = ::fork();
    if (zygote_ == 0) serve(tell.get(), hear.get());
    if (zygote_ < 0) throw std::runtime_error("fork failed");
    worker_ = next_worker();
  }
  ~BareZygote() {
    ::kill(zygote_, SIGKILL);  // its child goes with it
    ::waitpid(zygote_, nullptr, 0);
  }
  BareZygote(const BareZygote&) = delete;
  BareZygote& operator=(const BareZygote&) = delete;

  /// Kills the worker: until the kernel reports its end, for which its memory is freed first, and from there until the
  /// next one says that it is ready.
  Death kill_one() {
    char byte = 'h';
    if (::write(orders_.get(), &byte, 1) != 1 || ::read(told_.get(), &byte, 1) != 1)
      throw std::runtime_error("no process to kill");
    const os::UniqueFd pidfd{static_cast<int>(::syscall(SYS_pidfd_open, worker_, 0))};
    if (!pidfd) throw std::runtime_error("no process to kill");
    const auto killed = Clock::now();
    ::kill(worker_, SIGKILL);
    pollfd ended{pidfd.get(), POLLIN, 0};
    ::poll(&ended, 1, -1);
    Death death;
    death.error_ms = seconds_since(killed) * 1e3;
    const auto told = Clock::now();
    worker_ = next_worker();
    death.replacement_ms = seconds_since(told) * 1e3;
    return death;
  }

 private:
  [[noreturn]] static void serve(int tell, int orders) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
      const pid_t child = ::fork();
      if (child == 0) work(tell, orders);
      if (child < 0) ::_exit(1);
      ::waitpid(child, nullptr, 0);
    }
  }
  [[noreturn]] static void work(int tell, int orders) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const pid_t self = ::getpid();
    char byte = 0;
    if (::write(tell, &self, sizeof self) != sizeof self || ::read(orders, &byte, 1) != 1) ::_exit(1);
    void* memory = ::mmap(nullptr, kHeldBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    std::memset(memory, 1, kHeldBytes);
    if (::write(tell, &byte, 1) != 1) ::_exit(1);
    for (;;) ::pause();
  }
  pid_t next_worker() const {
    pid_t pid = 0;
    if (::read(told_.get(), &pid, sizeof pid) != sizeof pid) throw std::runtime_error("the bare zygote has ended");
    return pid;
  }

  os::UniqueFd told_;
  os::UniqueFd orders_;
  pid_t zygote_ = -1;
  pid_t worker_ = -1;
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
  if (result || result.error().errc() != Errc::worker_lost)
    throw std::runtime_error("the caller was told something else");
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
  BareZygote bare_zygote;
  kill_one(client, next);
  std::vector<double> error;
  std::vector<double> replacement;
  std::vector<double> bare_error;
  std::vector<double> bare_replacement;
  for (int round = 0; round < kRounds; ++round) {
    std::vector<double> errors;
    std::vector<double> replacements;
    std::vector<double> bare_errors;
    std::vector<double> bare_replacements;
    for (int i = 0; i < kDeaths; ++i) {
      const auto bare = bare_zygote.kill_one();
      bare_errors.push_back(bare.error_ms);
      bare_replacements.push_back(bare.replacement_ms);
      const auto death = kill_one(client, next);
      errors.push_back(death.error_ms);
      replacements.push_back(death.replacement_ms);
    }
    error.push_back(percentile(errors, 0.99));
    replacement.push_back(percentile(replacements, 0.99));
    bare_error.push_back(percentile(bare_errors, 0.99));
    bare_replacement.push_back(percentile(bare_replacements, 0.99));
  }
  report.add({"death_to_error_p99", median(error), "ms", "bare process, to its pidfd", median(bare_error), at_most(5)});
  report.add({"death_to_next_p99", median(replacement), "ms", "bare fork loop, to the next", median(bare_replacement),
              at_most(2)});
}

}  // namespace taskpool::bench
