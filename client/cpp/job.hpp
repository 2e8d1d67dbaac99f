#pragma once

#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>

#include "client/cpp/connection.hpp"
#include "client/cpp/intervals.hpp"
#include "client/cpp/pending.hpp"
#include "proto/items.hpp"

namespace taskpool::client {

/// A map as this side sees it: packs items into frames, keeps within what the daemon queues for the session, and makes
/// sure that every item has exactly one outcome. What becomes of the outcomes is the derived class's.
///
/// A job with an idempotency key keeps its input, as long as the client has room for it, until it ends. If the
/// connection breaks, all of it is sent again; outcomes that come a second time are dropped.
///
/// One thread adds items. Members are under the connection's lock, unless they say otherwise.
class Job : public Pending {
 public:
  /// When the daemon tells what became of the items.
  enum class Outcomes {
    as_they_come,
    at_the_end,  ///< With an idempotency key: the daemon keeps them until the job has ended.
    never,       ///< Detached: they are fetched by another request.
  };
  explicit Job(Destination to) : Job{to, to.repeatable ? Outcomes::at_the_end : Outcomes::as_they_come} {}
  Job(Destination to, Outcomes outcomes) : to_{std::move(to)}, outcomes_{outcomes}, keeps_{to_.repeatable} {}

  /// Adds an item; the bytes are copied. Waits only for room in the up arena. Errors: `bad_argument`, `body_too_large`,
  /// `out_of_space`, the job's own if it has ended.
  Result<void> add(Connection& connection, const Item& item);
  /// Sends what was packed so far.
  void flush(Connection& connection);
  /// No more items follow.
  void finish(Connection& connection);
  /// Nobody wants it any more: drops what was not sent and cancels the rest. Waits for nothing.
  void give_up(Connection& connection);

  /// Makes this its outcome before anything was sent. Locked.
  void refuse(Connection& connection, const ErrorHead& error) { set_error(connection, error, error); }

  Result<bool> accept(Connection& connection, const FrameView& frame, std::span<Fd> fds) override;
  void abandon(Connection& connection, const ErrorHead& error, bool unsent) final;
  bool pump(Connection& connection) final;
  bool rewind(Connection& connection) override;
  /// The daemon has read everything, the last frame included.
  virtual void all_read(Connection&) {}

  /// Items that add() took. Lock-free.
  std::uint64_t pushed() const { return pushed_.load(std::memory_order_acquire); }
  /// Items that have an outcome. Lock-free.
  std::uint64_t completed() const { return completed_.load(std::memory_order_acquire); }
  /// Bytes of the items that have no outcome, by and large: those of a frame count until the last of them has one.
  /// Lock-free.
  std::size_t under_way_bytes() const { return under_way_bytes_.load(std::memory_order_acquire); }
  /// Whether finish() was called. Lock-free.
  bool finished() const { return finished_.load(std::memory_order_acquire); }
  /// Whether nothing that was sent still waits for its outcome. Lock-free.
  bool is_quiet() const { return completed() == numbered_.load(std::memory_order_acquire); }
  Outcomes outcomes() const { return outcomes_; }
  /// Valid once ended(): the totals, or why the job failed as a whole.
  const Result<Done>& done() const { return done_; }
  const Destination& destination() const { return to_; }
  /// For `fetch`: the items are the daemon's, none are added. Before the request is sent.
  void set_fetching(std::uint64_t from) {
    fetching_ = true;
    finished_ = true;
    first_index_ = from;
  }

 protected:
  /// Outcomes; locked. Each index comes once.
  virtual void deliver(Connection& connection, std::uint64_t first, std::uint32_t count, Encoding encoding,
                       std::span<const std::byte> body) = 0;
  virtual void deliver_one(Connection& connection, std::uint64_t index, Body body) = 0;
  virtual void deliver_array(Connection& connection, std::uint64_t first, Body body) = 0;
  virtual void deliver_failure(Connection& connection, std::uint64_t first, std::uint64_t count,
                               const ErrorHead& error) = 0;
  /// What keeps the objects that the results name which are delivered next: until the job goes, here.
  virtual void keep_refs(std::shared_ptr<void> refs) { refs_.push_back(std::move(refs)); }

  std::uint64_t first_index_ = 0;  ///< Where a fetch begins. Constant once sent.

  std::mutex input_mutex_;  ///< Over packer_ and the order of frames; taken before the connection's lock.

 private:
  /// Items that were sent together.
  struct Piece {
    std::uint32_t remaining = 0;
    std::size_t bytes = 0;       ///< Of the frame's body: what the daemon queues.
    std::size_t item_bytes = 0;  ///< The same, or what the arena holds.
    bool sent = false;
    std::optional<UpPlace> place;
  };
  /// Items that are sent together.
  struct Input {
    Prefix prefix;
    std::span<const std::byte> body;
    std::span<const std::byte> more;  ///< Behind it.
    std::optional<UpPlace> place;     ///< Which the body refers to.
    std::size_t item_bytes = 0;       ///< What they take, in the arena or here.
    bool loose = false;               ///< The body is an item that is to get its place in the arena when it is sent.
  };
  /// The same, kept: until it can be sent, or until the job's end.
  struct Frame {
    Prefix prefix;
    std::uint64_t first;
    Bytes body;
    std::optional<UpPlace> place;
    bool loose;
  };
  /// Consecutive items: from the first to before the end.
  using Run = std::pair<std::uint64_t, std::uint64_t>;

  // job_input.cpp
  Result<void> add_through_arena(Connection& connection, const Item& item);
  void send(Connection& connection, Lock& lock, const Input& input);
  void send_packed(Connection& connection, Lock& lock, std::uint8_t flags);
  void emit(Connection& connection, Prefix prefix, std::uint64_t first, std::span<const std::byte> body,
            std::span<const std::byte> more, const std::optional<UpPlace>& place);
  bool may_send(Connection& connection, const Prefix& prefix, std::size_t bytes) const;
  bool keep(Connection& connection, std::size_t bytes);
  void drop_frames(Connection& connection);

  // job.cpp
  bool settle(Connection& connection, std::uint64_t first, std::uint64_t count);
  Result<std::vector<Run>> settle_due(Connection& connection, const Prefix& prefix, std::uint64_t count);
  void set_error(Connection& connection, const ErrorHead& error, const ErrorHead& unsent_error);
  void fail_rest(Connection& connection, const ErrorHead& error, const ErrorHead& unsent_error,
                 std::uint64_t unsent_from);
  Result<void> accept_results(Connection& connection, const FrameView& frame);
  Result<void> accept_from_arena(Connection& connection, const FrameView& frame, const std::vector<Run>& due);
  Result<void> accept_failed(Connection& connection, const FrameView& frame);

  const Destination to_;
  const Outcomes outcomes_;
  bool fetching_ = false;

  // Under input_mutex_.
  Packer packer_;
  Encoding encoding_ = Encoding::none;

  std::vector<std::shared_ptr<void>> refs_;  ///< keep_refs().

  std::atomic<bool> finished_{false};
  std::atomic<std::uint64_t> pushed_{0};
  std::atomic<std::uint64_t> completed_{0};
  std::atomic<std::size_t> under_way_bytes_{0};
  std::atomic<std::uint64_t> numbered_{0};  ///< Items that are in frames, sent or waiting.
  bool opened_ = false;                     ///< The `map` frame is out.
  std::uint64_t reached_ = 0;               ///< Items before this one have been sent, over whatever connection.
  Intervals outstanding_;
  std::map<std::uint64_t, Piece> pieces_;  ///< By first item.
  bool keeps_;                             ///< All input is in frames_, to be sent again.
  std::deque<Frame> frames_;
  std::size_t next_ = 0;  ///< Of frames_: what is to be sent next. Those before it are there to be sent again.
  std::optional<ErrorHead> error_;
  Result<Done> done_ = fail(Errc::not_finished, "the job has not ended");
};

/// A job whose outcomes go into a sink.
class CollectJob final : public Job {
 public:
  CollectJob(Destination to, std::shared_ptr<MapSink> sink) : Job{std::move(to)}, sink_{std::move(sink)} {}

  /// An error of the caller's own, which wins over the job's. Of the thread that adds; read once the job has ended.
  std::optional<Error> input_error;

 private:
  void deliver(Connection&, std::uint64_t first, std::uint32_t count, Encoding encoding,
               std::span<const std::byte> body) override;
  void deliver_one(Connection&, std::uint64_t index, Body body) override;
  void deliver_array(Connection&, std::uint64_t first, Body body) override;
  void deliver_failure(Connection&, std::uint64_t first, std::uint64_t count, const ErrorHead& error) override;

  std::shared_ptr<MapSink> sink_;
};

/// A job that outlives the session: ends once the daemon has accepted it and read all of its input.
class DetachedJob final : public Job {
 public:
  explicit DetachedJob(Destination to) : Job{std::move(to), Outcomes::never} {}

  Result<bool> accept(Connection& connection, const FrameView& frame, std::span<Fd> fds) override;
  bool rewind(Connection& connection) override;
  void all_read(Connection& connection) override;
  /// Valid once ended(): what the daemon said at acceptance, or why it did not.
  Result<Body> take();

 private:
  void deliver(Connection&, std::uint64_t, std::uint32_t, Encoding, std::span<const std::byte>) override {}
  void deliver_one(Connection&, std::uint64_t, Body) override {}
  void deliver_array(Connection&, std::uint64_t, Body) override {}
  void deliver_failure(Connection&, std::uint64_t, std::uint64_t, const ErrorHead&) override {}

  std::optional<Body> accepted_;
  bool read_ = false;
};

}  // namespace taskpool::client
