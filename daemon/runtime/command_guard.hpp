#pragma once

#include <sys/types.h>

#include <atomic>

#include "daemon/os/unique_fd.hpp"
#include "proto/result.hpp"

namespace taskpool::runtime {

/// What a worker, its guard and the child on its way to exec share.
struct GuardPage {
  /// Process group of the running command, or 0. The child writes it before it becomes the command, so that there is no
  /// moment at which a command runs and the guard does not know of it; the worker clears it once the command has ended.
  std::atomic<pid_t> group{0};
  /// Why the child could not become the command: errno, and which step refused. Written by the child.
  std::atomic<int> start_errno{0};
  std::atomic<int> start_step{0};
};

/// A process that outlives its worker by a moment: when the worker is gone, however it went, the guard kills the
/// process group of the command that was running. A parent-death signal would reach the command alone, not what it
/// started. It sleeps in one read() all its life, and ends with the worker.
class CommandGuard {
 public:
  /// Forks the guard. The calling process must have one thread.
  static Result<CommandGuard> start();
  CommandGuard(CommandGuard&& other) noexcept;
  CommandGuard& operator=(CommandGuard&&) = delete;
  ~CommandGuard();  ///< Ends the guard, with whatever still runs, and reaps it.

  GuardPage& page() { return *page_; }

 private:
  CommandGuard(GuardPage* page, os::UniqueFd alive) : page_{page}, alive_{std::move(alive)} {}

  GuardPage* page_;     ///< A shared mapping; owned.
  os::UniqueFd alive_;  ///< Write end of a pipe whose end of file tells the guard that the worker is gone.
  pid_t pid_ = 0;
};

}  // namespace taskpool::runtime
