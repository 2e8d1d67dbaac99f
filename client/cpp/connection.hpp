#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "client/cpp/link.hpp"
#include "client/cpp/mapping.hpp"
#include "client/cpp/pending.hpp"
#include "client/cpp/socket.hpp"
#include "client/cpp/spin.hpp"
#include "proto/arena_space.hpp"
#include "proto/items.hpp"
#include "taskpool/client.hpp"
#include "taskpool/object.hpp"

namespace taskpool::client {

class Job;
class Opened;
class OpenReply;
class StoreReply;
class StoreSegment;
class WatchReply;
struct EncodedOperations;
struct StoreOperation;

using Lock = std::unique_lock<std::mutex>;

/// A request that cancels like that. Whoever sends it says what.
Cancel cancel_with(CancelMode mode);

/// What a call frame names: a prepared call, or a head.
struct Destination {
  std::shared_ptr<Prepared> prepared;
  std::string head;
  bool repeatable = false;       ///< It has an idempotency key: safe to send again.
  std::uint64_t pool_epoch = 0;  ///< As in Prepared.
};

/// One session with the daemon, over one socket at a time, for one process. Thread-safe.
///
/// It has no thread of its own. Whoever waits reads: one of the waiting threads is the leader, reads the socket without
/// the lock and hands out what came to all; the others follow, each on a condition variable, and one of them leads
/// next. Writing never blocks under the lock, and who has to wait for the socket to take more reads meanwhile, so that
/// two full sockets never wait for each other.
///
/// Functions that take a Lock are called with it held and may release it in between; those named `locked` in their
/// comment are called with it held and keep it.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  /// Whether a wait lends the place of the worker that it is in. What the daemon answers at once is not worth it.
  enum class Lending { no, yes };

  /// Not connected yet: the first call is. `link`, if any, is used for as long as it lives.
  explicit Connection(ClientOptions options, std::optional<Link> link = {});
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection();

  /// Connects now if it is not. Error: why that failed.
  Result<void> connect();
  ServerInfo server();
  /// Counts connections over the life of the process; 0 before the first. Anything that belongs to the daemon's side of
  /// a session (arena places, numbers, pools) is valid for one epoch.
  std::uint64_t epoch();

  // Calls. The item is copied.
  Result<Body> apply(const Destination& to, const Item& item);
  Result<Body> apply(const Destination& to, const UpBuffer& argument, Encoding encoding);
  std::shared_ptr<Pending> apply_async(const Destination& to, const Item& item);
  std::shared_ptr<Pending> apply_async(const Destination& to, UpBuffer argument, Encoding encoding);
  /// Any other request with one reply, waiting for it. `again`: it may be sent twice without harm.
  Result<Body> ask(Op op, const std::string& head, bool again, std::span<const int> fds = {},
                   std::vector<Fd>* got = nullptr);
  /// The same as ask() without waiting, for what nobody waits for: its reply is dropped.
  void tell(Op op, const std::string& head);
  Result<std::uint64_t> cancel(Pending& pending, CancelMode mode);
  /// Cancels what has not ended, and waits for nothing: nobody wants it any more.
  void give_up(const Pending& pending);
  Result<void> flush();

  /// Waits until `pending` has ended. False: the deadline passed.
  bool wait(Pending& pending, const Deadline& deadline);
  /// Waits until `is_true`, which depends on `pending` alone, holds. False: the deadline passed.
  bool wait(Lock& lock, Pending& pending, const Deadline& deadline, const std::function<bool()>& is_true,
            Lending lending = Lending::yes);
  /// The same for one who is not to read meanwhile, because what it waits for is another thread's to do: a thread that
  /// reads cannot be woken.
  bool wait_passively(Lock& lock, Pending& pending, const Deadline& deadline, const std::function<bool()>& is_true);
  /// Wakes the threads that follow `pending`. Locked.
  void notify(Pending& pending);
  Lock lock() { return Lock{mutex_}; }

  // For jobs.

  /// Registers a job, whose frames follow by append(). Ends the job if there is no connection.
  void open_job(const std::shared_ptr<Job>& job) { open_job(job, {}, {}); }
  /// The same for a job whose outcomes a `fetch` asks for.
  void open_fetch(const std::shared_ptr<Job>& job, const std::string& head) { open_job(job, Op::fetch, head); }
  /// Ends a reply that was never sent.
  void end_with(Reply& reply, const Error& why);
  /// Appends a frame of a request that has been registered. Locked.
  void append(const Prefix& prefix, std::string_view head, std::span<const std::byte> body,
              std::span<const std::byte> more = {}) {
    append_frame(out_, prefix, head, body, more);
  }
  /// Sends what was appended, if it is enough to be worth it; waits if the daemon does not keep up.
  void sent_some(Lock& lock);
  /// Sends until at most `keep` bytes are left, reading replies meanwhile. Nothing happens while there is no
  /// connection.
  void drain(Lock& lock, std::size_t keep);
  /// The request's owner, which holds it while it is under way. Locked.
  std::shared_ptr<Pending> find(std::uint64_t request) const;
  /// Whether `bytes` more of unfinished items fit what the daemon keeps for this session. Locked.
  bool may_queue(std::size_t bytes) const { return queued_bytes_ == 0 || queued_bytes_ + bytes <= queue_limit_; }
  /// How much one body of a task that outlives the session may hold; 0: the daemon did not say. Locked.
  std::size_t detached_body_bytes() const { return static_cast<std::size_t>(server_.limits.detached_body_bytes); }
  /// Whether all that is queued belongs to jobs whose outcomes come at their ends: then waiting for room is of no use.
  bool is_queue_silent() const { return queued_bytes_ == silent_bytes_; }
  void queued(std::size_t bytes, bool silent) {
    queued_bytes_ += bytes;
    if (silent) silent_bytes_ += bytes;
  }
  void unqueued(std::size_t bytes, bool silent) {
    queued_bytes_ -= bytes;
    if (silent) silent_bytes_ -= bytes;
  }
  /// Asks for `pending.pump()` whenever something came, and after a reconnection, until it says that it is done.
  /// Locked.
  void want_pump(Pending& pending);
  /// Asks for `job.all_read()` once the daemon has read all that was appended until now, and gives `places` back then.
  /// Locked.
  void mark(const std::shared_ptr<Job>& job, std::vector<UpPlace> places);
  /// Whether so much of its input may be kept to be sent again: the client keeps no more than
  /// ClientOptions::resend_bytes. Locked, as the next.
  bool keep(Pending& pending, std::size_t bytes);
  /// What was kept of it has been dropped.
  void let_go(Pending& pending);
  /// Makes this error its end. Locked.
  void refuse(Reply& reply, const Error& why);
  /// The number of a prepared call in this connection, sending it first if need be; 0 if all numbers are taken. Locked.
  std::uint32_t number_of(const std::shared_ptr<Prepared>& prepared);
  /// Leaves a callback to be run without the lock. Locked.
  void call_later(std::function<void()> callback) { callbacks_.push_back(std::move(callback)); }
  /// Drops what takes the lock when it goes. Locked.
  void drop_later(std::shared_ptr<void> thing) { dropped_.push_back(std::move(thing)); }
  /// Frees the slot and what it holds, and tells who waits. Locked.
  void end(Pending& pending);

  // The store.

  /// Opens an object, waiting for the daemon's word.
  Result<void> open(const std::shared_ptr<Opened>& opened);
  /// Deletes it, and waits until that is done.
  Result<void> delete_object(const std::shared_ptr<Opened>& opened);
  /// The last handle has gone.
  void close_object(Opened& opened);
  /// Opens a buffer: the reply's JSON, its descriptor, and the number to close it by, in this connection.
  Result<Body> open_buffer(const std::string& head, std::uint32_t& number, std::uint64_t& epoch, std::vector<Fd>& fds);
  void close_buffer(std::uint32_t number, std::uint64_t epoch);
  /// One operation, or several as one, waiting for what they give.
  Result<StoreResult> store(const StoreOperation& operation);
  Result<std::vector<StoreResult>> store(const EncodedOperations& operations);
  /// The same without waiting. The reply is a StoreReply.
  std::shared_ptr<Pending> store_async(const StoreOperation& operation);
  std::shared_ptr<Pending> store_async(const EncodedOperations& operations);
  /// The same without an answer, sent at once.
  void store_quietly(const StoreOperation& operation);
  /// Begins a watch, and waits until it has begun.
  std::shared_ptr<WatchReply> watch(const std::shared_ptr<Opened>& opened, const store::KeyView* key);
  /// The segment of that number, whose descriptor comes with the first object in it. Locked.
  Result<std::shared_ptr<StoreSegment>> store_segment(std::uint32_t number, std::uint64_t bytes, std::span<Fd> fds);

  // Arenas.
  Result<UpBuffer> up_buffer(std::size_t bytes);
  /// Takes a place in the up arena; opens a segment, or waits for places to be freed, if there is none.
  Result<UpPlace> allocate(Lock& lock, std::uint64_t bytes);
  /// The same without waiting: nothing if there is none now. Its caller is in pump(). Locked.
  Result<std::optional<UpPlace>> try_allocate(std::uint64_t bytes);
  /// Copies into a place; returns the segment. Locked.
  std::shared_ptr<Mapping> copy_to(const UpPlace& place, std::span<const std::byte> bytes);
  /// Copies into it, without the lock meanwhile: the place may be of a broken connection afterwards.
  void fill(Lock& lock, const UpPlace& place, std::span<const std::byte> bytes);
  /// Frees what allocate() returned. Locked.
  void free_locked(const UpPlace& place);
  void free(const UpBuffer& buffer);
  /// The bytes that a reference from the daemon names. Locked. Error: `bad_message`.
  Result<Body> body_at(const ArenaRef& ref, Encoding encoding, std::uint32_t count);
  /// Gives a down region back. Takes the lock.
  void release(const Mapping& mapping, std::span<const std::byte> bytes);
  /// Gives a body's down region back, if it views one. Locked.
  void release_locked(Body body);
  /// Gives back the down regions of a frame that nobody takes, and what its results name. Locked.
  void release_all(const FrameView& frame);
  /// What the results in a frame name, kept until the last copy of this goes; null: nothing. Locked. Error:
  /// `bad_message`.
  Result<std::shared_ptr<void>> refs_of(const FrameView& frame);
  /// Lets that go. Takes the lock.
  void release_refs(const std::vector<std::string>& refs, std::uint64_t epoch);
  /// Has a body of such a frame keep it.
  static void attach_refs(Body& body, std::shared_ptr<void> refs) { body.refs_ = std::move(refs); }
  /// The body of a single reply: copied, or a view of the arena. Locked.
  Result<Body> read_single(const FrameView& frame);

  /// The prepared call for a function of a pool with default options; made once.
  std::shared_ptr<Prepared> prepared(const std::string& pool, const std::string& function, std::uint64_t pool_epoch);
  /// In a forked child: the connection is the parent's, and nothing of it may be used.
  bool is_inherited() const;
  /// `daemon_gone`, and why.
  static Error inherited();
  /// In that child: closes its copy of the socket, without touching anything that a lock guards.
  void close_inherited();

 private:
  struct Slot {
    std::shared_ptr<Pending> pending;
    std::uint32_t generation = 0;  ///< Upper half of the request ids of its tenants.
    std::uint64_t request = 0;     ///< Of its last tenant.
  };
  /// Who has a number of an object: nobody, an object, or a buffer.
  struct ObjectNumber {
    std::weak_ptr<Opened> object{};
    bool is_buffer = false;
  };
  struct Follower {
    Pending* pending;
    bool may_lead;
    std::condition_variable wake;
  };
  enum class State { broken, connecting, connected, closed };
  /// Descriptors of a frame that is not sent: the caller's, who waits for the reply.
  struct Riding {
    std::size_t at;  ///< Of out_, where the frame begins.
    std::span<const int> fds;
  };
  /// The daemon gives no up segment for so many bytes.
  struct Refusal {
    Error why;
    std::uint64_t bytes;
    std::uint64_t frees;  ///< frees_ then.
  };
  class NestedWait;
  class Mark;
  class SegmentRequest;

  // connection.cpp
  std::uint32_t take_slot(const std::shared_ptr<Pending>& pending);
  void register_request(const std::shared_ptr<Pending>& pending);
  void pump_all();

  // connection_calls.cpp
  void submit(Lock& lock, const std::shared_ptr<Reply>& reply, const Destination& to, const Item& item);
  void submit(Lock& lock, const std::shared_ptr<Reply>& reply, const Destination& to, const UpBuffer& argument,
              Encoding encoding);
  void submit_frame(const std::shared_ptr<Reply>& reply, const Destination& to, Prefix prefix,
                    std::span<const std::byte> body);
  void keep_region(Reply& reply, const Destination& to, const std::shared_ptr<Mapping>& mapping, const ArenaRef& ref);
  /// Whether a call to this destination can start; ends `reply` with the error if not.
  bool may_start(Lock& lock, Reply& reply, std::uint64_t pool_epoch);
  Result<Body> wait_and_take(Lock& lock, Reply& reply);

  // connection_jobs.cpp
  void open_job(const std::shared_ptr<Job>& job, std::optional<Op> op, const std::string& head);

  // connection_prepared.cpp
  void append_prepare(const std::shared_ptr<Prepared>& prepared);

  // connection_objects.cpp
  Result<std::uint32_t> take_number(ObjectNumber owner);
  Result<std::uint32_t> number_of(const std::shared_ptr<Opened>& opened);
  Result<std::shared_ptr<OpenReply>> append_open(const std::shared_ptr<Opened>& opened);

  // connection_store.cpp
  bool submit_store(Lock& lock, const std::shared_ptr<StoreReply>& reply, const StoreOperation& operation, bool waits);
  bool submit_store(Lock& lock, const std::shared_ptr<StoreReply>& reply, const EncodedOperations& operations);
  Result<void> write_operation(Lock& lock, const StoreOperation& operation, std::vector<UpPlace>& places);
  bool append_store(const std::shared_ptr<StoreReply>& reply, std::uint32_t count, std::span<const std::byte> body,
                    bool waits);
  bool register_store_request(const std::shared_ptr<StoreReply>& reply);
  void trim_unanswered(std::uint64_t answered);
  void resend_store(bool resumed);
  void forget_store();

  // connection_io.cpp
  void read_once(Lock& lock, const Deadline& deadline);
  Result<Socket::Event> receive(Socket& socket, const Deadline& deadline, bool for_write, bool spin);
  Result<void> dispatch_all();
  Result<void> dispatch(const FrameView& frame);
  void follow(Lock& lock, Pending& pending, const Deadline& deadline);
  void pass_on();
  void run_callbacks(Lock& lock);

  // connection_write.cpp
  std::size_t unsent() const { return out_.size() - sent_; }
  void write_out();
  void wait_writable(Lock& lock, const Deadline& deadline);
  void append_releases();

  // connection_link.cpp
  Result<void> ensure_connected(Lock& lock, const Deadline& deadline = {});
  void install(Link link);
  void lose(const Error& why);
  void break_link(const Error& why);
  std::vector<std::uint64_t> keep_unsent(ByteBuffer& kept);
  void abandon_all(const Error& why);

  // connection_arena.cpp
  void up_changed();
  Result<std::optional<UpPlace>> try_place(std::uint64_t bytes);
  Result<void> add_down_segment(const FrameView& frame, std::span<Fd> fds);
  const std::shared_ptr<Mapping>& segment_of(const UpPlace& place) const;
  Result<UpPlace> take_place(Lock& lock, std::uint64_t bytes);

  const ClientOptions options_;
  const bool reconnects_;
  const std::uint64_t fork_generation_;
  const bool may_spin_;
  const std::string worker_token_;

  std::mutex mutex_;
  State state_ = State::broken;
  std::condition_variable state_changed_;
  std::uint64_t epoch_ = 0;
  std::shared_ptr<Socket> socket_;
  std::atomic<int> socket_fd_{-1};  ///< The same for close_inherited().
  Place place_;                     ///< Where the daemon was found: a reconnection goes there.
  ServerInfo server_;
  std::optional<Error> lost_;  ///< Set when the socket was seen to be broken, until the leader noticed too.
  Clock::time_point lost_at_;  ///< When the last connection broke.

  ByteBuffer out_;  ///< Whole frames, of which sent_ bytes are written. While broken: what to send later.
  std::size_t sent_ = 0;
  std::deque<Riding> riding_;
  bool writing_ = false;  ///< Somebody waits for the socket to take bytes, while another reads.
  Reply written_;         ///< Never sent: who waits for these two follows this.

  // Used by the leader without the lock.
  bool reading_ = false;
  FrameDecoder decoder_;
  std::deque<Fd> incoming_fds_;
  SpinPolicy spin_;

  std::vector<Slot> slots_;
  std::vector<std::uint32_t> free_slots_;
  std::vector<Follower*> followers_;
  std::vector<std::function<void()>> callbacks_;
  std::vector<std::shared_ptr<Pending>> ended_;  ///< Dropped without the lock: their bodies' destructors take it.
  unsigned nested_waits_ = 0;

  std::vector<std::weak_ptr<Prepared>> numbers_;  ///< Index + 1 is the number.
  std::unordered_map<std::string, std::shared_ptr<Prepared>> by_name_;

  // The store. Numbers of objects are valid over all connections of this process.
  bool has_store_ = false;
  std::string token_;                 ///< Of the session: what another daemon lets it resume by.
  std::vector<ObjectNumber> opened_;  ///< Index + 1 is the number.
  std::map<std::uint32_t, std::shared_ptr<StoreSegment>> store_segments_;
  std::uint64_t store_requests_ = 0;  ///< Made so far: their numbers rise.
  Bytes store_body_;                  ///< Where a body is built.
  ByteBuffer unanswered_;  ///< Frames that may have to be sent again, in order; those of waiting ones are with them.
  std::deque<std::pair<std::uint64_t, std::shared_ptr<Opened>>> quiet_objects_;  ///< What its quiet ones name.
  std::vector<std::shared_ptr<void>> dropped_;  ///< Dropped without the lock, as their destructors take it.

  std::size_t queue_limit_ = 0;
  std::size_t queued_bytes_ = 0;
  std::size_t silent_bytes_ = 0;  ///< Of them.
  std::size_t kept_bytes_ = 0;
  std::deque<std::uint64_t> waiting_;  ///< Requests to pump.

  ArenaSpace up_;
  std::map<std::uint32_t, std::shared_ptr<Mapping>> up_segments_;
  std::map<std::uint32_t, std::shared_ptr<Mapping>> down_segments_;
  std::size_t places_in_flight_ = 0;  ///< Up places that a task's end will free.
  std::uint64_t frees_ = 0;           ///< Counts places given back.
  std::uint64_t up_changes_ = 0;      ///< Counts these, and segments that came or were refused.
  std::optional<Refusal> refused_;    ///< The last one.
  bool opening_segment_ = false;
  Reply place_freed_;  ///< Never sent: who waits for a place or a segment follows this.
  std::vector<ArenaRef> releases_;
  std::vector<std::string> released_refs_;
};

}  // namespace taskpool::client
