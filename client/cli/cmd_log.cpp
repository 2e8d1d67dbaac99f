#include <poll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <memory>

#include "client/cli/session.hpp"

namespace taskpool::cli {
namespace {

/// How long to wait for growth before asking whether the task has ended.
constexpr std::chrono::milliseconds kPause{200};

/// Copies what a growing file has beyond the descriptor's offset.
Result<void> copy_new(int from, Writer& to) {
  std::array<char, 1u << 16> piece;
  for (;;) {
    const auto got = ::read(from, piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno_error("the task's output");
    if (got == 0) return to.flush();
    if (auto written = to.write({piece.data(), static_cast<std::size_t>(got)}); !written) return written;
  }
}

/// Copies both streams of a log, as far as they go now.
class LogCopy {
 public:
  explicit LogCopy(const TaskLog& log) : log_{log} {}

  Result<void> copy() {
    if (auto copied = copy_new(log_.out.get(), out_); !copied) return copied;
    return copy_new(log_.err.get(), err_);
  }

 private:
  const TaskLog& log_;
  Writer out_{STDOUT_FILENO};
  Writer err_{STDERR_FILENO};
};

/// Tells when one of the files has grown. Watching needs no path: a descriptor's own is under /proc. Where that is not
/// allowed, waiting is a bounded pause.
class Growth {
 public:
  explicit Growth(const TaskLog& log) : watch_{::inotify_init1(IN_CLOEXEC | IN_NONBLOCK)} {
    for (const int fd : {log.out.get(), log.err.get()}) {
      const auto path = "/proc/self/fd/" + std::to_string(fd);
      if (watch_) (void)::inotify_add_watch(watch_.get(), path.c_str(), IN_MODIFY);
    }
  }

  void wait() {
    pollfd ready{watch_.get(), POLLIN, 0};
    if (::poll(&ready, 1, static_cast<int>(kPause.count())) <= 0) return;
    std::array<char, 4096> events;
    while (::read(watch_.get(), events.data(), events.size()) > 0) continue;  // one pass takes all that came
  }

 private:
  Fd watch_;
};

/// True once the task has ended, or nobody knows it any more. Waits at most so long for that.
bool has_ended(const Client& client, const std::string& task, std::chrono::milliseconds patience) {
  const auto row = client.wait(task, patience);
  return row || row.error().errc() != Errc::timed_out;
}

/// The output of a task, also of one that has yet to begin: waits until it has some, or has ended without.
Result<TaskLog> log_once_begun(const Client& client, const std::string& task) {
  auto log = client.log(task);
  while (!log && log.error().errc() == Errc::no_output) {
    const bool ended = has_ended(client, task, kPause);
    log = client.log(task);
    if (ended) break;
  }
  return log;
}

/// Copies until the task has ended.
Result<void> follow(const Client& client, const std::string& task, const TaskLog& log) {
  using Clock = std::chrono::steady_clock;
  LogCopy copy{log};
  Growth growth{log};
  auto next_question = Clock::now();
  for (;;) {
    bool ended = false;
    if (Clock::now() >= next_question) {
      ended = has_ended(client, task, std::chrono::milliseconds{1});
      next_question = Clock::now() + kPause;
    }
    if (auto copied = copy.copy(); !copied || ended) return copied;  // what was written before the end is there now
    growth.wait();
  }
}

}  // namespace

Run define_log(CLI::App& app) {
  auto following = std::make_shared<bool>(false);
  app.add_flag("-f,--follow", *following, "Go on until the command ends");
  return [following](const Invocation& invocation) -> Result<int> {
    invocation.expect_words(1, 1);
    const auto& task = invocation.words[0];
    const auto client = connect(invocation.globals, Autostart::no);
    if (!client) return client.error();
    const auto log = *following ? log_once_begun(*client, task) : client->log(task);
    if (!log) return log.error();
    const auto copied = *following ? follow(*client, task, *log) : LogCopy{*log}.copy();
    if (!copied) return copied.error();
    return kDone;
  };
}

}  // namespace taskpool::cli
