#pragma once

#include <chrono>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "proto/frame.hpp"
#include "proto/result.hpp"
#include "taskpool/fd.hpp"

namespace taskpool::client {

using Clock = std::chrono::steady_clock;
/// Nothing: no end.
using Deadline = std::optional<Clock::time_point>;

inline bool passed(const Deadline& deadline) { return deadline && Clock::now() >= *deadline; }

/// A connected Unix stream socket that carries frames and descriptors.
class Socket {
 public:
  explicit Socket(Fd fd) : fd_{std::move(fd)} {}
  /// One whose wait_writable() wake_writer() can end. Error: `system`.
  static Result<std::shared_ptr<Socket>> wakeable(Fd fd);

  /// Connects to a daemon's socket. Errors: `no_daemon` (no such socket, or nobody listens), `permission_denied`,
  /// `system`.
  static Result<Fd> connect(const std::string& path);

  /// How many bytes went out now; 0: the socket is full. Error: the connection is gone. `fds` ride on the first byte.
  Result<std::size_t> send(std::span<const std::byte> bytes, std::span<const int> fds = {});

  enum class Event { data, writable, timed_out };
  struct Wait {
    Deadline deadline;
    bool for_write = false;  ///< Also end when the socket takes bytes again.
    bool may_block = true;   ///< False: only look whether there is something.
  };
  /// Reads what there is into `decoder`, waiting for it. Descriptors go to `fds`. A signal does not end the wait.
  /// Error: the connection is gone.
  Result<Event> receive(FrameDecoder& decoder, std::deque<Fd>& fds, const Wait& wait);
  /// Waits until the socket takes bytes, is broken, or wake_writer() was called since the last wait. One thread at a
  /// time.
  void wait_writable(const Deadline& deadline);
  void wake_writer();
  /// Ends reading and writing: makes the thread that waits in receive() return.
  void shut_down();
  int fd() const { return fd_.get(); }

 private:
  Fd fd_;
  Fd wake_;  ///< An eventfd.
};

}  // namespace taskpool::client
