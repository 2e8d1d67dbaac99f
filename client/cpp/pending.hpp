#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "proto/frame.hpp"
#include "proto/items.hpp"
#include "proto/message.hpp"
#include "taskpool/body.hpp"
#include "taskpool/fd.hpp"
#include "taskpool/future.hpp"

namespace taskpool::client {

class Connection;
class Mapping;

/// A place in the up arena, as ArenaSpace gave it.
struct UpPlace {
  ArenaRef ref;             ///< Bytes rounded up.
  std::uint64_t epoch = 0;  ///< Of the connection whose arena it is in.
};

/// A function and options that a number stands for. Under the connection's lock, except for what is constant.
struct Prepared {
  std::string head;              ///< Constant: a call, encoded.
  bool repeatable = false;       ///< Constant: it has an idempotency key.
  std::uint64_t pool_epoch = 0;  ///< Constant: if not 0, the connection whose session owns the pool.
  std::uint32_t number = 0;
  std::uint64_t epoch = 0;  ///< The connection for which the number was sent.
};

/// A request that waits for its replies. All members under the connection's lock, except where they say otherwise.
class Pending {
 public:
  Pending() = default;
  Pending(const Pending&) = delete;
  Pending& operator=(const Pending&) = delete;
  virtual ~Pending() = default;

  /// A reply. True: it was the last one. Error: it is malformed, and the connection has to end.
  virtual Result<bool> accept(Connection& connection, const FrameView& frame, std::span<Fd> fds) = 0;
  /// Ends it without (further) replies. `unsent`: the daemon has seen nothing of it, so nothing ran.
  virtual void abandon(Connection& connection, const ErrorHead& error, bool unsent) = 0;
  /// Sends what waits: for room with the daemon or in the arena, or to be sent again. True: some still waits.
  virtual bool pump(Connection&) { return false; }
  /// The connection broke: makes all of it wait for pump(), to be sent over the next one. False: it is not safe to send
  /// again, or not all of it was kept.
  virtual bool rewind(Connection&) { return false; }

  /// What an error that the daemon sent means: that nothing ran is said of the last sending only, and an earlier one
  /// may have run, on a connection that broke.
  ErrorHead judge(ErrorHead error) const;

  /// Set once, after everything else was written; what it guards may be read without the lock then.
  bool ended() const { return ended_.load(std::memory_order_acquire); }

  std::uint64_t request = 0;
  std::shared_ptr<Prepared> prepared;  ///< Whose number it sent: kept, as that may have to be sent again.
  std::uint64_t pool_epoch = 0;        ///< As in Prepared.
  bool bound = false;                  ///< What it sent names arena places or descriptors: not for another connection.
  bool begun = false;                  ///< It may have run, on a connection that broke.
  std::vector<UpPlace> places;         ///< Up regions to free at its end.
  bool is_waiting = false;             ///< For pump(): Connection::want_pump().
  std::size_t kept_bytes = 0;          ///< Of its input, to send it again: Connection::keep().
  unsigned resends = 0;                ///< Connections that broke under it.

  /// What only few requests need.
  struct Extras {
    std::string task;
    std::optional<Progress> progress;
    ProgressCallback callback;
    // To send it again after the connection broke: a whole frame, with the body that is its own or lies in the arena.
    // That stays mapped, and as it was, also after its connection.
    bool repeatable = false;
    Prefix prefix;
    std::string head;
    Bytes body;
    std::shared_ptr<Mapping> mapping;
    std::span<const std::byte> region;
  };
  Extras& extras() {
    if (!extras_) extras_ = std::make_unique<Extras>();
    return *extras_;
  }
  const Extras* find_extras() const { return extras_.get(); }
  /// Keeps a `progress` frame, and leaves its callback, if any, with the connection.
  Result<bool> accept_progress(Connection& connection, const FrameView& frame);

 private:
  friend class Connection;
  std::atomic<bool> ended_{false};
  std::unique_ptr<Extras> extras_;
};

/// One reply: `result`, `ok` or `error`.
class Reply : public Pending {
 public:
  Result<bool> accept(Connection& connection, const FrameView& frame, std::span<Fd> fds) override;
  void abandon(Connection& connection, const ErrorHead& error, bool unsent) override;
  bool pump(Connection& connection) override;
  bool rewind(Connection& connection) override;

  // Valid once ended().
  Body body;                           ///< The result, or the JSON of `ok`.
  std::unique_ptr<ErrorHead> failure;  ///< Instead of it.
  std::vector<Fd> fds;

  /// The body or the error, once.
  Result<Body> take() {
    if (failure) return to_error(*failure);
    return std::move(body);
  }
};

/// The error that `code` and `detail` make.
inline ErrorHead error_head(Errc code, std::string detail) {
  ErrorHead head;
  head.code = code;
  head.detail = std::move(detail);
  return head;
}
inline ErrorHead error_head(const Error& error) { return error_head(error.errc(), error.detail); }

}  // namespace taskpool::client
