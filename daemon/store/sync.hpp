#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "daemon/store/barrier_state.hpp"
#include "daemon/store/lock_state.hpp"
#include "daemon/store/objects.hpp"
#include "daemon/store/waiters.hpp"
#include "proto/store/writer.hpp"

namespace taskpool::store {

/// One request, as it came.
struct SyncCall {
  Owner owner;
  Reply reply;
  ObjectId object = ObjectId::none;
  ObjectType type = ObjectType::lock;
  Code code = Code::acquire;
  std::optional<std::chrono::milliseconds> timeout;  ///< None: no limit. 0: do not wait.
  std::int64_t number = 1;  ///< Units of a release; how many to notify, -1 all; whether a barrier's action succeeded.

  std::uint64_t request() const { return reply.request(); }
};

/// A queue's item: the bytes are somebody else's.
struct ItemView {
  std::span<const std::byte> value;
  std::uint8_t encoding = 0;
  std::span<const ObjectId> refs;
  std::uint32_t writer_uid = 0;
};

/// The result of a request: numbers, or what `pop` made.
struct SyncAnswer {
  std::array<std::int64_t, 3> numbers{};
  std::uint8_t count = 0;
  std::vector<std::byte> body{};
};

/// What Sync needs of its surroundings. Sessions are named by the ids of their records.
class SyncHost {
 public:
  virtual ~SyncHost() = default;
  /// Begins a change of the segment.
  virtual Transaction begin() = 0;
  /// Makes `request` part of the change: a session that sends it again after a restart learns that it was done.
  virtual Result<void> note(Transaction& tx, std::uint64_t session, std::uint64_t request) = 0;
  /// Appends to a queue's list.
  virtual Result<void> push(Transaction& tx, ObjectId queue, const ItemView& item) = 0;
  /// Takes the first item off, and writes it into `body` as the result for that session.
  virtual Result<void> pop(Transaction& tx, ObjectId queue, std::uint64_t session, std::vector<std::byte>& body) = 0;
  /// False while somebody reads the object as a whole: it must not change. Sync::settle() follows.
  virtual bool may_change(ObjectId object) = 0;
  /// A change was committed.
  virtual void changed(ObjectId object) = 0;
  /// There is more to do: call Sync::work() in the next turn of the event loop.
  virtual void more() = 0;
  /// This object, or record of a session, has to grow before it can be changed: do Writer::work() on it, in slices.
  virtual void work_on(ObjectId object) = 0;
  /// next_deadline() is earlier than it was.
  virtual void deadline_changed() = 0;
  virtual TimePoint now() = 0;
  /// Unix time in milliseconds, for people.
  virtual std::uint64_t unix_ms() = 0;
};

/// Who holds a lock, or units of a bounded semaphore, or runs a barrier's action.
struct Holding {
  ObjectId object = ObjectId::none;
  Owner owner;
  std::uint64_t depth = 0;     ///< Or units.
  std::uint64_t since_ms = 0;  ///< Unix time; 0: unknown.
};

/// Who waits for what.
struct WaitingRow {
  ObjectId object = ObjectId::none;  ///< What it asked: of a condition, not its lock.
  Owner owner;
  Code code = Code::acquire;
  std::uint64_t since_ms = 0;  ///< Unix time.
  std::uint64_t order = 0;     ///< Lower ones came earlier.
};

/// The operations that wait, or that somebody else waits for, on the objects of one segment: locks, semaphores,
/// conditions, events, barriers, queues; and what becomes of them when a session dies or the daemon restarts.
///
/// What they are is in the objects' aux words and, of a bounded semaphore, in its index; what each request waits for is
/// an entry of its session's record. So the next daemon finds all of it: PROTOCOL.md, "Resuming a session". Who waits
/// and who holds is also kept here, to be found quickly.
///
/// No call takes longer than it takes to serve kSlice waiters: the rest follows by work().
class Sync {
 public:
  Sync(Writer& writer, SyncHost& host) : writer_{writer}, host_{host} {}

  static constexpr std::size_t kSlice = 128;
  /// Waiting requests of one session that its record knows of. What becomes of more in a restart is `outcome_unknown`.
  static constexpr std::size_t kMaxNoted = 8192;
  /// Bytes of items that the waiting puts of one session may have.
  static constexpr std::size_t kMaxWaitingBytes = std::size_t{64} << 20;

  /// Does it, or lets it wait: either way it is answered through call.reply, before this returns or later. False:
  /// nothing happened, as something has to grow first. It is to be tried again when what the host was asked to work on
  /// is done.
  bool run(const SyncCall& call, const ItemView& item = {});
  /// True if this request waits: it will hear `cancelled`; if it waits on a condition, with its lock and unless it was
  /// notified.
  bool cancel(std::uint64_t session, std::uint64_t request);
  /// Serves whom the object can serve now: it may be changed again, or was changed by others.
  void settle(ObjectId object);
  /// It is about to be removed: who waits hears `unknown_object`, and nobody holds it any more.
  void forget_object(ObjectId object);
  /// The session is gone for good: what it held is free, and what it waited for forgotten. `done` is called when that
  /// is so, which may be later: there can be a lot of it.
  void end_session(std::uint64_t session, std::function<void()> done);

  /// A slice of what is left to do.
  void work();
  std::optional<TimePoint> next_deadline() const { return waiters_.next_deadline(); }
  /// Ends waits whose time is over, kSlice at most.
  void expire();

  /// After recovery, before anything else: finds holders and waiters in the segment.
  void restore();
  /// For a request of a resumed session that may have come before, up to the number `applied`, which was the highest
  /// that the session's record knew of. True: it was answered, or waits as it did. False: it has to be done now. Error:
  /// `busy`, as when run() says no.
  Result<bool> repeat(const SyncCall& call, std::uint64_t applied);

  /// Everybody who holds anything, and who waits, in order of coming.
  std::vector<Holding> holdings();
  std::vector<WaitingRow> waiting();
  /// How many requests wait, in all.
  std::size_t size() const { return waiters_.size(); }

 private:
  struct Waiting;
  /// What a change did to who holds what, remembered once it is committed.
  struct Effects {
    ObjectId object = ObjectId::none;
    Owner gained;                                         ///< Session 0: nobody.
    Owner lost;                                           ///< The same.
    std::vector<std::pair<Owner, std::int64_t>> units{};  ///< Of a bounded semaphore: how many more each holds.
    bool reads_only = false;
  };
  struct Units {
    std::uint64_t count = 0;
    std::uint64_t since_ms = 0;
  };
  struct Ended {
    std::uint64_t session;
    std::function<void()> done;
  };
  /// The answer to a request whose session is away.
  struct Kept {
    SyncAnswer answer;
    std::optional<Error> error;
  };
  /// The lock that an operation is about: that of a condition may be another object.
  struct LockPlace {
    ObjectId object;
    bool recursive;
    AuxWords words;
    LockState state() const { return LockState::from(words); }
  };

  // sync.cpp: requests in general, and how they wait
  struct Attempt;
  Result<void> act_once(const SyncCall& call);
  Result<void> act(Transaction& tx, const SyncCall& call, SyncAnswer& answer, Effects& effects);
  Result<void> try_or_wait(const SyncCall& call, const ItemView& item);
  /// True: done. False: it has to wait.
  Result<bool> attempt(Transaction& tx, const Attempt& what, SyncAnswer& answer, Effects& effects);
  static void answer(const Reply& reply, const SyncAnswer& answer);
  /// Makes a change, which may be tried several times. If the index of `own` has to grow for it, that is done at once
  /// if it is little; else it has been left to the host, and the error is `busy`.
  template <class Change>
  Result<void> with_work(ObjectId own, Change change);
  Result<AuxWords> words(Transaction& tx, ObjectId object);
  Result<void> set_words(Transaction& tx, ObjectId object, const AuxWords& before, const AuxWords& after);
  Result<Place> place_for(Transaction& tx, const SyncCall& call);
  Waiting& enqueue(std::unique_ptr<Waiting> waiting, Place place);
  void set_deadline(Waiting& waiting, std::optional<std::chrono::milliseconds> timeout);
  /// Serves the first of a lane; false: it has to wait on, perhaps only until its session's record has grown.
  bool serve(Place place);
  void settle_some(ObjectId object, std::size_t& budget);
  void settle_later(ObjectId object);
  /// Its outcome is known. It is told in order, soon.
  void conclude(Waiting& waiting, const SyncAnswer& answer);
  void conclude(Waiting& waiting, Error error);
  void tell_some(std::size_t& budget);
  void end_wait(Waiting& waiting, const SyncAnswer& result);
  void end_wait(Waiting& waiting, const Error& error);
  std::unique_ptr<Waiting> take(Waiting& waiting);
  /// It gives up, or its time is over.
  void leave(Waiting& waiting, Errc why);

  // sync_locks.cpp: locks, semaphores, conditions
  Result<LockPlace> lock_of(Transaction& tx, ObjectId object, ObjectType type);
  Result<bool> attempt_lock(Transaction& tx, const Attempt& what, SyncAnswer& answer, Effects& effects);
  Result<bool> attempt_unit(Transaction& tx, const Attempt& what, SyncAnswer& answer, Effects& effects);
  Result<void> release_lock(Transaction& tx, const SyncCall& call, Effects& effects);
  Result<void> release_units(Transaction& tx, const SyncCall& call, Effects& effects);
  /// Writes the entries of those whose units change.
  Result<void> write_units(Transaction& tx, const Effects& effects);
  Result<void> wait_on_condition(const SyncCall& call);
  Result<void> notify(const SyncCall& call);

  // sync_events.cpp: events, barriers, queues, and what all of them show
  Result<bool> attempt_event(Transaction& tx, const Attempt& what);
  Result<bool> attempt_queue(Transaction& tx, const Attempt& what, SyncAnswer& answer);
  Result<void> act_event(Transaction& tx, const SyncCall& call);
  Result<void> act_queue(Transaction& tx, const SyncCall& call);
  Result<void> read_state(Transaction& tx, const SyncCall& call, SyncAnswer& answer);
  Result<void> wait_at_barrier(const SyncCall& call);
  Result<void> change_barrier(const SyncCall& call);
  /// Applies an event and all that follows from it. `call`: the request that it came from, if any.
  Result<void> barrier_event(ObjectId barrier, BarrierEvent event, const SyncCall* call = nullptr);

  // sync_sessions.cpp: leases, restarts, rows
  void remember(const Effects& effects);
  /// A part of the end of a session; true when nothing is left of it.
  bool end_some(std::uint64_t session, std::size_t& budget);
  Result<void> let_go(std::uint64_t session, ObjectId object);
  /// Gives the session's record an entry for one that is about to wait. It waits also if there is no room for that.
  /// Error: `busy`.
  Result<void> note_waiting(Waiting& waiting);
  Result<void> note_pending(Transaction& tx, const Waiting& waiting);
  void note_loss(std::uint64_t session);
  bool is_lossy(std::uint64_t session);
  Result<void> note_done(Transaction& tx, const Waiting& waiting);
  void restore_holders(const ObjectInfo& object);
  void restore_waiters(std::uint64_t session);
  void restore_waiter(std::unique_ptr<Waiting> waiting);

  static constexpr Place place_of(ObjectId object, Lane lane) { return {static_cast<std::uint64_t>(object), lane}; }
  static constexpr Place kTold{0, Lane::told};
  static constexpr std::size_t kTogether = 32;  ///< Waiters that are told in one change.

  Writer& writer_;
  SyncHost& host_;
  Waiters waiters_;
  std::unordered_map<std::uint64_t, std::unordered_set<std::uint64_t>> held_;  ///< Objects by session.
  std::unordered_map<std::uint64_t, std::map<Owner, Units>> units_;            ///< Of bounded semaphores, by object.
  std::unordered_map<std::uint64_t, std::size_t> waiting_bytes_;               ///< Of puts, by session.
  std::deque<ObjectId> unsettled_;
  std::deque<Ended> ended_;
  std::unordered_map<std::uint64_t, std::map<std::uint64_t, Kept>> kept_;  ///< By session and request.
};

}  // namespace taskpool::store
