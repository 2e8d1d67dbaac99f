#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "proto/message.hpp"
#include "proto/result.hpp"
#include "taskpool/body.hpp"
#include "taskpool/options.hpp"
#include "taskpool/value.hpp"

namespace taskpool {

namespace client {
class Pending;
}

/// What the wire says of a failure, as an Error: its detail is "TYPE: DETAIL" if there is a type.
Error to_error(const ErrorHead& head);

using ProgressCallback = std::function<void(const Progress&)>;

/// One call under way, untyped. Move-only; destroying it forgets the result but does not cancel the call. Use from one
/// thread at a time.
class RawFuture {
 public:
  RawFuture();
  RawFuture(std::shared_ptr<client::Connection> connection, std::shared_ptr<client::Pending> pending);
  RawFuture(RawFuture&&) noexcept;
  RawFuture& operator=(RawFuture&&) noexcept;
  ~RawFuture();

  /// True for one that came from a call, until get().
  bool valid() const { return pending_ != nullptr; }
  /// True once get() will not wait. Does not look at the socket: only waiting does.
  bool ready() const;
  /// Waits for the result. True: it is there.
  bool wait_for(std::chrono::milliseconds timeout);
  /// Waits for the result and takes it, once. Errors: what the daemon answered; `daemon_gone` (nothing ran) or
  /// `outcome_unknown` (it may have run) when the connection broke.
  Result<Body> get();
  /// Asks the daemon to cancel the call, and waits for its answer. Returns how many tasks it reached: 0 if the call had
  /// ended, or had begun and `mode` is `waiting`. get() still answers, usually with `cancelled`.
  Result<std::uint64_t> cancel(CancelMode mode = CancelMode::ask);
  /// The task's id, once the daemon announced it; needs CallOptions::announce.
  std::string task() const;
  /// The last progress report; needs CallOptions::announce.
  std::optional<Progress> progress() const;
  /// Calls `callback` for each further report, in whichever thread is then waiting on the client, without locks held.
  void on_progress(ProgressCallback callback);
  /// After get() failed: the exception's class, traceback, task and signal, as far as the daemon knew them.
  const std::optional<ErrorHead>& failure() const { return failure_; }

 private:
  std::shared_ptr<client::Connection> connection_;
  std::shared_ptr<client::Pending> pending_;
  std::optional<ErrorHead> failure_;
};

/// One call under way whose result is a T. As RawFuture; get() also fails with `bad_message` if the result is not a T.
template <class T>
class Future {
 public:
  Future() = default;
  explicit Future(RawFuture raw) : raw_{std::move(raw)} {}

  bool valid() const { return raw_.valid(); }
  bool ready() const { return raw_.ready(); }
  bool wait_for(std::chrono::milliseconds timeout) { return raw_.wait_for(timeout); }
  Result<T> get() {
    auto body = raw_.get();
    if (!body) return body.error();
    return decode_value<T>(std::move(*body));
  }
  Result<std::uint64_t> cancel(CancelMode mode = CancelMode::ask) { return raw_.cancel(mode); }
  std::string task() const { return raw_.task(); }
  std::optional<Progress> progress() const { return raw_.progress(); }
  void on_progress(ProgressCallback callback) { raw_.on_progress(std::move(callback)); }
  const std::optional<ErrorHead>& failure() const { return raw_.failure(); }

 private:
  RawFuture raw_;
};

}  // namespace taskpool
