#pragma once

#include <chrono>

namespace taskpool::cli {

/// While it lives, the first SIGINT or SIGTERM asks for an orderly end instead of killing the program; the second one
/// ends it at once. At most one of these lives at a time, because signal handlers belong to the process.
///
/// Handlers rather than a signal mask: a mask would be inherited by a daemon that the client library starts.
class Interrupts {
 public:
  /// How often a loop that waits for something else should look at signal().
  static constexpr std::chrono::milliseconds kPoll{100};

  /// A signal that was ignored (nohup) stays ignored.
  Interrupts();
  ~Interrupts();
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  /// The signal that came, or 0.
  int signal() const;
  /// Readable from the first signal, or the first call of stop(), on.
  int stop_fd() const { return stop_fd_; }
  /// Makes stop_fd() readable.
  void stop() const;

 private:
  int stop_fd_ = -1;
};

}  // namespace taskpool::cli
