#include "client/cli/map_run.hpp"

#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

#include "client/cli/progress.hpp"
#include "client/cli/session.hpp"

namespace taskpool::cli {
namespace {

/// Pushes items into a stream from a thread of its own. It waits for room here rather than in the library, so that it
/// is always the other thread that reads the socket.
class Feeder {
 public:
  Feeder(MapStream& stream, ItemFeed& inputs, const Interrupts& interrupts)
      : stream_{stream}, inputs_{inputs}, interrupts_{interrupts}, thread_{[this] { run(); }} {}
  /// Take outcomes until finished() before this.
  ~Feeder() { thread_.join(); }
  Feeder(const Feeder&) = delete;
  Feeder& operator=(const Feeder&) = delete;

  /// Asks it to end its input here.
  void stop() {
    stopping_ = true;
    interrupts_.stop();
    wake(feeder_waits_);
  }
  /// True once everything was pushed that will be.
  bool finished() const { return finished_; }
  /// Tells it that outcomes were taken: there may be room.
  void make_room() { wake(feeder_waits_); }
  /// Waits until there is something to take, it has finished, or kPoll has passed.
  void wait_for_more() {
    wait(taker_waits_, [this] { return finished_ || stream_.pushed() > stream_.taken(); });
  }
  /// After finished(): why the input ended early, if it did.
  const std::optional<Error>& error() const { return error_; }

 private:
  void run() {
    while (!stopping_ && push_one()) wake(taker_waits_);
    stream_.finish();
    finished_ = true;
    wake(taker_waits_);
  }

  bool push_one() {
    if (!inputs_.ready()) stream_.flush();  // nothing may wait here while this waits for input
    const auto item = inputs_.next();
    if (item && !*item) return false;
    const auto pushed = item ? push(**item) : Result<void>{item.error()};
    if (!pushed && pushed.error().errc() != Errc::cancelled)
      error_ = pushed.error();  // a job's end is not the input's fault
    return pushed.has_value();
  }

  Result<void> push(const Item& item) {
    for (;;) {
      const auto taken = stream_.taken();
      const auto pushed = stream_.try_push(item);
      if (!pushed) return pushed.error();
      if (*pushed) return {};
      if (stopping_) return fail(Errc::cancelled, "the input was stopped");
      stream_.flush();
      wait(feeder_waits_, [&] { return stopping_ || stream_.taken() != taken; });
    }
  }

  /// Waits for `is_true`, which the other thread makes true before it calls wake(), or for kPoll.
  template <class Condition>
  void wait(std::atomic<bool>& waits, Condition is_true) {
    std::unique_lock lock{mutex_};
    waits = true;
    changed_.wait_for(lock, Interrupts::kPoll, is_true);
    waits = false;
  }
  /// Costs nothing while nobody waits.
  void wake(const std::atomic<bool>& waits) {
    if (!waits) return;
    const std::lock_guard lock{mutex_};
    changed_.notify_all();
  }

  MapStream& stream_;
  ItemFeed& inputs_;
  const Interrupts& interrupts_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> finished_{false};
  std::atomic<bool> feeder_waits_{false};
  std::atomic<bool> taker_waits_{false};
  std::optional<Error> error_;  ///< Written before finished_.
  std::mutex mutex_;
  std::condition_variable changed_;
  std::thread thread_;  ///< Last: it uses the others.
};

/// The side that takes: one pass of its loop after another until the job has ended.
class Taker {
 public:
  Taker(MapStream& stream, Feeder& feeder, MapPrinter& printer, const Interrupts& interrupts,
        const MapRunOptions& options)
      : stream_{stream},
        feeder_{feeder},
        printer_{printer},
        interrupts_{interrupts},
        options_{options},
        bar_{STDERR_FILENO, options.progress} {}

  void run() {
    for (;;) {
      if (interrupts_.signal() != 0) cancel();
      const bool fed = feeder_.finished();  // before the wait: only then does `idle` mean the end
      const auto state = stream_.wait_for(Interrupts::kPoll);
      if (state == MapStream::State::ready) take_all();
      flush();
      if (state == MapStream::State::idle) {
        if (fed) break;
        feeder_.wait_for_more();
      }
      bar_.update(counts());
    }
    bar_.clear();
  }

  std::uint64_t cancelled() const { return cancelled_; }
  const std::optional<Error>& job_error() const { return job_error_; }

 private:
  void take_all() {
    for (auto outcome = stream_.try_next(); outcome; outcome = stream_.try_next()) {
      take(*outcome);
      if (interrupts_.signal() != 0) cancel();
      bar_.update(counts());
    }
    feeder_.make_room();
  }

  void take(const Outcome& outcome) {
    ++taken_;
    if (job_error_) return;
    if (!outcome.ok()) {
      if (outcome.error->code == Errc::cancelled && (cancelling_ || options_.stop_on_error)) {
        ++cancelled_;
        return;
      }
      if (const auto done = stream_.done(); !done && done.error().errc() != Errc::not_finished) {
        job_error_ = done.error();  // every item gets it: it is said once
        feeder_.stop();
        return;
      }
      bar_.clear();
    }
    printer_.take(outcome);
    if (options_.stop_on_error && printer_.failed() > 0) stop();
  }

  void flush() {
    if (bar_.enabled() && printer_.out().pending() && ::isatty(STDOUT_FILENO) == 1) bar_.clear();
    (void)printer_.out().flush();
    if (!printer_.out().broken()) return;
    if (printer_.out().error_number() == EPIPE) {
      bar_.clear();
      end_like_sigpipe();
    }
    cancel();
  }

  /// Nothing more begins. To the daemon a command that has failed is one that has run.
  void stop() {
    if (std::exchange(stopping_, true) || cancelling_) return;
    feeder_.stop();
    (void)stream_.cancel(CancelMode::waiting);
  }

  void cancel() {
    if (cancelling_) return;
    cancelling_ = true;
    feeder_.stop();
    (void)stream_.cancel();  // the outcomes tell what it reached
  }

  Counts counts() const {
    auto total = options_.total;
    if (!total && feeder_.finished()) total = stream_.pushed();
    return {.done = taken_, .failed = printer_.failed(), .total = total};
  }

  MapStream& stream_;
  Feeder& feeder_;
  MapPrinter& printer_;
  const Interrupts& interrupts_;
  const MapRunOptions& options_;
  ProgressBar bar_;
  bool stopping_ = false;
  bool cancelling_ = false;
  std::uint64_t taken_ = 0;
  std::uint64_t cancelled_ = 0;
  std::optional<Error> job_error_;
};

}  // namespace

Result<MapRun> run_map(MapStream& stream, ItemFeed& inputs, MapPrinter& printer, const Interrupts& interrupts,
                       const MapRunOptions& options) {
  Feeder feeder{stream, inputs, interrupts};
  Taker taker{stream, feeder, printer, interrupts, options};
  taker.run();
  if (taker.job_error()) return *taker.job_error();
  if (printer.out().broken()) return printer.out().flush().error();
  if (const auto done = stream.done(); !done && done.error().errc() != Errc::not_finished && interrupts.signal() == 0)
    return done.error();
  return MapRun{.cancelled = taker.cancelled(),
                .input_error = feeder.error(),
                .stopped = options.stop_on_error && printer.failed() > 0,
                .interrupted = interrupts.signal() != 0};
}

}  // namespace taskpool::cli
