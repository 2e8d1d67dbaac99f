#include "daemon/runtime/command_guard.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <new>
#include <utility>

namespace taskpool::runtime {
namespace {

/// The guard's whole life. `alive` is the read end of the pipe.
[[noreturn]] void guard_main(int alive, const GuardPage& page) {
  ::setsid();  // a signal to the worker's group, from a terminal or a supervisor, must not take the guard along
  ::prctl(PR_SET_NAME, "taskpool-guard");
  if (alive > 0) ::close_range(0, static_cast<unsigned>(alive) - 1, 0);
  ::close_range(static_cast<unsigned>(alive) + 1, ~0u, 0);  // above all the pipe's other end
  for (;;) {
    char byte = 0;
    const auto got = ::read(alive, &byte, 1);
    if (got > 0 || (got < 0 && errno == EINTR)) continue;
    break;
  }
  const pid_t group = page.group.load();
  if (group > 0) ::kill(-group, SIGKILL);
  ::_exit(0);
}

}  // namespace

Result<CommandGuard> CommandGuard::start() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return errno_error("pipe");
  const os::UniqueFd alive{ends[0]};
  os::UniqueFd held{ends[1]};
  void* memory = ::mmap(nullptr, sizeof(GuardPage), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return errno_error("mmap");
  CommandGuard guard{new (memory) GuardPage, std::move(held)};

  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);  // inherited by the guard, which only SIGKILL may end early
  const pid_t pid = ::fork();
  if (pid == 0) guard_main(alive.get(), guard.page());
  const int number = errno;
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (pid < 0) return errno_error("fork", number);
  guard.pid_ = pid;
  return guard;
}

CommandGuard::CommandGuard(CommandGuard&& other) noexcept
    : page_{std::exchange(other.page_, nullptr)}, alive_{std::move(other.alive_)}, pid_{std::exchange(other.pid_, 0)} {}

CommandGuard::~CommandGuard() {
  alive_.reset();
  if (pid_ > 0)
    while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
  if (page_ != nullptr) ::munmap(page_, sizeof(GuardPage));
}

}  // namespace taskpool::runtime
