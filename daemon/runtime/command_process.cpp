#include "daemon/runtime/command_process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <optional>
#include <string_view>
#include <utility>

#include "daemon/runtime/command_start.hpp"

namespace taskpool::runtime {
namespace {

using Clock = std::chrono::steady_clock;

/// How much is read from one pipe before the other events are looked at again. Bytes: what a pipe holds.
constexpr std::size_t kPipeReadBytes = 64 * 1024;

std::uint64_t to_us(const timeval& time) {
  return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000 + static_cast<std::uint64_t>(time.tv_usec);
}

/// A file that output is appended to. It gives up at its first error, which it keeps: a full disk must not cost the
/// task.
class KeptOutput {
 public:
  explicit KeptOutput(std::string path) : path_{std::move(path)} {
    if (path_.empty()) return;
    file_.reset(::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!file_) give_up();
  }

  void append(std::string_view bytes) {
    while (file_ && !bytes.empty()) {
      const auto wrote = ::write(file_.get(), bytes.data(), bytes.size());
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote < 0) return give_up();
      bytes.remove_prefix(static_cast<std::size_t>(wrote));
    }
  }

  const std::string& error() const { return error_; }

 private:
  void give_up() {
    error_ = errno_error(path_).detail;
    file_.reset();
  }

  std::string path_;
  os::UniqueFd file_;
  std::string error_;
};

/// One output pipe of a command, and the places that its bytes go to.
struct Stream {
  os::UniqueFd pipe;  ///< Empty after its end of file.
  BoundedOutput kept;
  KeptOutput file;

  /// Takes what is there, at most kPipeReadBytes.
  void read_some() {
    if (!pipe) return;
    std::array<char, kPipeReadBytes> buffer;  // not cleared: most commands write little, and pages untouched are free
    const auto got = ::read(pipe.get(), buffer.data(), buffer.size());
    if (got > 0) {
      const std::string_view bytes{buffer.data(), static_cast<std::size_t>(got)};
      kept.add(bytes);
      file.append(bytes);
    } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
      pipe.reset();
    }
  }
};

/// A started command until it has ended and its output is read.
class RunningCommand {
 public:
  RunningCommand(const CommandSpec& spec, StartedCommand started, CommandGuard& guard, const CommandControl& control)
      : control_{control},
        page_{guard.page()},
        pid_{started.pid},
        pidfd_{std::move(started.pidfd)},
        out_{std::move(started.out), BoundedOutput{spec.max_output_bytes}, KeptOutput{control.out_path}},
        err_{std::move(started.err), BoundedOutput{spec.max_output_bytes}, KeptOutput{control.err_path}} {}

  CommandOutcome finish() {
    while (pidfd_ || out_.pipe || err_.pipe) {
      std::array<pollfd, 4> fds{pollfd{out_.pipe.get(), POLLIN, 0}, pollfd{err_.pipe.get(), POLLIN, 0},
                                pollfd{pidfd_.get(), POLLIN, 0},
                                pollfd{stopping() || !pidfd_ ? -1 : control_.interrupt_fd, POLLIN, 0}};
      if (::poll(fds.data(), fds.size(), ms_left()) == 0 && on_deadline()) break;
      if (fds[0].revents != 0) out_.read_some();
      if (fds[1].revents != 0) err_.read_some();
      if (fds[3].revents != 0) stop();
      if (fds[2].revents != 0) on_exit();
    }
    outcome_.pid = pid_;
    outcome_.out = std::move(out_.kept);
    outcome_.err = std::move(err_.kept);
    outcome_.output_error = out_.file.error().empty() ? err_.file.error() : out_.file.error();
    return std::move(outcome_);
  }

 private:
  bool stopping() const { return outcome_.stopped; }

  int ms_left() const {
    if (!deadline_) return -1;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(*deadline_ - Clock::now()).count();
    return left > 0 ? static_cast<int>(left) : 0;
  }

  void stop() {
    outcome_.stopped = true;
    ::kill(-pid_, SIGTERM);
    deadline_ = Clock::now() + control_.stop_grace;
  }

  /// Returns true when there is nothing more to wait for.
  bool on_deadline() {
    if (!pidfd_) return true;  // it has ended; whoever holds its pipes does not concern us
    ::kill(-pid_, SIGKILL);
    deadline_.reset();
    return false;
  }

  void on_exit() {
    // Not reaped yet, so the number still means its group, for us and for the guard.
    if (stopping()) ::kill(-pid_, SIGKILL);
    page_.group = 0;
    int status = 0;
    rusage usage{};
    while (::wait4(pid_, &status, 0, &usage) < 0 && errno == EINTR) {
    }
    pidfd_.reset();
    outcome_.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    outcome_.exit_code = WIFSIGNALED(status) ? 128 + outcome_.signal : WEXITSTATUS(status);
    outcome_.user_us = to_us(usage.ru_utime);
    outcome_.system_us = to_us(usage.ru_stime);
    outcome_.max_rss_bytes = static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
    deadline_ = Clock::now() + control_.linger;
    out_.read_some();  // in the common case this meets the end of both, and there is nothing to poll for
    err_.read_some();
    if (out_.pipe) out_.read_some();
    if (err_.pipe) err_.read_some();
  }

  const CommandControl& control_;
  GuardPage& page_;
  pid_t pid_;
  os::UniqueFd pidfd_;  ///< Empty once the command has been reaped.
  Stream out_;
  Stream err_;
  CommandOutcome outcome_;
  std::optional<Clock::time_point> deadline_;  ///< Of SIGKILL while it is being stopped; of reading after its end.
};

}  // namespace

Result<CommandOutcome> run_command(const CommandSpec& spec, CommandGuard& guard, const CommandControl& control) {
  auto started = start_command(spec, guard);
  if (!started) return started.error();
  RunningCommand command{spec, std::move(*started), guard, control};
  return command.finish();
}

}  // namespace taskpool::runtime
