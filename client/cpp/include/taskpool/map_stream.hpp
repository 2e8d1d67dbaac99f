#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "proto/message.hpp"
#include "proto/result.hpp"
#include "taskpool/body.hpp"
#include "taskpool/future.hpp"

namespace taskpool {

namespace client {
class StreamJob;
}

/// How much of a map may be under way at once. What was pushed and not yet taken counts. A map with an idempotency key
/// has no window, as all of its outcomes come at its end: it takes what the daemon's `session_queued_bytes` holds, and
/// fails with `queue_full` beyond.
struct StreamOptions {
  bool ordered = false;                             ///< Outcomes come in the order of their items.
  std::uint32_t window_items = 65536;               ///< At least 1.
  std::size_t window_bytes = std::size_t{8} << 20;  ///< Of items, and again of outcomes that wait to be taken.
};

/// What became of one item. Views the stream until its next call of anything that takes.
struct Outcome {
  std::uint64_t index = 0;           ///< Of the item, from 0.
  const ErrorHead* error = nullptr;  ///< Why it failed, or null.
  Item value;                        ///< Its result, unless it failed.

  bool ok() const { return error == nullptr; }
};

/// A map that is fed while it runs and whose outcomes are taken as they come: bounded memory for any number of items.
/// Every item that was pushed gets exactly one outcome, whatever happens; when the job as a whole fails (unknown
/// function, connection lost) each item that has none yet gets that error.
///
/// One thread may do both:  `while (more) { if (!*stream.try_push(item)) take(stream.next()); }  stream.finish();
/// while (auto outcome = stream.next()) take(*outcome);`  Or one thread pushes and another takes; not more than one
/// each. Destroying it cancels what has not ended.
class MapStream {
 public:
  MapStream();
  MapStream(std::shared_ptr<client::Connection> connection, std::shared_ptr<client::StreamJob> job);
  MapStream(MapStream&&) noexcept;
  MapStream& operator=(MapStream&&) noexcept;
  ~MapStream();

  /// Adds an item; the bytes are copied. False, and nothing added: the window is full, take outcomes first. All items
  /// of a stream have one encoding; an array item adds its `count` elements. Errors: the job's, if it has failed as a
  /// whole; `bad_argument`, `body_too_large`.
  Result<bool> try_push(const Item& item);
  /// The same, waiting for room, which another thread makes by taking outcomes. Error besides: `timed_out`, nothing
  /// added, the window is full and for `patience` nobody has taken an outcome or waited for one. One thread that does
  /// both has to use try_push().
  Result<void> push(const Item& item, std::chrono::milliseconds patience = std::chrono::minutes{1});
  /// No more items follow. Sends what is left.
  void finish();
  /// Sends what try_push() has collected so far. next() and wait_for() do it by themselves.
  void flush();

  /// Waits for an outcome. Nothing: every item pushed so far has been taken, and, after finish(), the job has ended.
  std::optional<Outcome> next();
  /// An outcome that is there already.
  std::optional<Outcome> try_next();
  enum class State {
    ready,      ///< try_next() has one.
    timed_out,  ///< None yet.
    idle,       ///< None is due: all that was pushed has been taken. After finish(): the job has ended.
  };
  State wait_for(std::chrono::milliseconds timeout);

  std::uint64_t pushed() const;  ///< Items so far.
  std::uint64_t taken() const;   ///< Outcomes that were taken.
  /// The job's totals, once it has ended (next() returned nothing after finish()); else `not_finished`. Error: why the
  /// job failed as a whole.
  Result<Done> done() const;

  /// As RawFuture.
  Result<std::uint64_t> cancel(CancelMode mode = CancelMode::ask);
  std::string task() const;
  std::optional<Progress> progress() const;
  void on_progress(ProgressCallback callback);

 private:
  std::shared_ptr<client::Connection> connection_;
  std::shared_ptr<client::StreamJob> job_;
};

}  // namespace taskpool
