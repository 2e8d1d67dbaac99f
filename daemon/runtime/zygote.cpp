#include "daemon/runtime/zygote.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "daemon/os/fd_passing.hpp"
#include "daemon/os/memory.hpp"
#include "daemon/os/process.hpp"
#include "daemon/os/process_limits.hpp"
#include "daemon/runtime/command.hpp"
#include "daemon/runtime/worker.hpp"
#include "proto/claim_page.hpp"
#include "proto/codec.hpp"

namespace taskpool::runtime {
namespace {

/// Where a worker's channel goes: above the numbers that a task's own files get, so that a task that closes and opens
/// descriptors blindly does not write into it.
constexpr int kLeastChannelFd = 200;

sigset_t child_signal() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  return set;
}

/// Blocks every signal for as long as it lives.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    ::sigprocmask(SIG_BLOCK, &all, &before_);
  }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;
  ~SignalsBlocked() { ::sigprocmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_{};
};

/// In the child: the actions and the mask that a program starts with.
void reset_signals() {
  for (int number = 1; number < NSIG; ++number) ::signal(number, SIG_DFL);  // fails for those that have no action
  ::signal(SIGPIPE, SIG_IGN);  // a task that writes to a closed pipe gets EPIPE, as in the other languages' runtimes
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

/// In the child: what the supervisor asked for that can fail. Nothing of it matters to the zygote.
Result<void> settle(const Fork& wanted, const std::vector<os::UniqueFd>& stdio) {
  const os::ProcessLimits limits{wanted.cgroup, wanted.data_bytes, wanted.processes, wanted.open_files,
                                 static_cast<int>(wanted.nice)};
  if (const auto set = os::apply(limits); !set) return set;
  for (std::size_t i = 0; i < stdio.size(); ++i)
    if (::dup2(stdio[i].get(), static_cast<int>(i)) < 0) return errno_error("dup2");
  for (const auto& [name, value] : wanted.environment)
    if (::setenv(name.c_str(), value.c_str(), 1) != 0) return errno_error("environment: " + name);
  ::setenv("TASKPOOL_SOCKET", wanted.socket.c_str(), 1);
  ::setenv("TASKPOOL_WORKER_TOKEN", wanted.token.c_str(), 1);
  if (!wanted.cwd.empty() && ::chdir(wanted.cwd.c_str()) != 0) return errno_error("cwd " + wanted.cwd);
  // Best effort: a worker that is not the first to be killed for memory is better than none.
  (void)os::set_oom_score_adj(wanted.oom_score_adj);
  return {};
}

os::UniqueFd move_up(os::UniqueFd channel) {
  const int high = ::fcntl(channel.get(), F_DUPFD_CLOEXEC, kLeastChannelFd);
  return high < 0 ? std::move(channel) : os::UniqueFd{high};  // RLIMIT_NOFILE may be lower: any number will do then
}

/// The life of a worker, in the child.
int be_worker(const Modules& modules, WorkerStart start, const std::vector<os::UniqueFd>& stdio) noexcept {
  reset_signals();
  start.channel = move_up(std::move(start.channel));
  const auto settled = settle(start.fork, stdio);
  if (settled) return run_worker(modules, std::move(start));
  Channel channel{std::move(start.channel)};
  (void)channel.send({.op = Op::worker_failed}, encode(WorkerFailed{.detail = settled.error().detail}));
  return kExitStartFailed;
}

Result<os::SharedMemory> make_claim_page() {
  auto shared = os::SharedMemory::create("taskpool-worker", kClaimPageBytes);
  if (!shared) return shared;
  auto* const page = new (shared->data()) ClaimPage;
  page->outbox_capacity = static_cast<std::uint32_t>(kOutboxBytes);
  return shared;
}

std::uint64_t microseconds(const timeval& time) {
  return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000u + static_cast<std::uint64_t>(time.tv_usec);
}

}  // namespace

Zygote::Zygote(os::UniqueFd control, Modules modules) : control_{std::move(control)}, modules_{std::move(modules)} {
  const auto set = child_signal();
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
  exits_.reset(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}

int Zygote::run() {
  if (!exits_) return 1;
  std::array<pollfd, 2> ready{{{control_.fd(), POLLIN, 0}, {exits_.get(), POLLIN, 0}}};
  while (!is_failed_) {
    if (::poll(ready.data(), ready.size(), -1) < 0 && errno != EINTR) return 1;
    if (ready[1].revents != 0) report_exits();
    if (ready[0].revents != 0 && !serve_control()) return is_failed_ ? 1 : 0;
  }
  return 1;
}

bool Zygote::serve_control() {
  const auto more = control_.receive();
  if (!more || !*more) return false;  // the supervisor has gone, or closed it: the workers die with us
  for (;;) {
    auto next = control_.next();
    if (!next) {
      std::fprintf(stderr, "level=error event=control_broken detail=\"%s\"\n", next.error().detail.c_str());
      return false;
    }
    auto& frame = *next;
    if (!frame) return true;
    if (!handle(*frame)) return false;
  }
}

bool Zygote::handle(IncomingFrame& frame) {
  switch (frame.view.prefix.op) {
    case Op::start: start(frame.view); break;
    case Op::fork: fork_worker(frame); break;
    default:
      std::fprintf(stderr, "level=error event=control_broken detail=\"unexpected %s\"\n",
                   std::string{name(frame.view.prefix.op)}.c_str());
      return false;
  }
  return !is_failed_;
}

void Zygote::start(const FrameView& frame) {
  const auto refuse = [this](const Error& error) {
    send({.op = Op::start_failed}, encode(StartFailed{.detail = error.detail}));
    is_failed_ = true;
  };
  const auto wanted = decode<Start>(frame.head);
  if (!wanted) return refuse(wanted.error());
  spool_ = wanted->spool;
  set_command_output_bytes(wanted->max_output_bytes);
  for (const auto& module : wanted->modules)
    if (const auto loaded = modules_.load(module); !loaded) return refuse(loaded.error());
  send({.op = Op::ready}, encode(Ready{.functions = modules_.describe()}));
}

void Zygote::fork_worker(IncomingFrame& frame) {
  const auto wanted = decode<Fork>(frame.view.head);
  if (wanted && frame.fds.size() != frame.view.prefix.fds) {
    send({.op = Op::fork_failed},
         encode(ForkFailed{.worker = wanted->worker, .detail = "no descriptors left for its streams"}));
    return;
  }
  const auto forked = wanted ? fork_worker(*wanted, std::move(frame.fds)) : Result<void>{wanted.error()};
  if (forked) return;
  const auto worker = wanted ? wanted->worker : 0;
  send({.op = Op::fork_failed}, encode(ForkFailed{.worker = worker, .detail = forked.error().detail}));
}

Result<void> Zygote::fork_worker(const Fork& wanted, std::vector<os::UniqueFd> stdio) {
  if (stdio.size() > 3) return fail(Errc::bad_message, "fork: more than three descriptors");
  auto ends = os::socket_pair();
  if (!ends) return ends.error();
  auto& [channel, worker_end] = *ends;
  auto shared = make_claim_page();
  if (!shared) return shared.error();
  os::UniqueFd page{::fcntl(shared->fd(), F_DUPFD_CLOEXEC, 0)};
  if (!page) return errno_error("dup");
  shared->close_fd();  // the worker inherits the mapping alone

  const pid_t zygote = ::getpid();
  os::UniqueFd pidfd;
  pid_t pid = -1;
  {
    const SignalsBlocked guard;  // a signal must not find the child with our handlers or in our wait
    pid = ::fork();
    if (pid == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::getppid() != zygote) ::_exit(kExitStartFailed);  // it died before prctl took hold
      ::setpgid(0, 0);                                       // so that what its tasks start is killed with it
      ::close(control_.fd());
      ::close(exits_.get());
      channel.reset();
      page.reset();
      WorkerStart start{std::move(worker_end), std::move(*shared), wanted, spool_};
      ::_exit(be_worker(modules_, std::move(start), stdio));
    }
  }
  if (pid < 0) return errno_error("fork");
  pidfd.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));  // not reaped yet, so pid still means our child
  if (!pidfd) {
    auto error = errno_error("pidfd_open");
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    return error;
  }
  workers_.emplace(pid, wanted.worker);
  const std::array fds{channel.get(), pidfd.get(), page.get()};
  send({.op = Op::forked}, encode(Forked{.worker = wanted.worker, .pid = static_cast<std::uint64_t>(pid)}), fds);
  return {};
}

void Zygote::report_exits() {
  std::array<signalfd_siginfo, 16> signals;
  while (::read(exits_.get(), signals.data(), sizeof signals) > 0) {
  }
  for (auto worker = workers_.begin(); worker != workers_.end();) {
    siginfo_t info{};
    rusage used{};
    // The system call, as the library's waitid() has no rusage. Only our workers: modules may have children of their
    // own.
    const auto reaped = ::syscall(SYS_waitid, P_PID, worker->first, &info, WEXITED | WNOHANG, &used);
    if (reaped == 0 && info.si_pid == 0) {
      ++worker;
      continue;
    }
    Exited exited{.worker = worker->second, .pid = static_cast<std::uint64_t>(worker->first)};
    if (reaped != 0)
      exited.exit_code = -1;  // a module has reaped it
    else if (info.si_code == CLD_EXITED)
      exited.exit_code = info.si_status;
    else
      exited.signal = info.si_status;
    exited.user_us = microseconds(used.ru_utime);
    exited.system_us = microseconds(used.ru_stime);
    exited.max_rss_bytes = static_cast<std::uint64_t>(used.ru_maxrss) * 1024;
    send({.op = Op::exited}, encode(exited));
    worker = workers_.erase(worker);
  }
}

void Zygote::send(const Prefix& prefix, std::string_view head, std::span<const int> fds) {
  if (!control_.send(prefix, head, {}, fds)) is_failed_ = true;
}

}  // namespace taskpool::runtime
