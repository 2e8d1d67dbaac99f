#pragma once

#include <chrono>
#include <functional>

#include "taskpool/object.hpp"

/// Locks and their kin that the daemon keeps: fair, with timeouts, and given back when the session of their owner ends.
/// An operation costs about a round trip to the daemon; <taskpool/direct.hpp> has faster ones for processes of one
/// user.
namespace taskpool {

/// What became of an attempt to get a lock.
struct Acquired {
  bool held = false;
  bool owner_died = false;  ///< The one before went away with it: what it protects may be half done.
};

/// What Lock, RLock and Condition have in common. Usable with std::lock_guard, std::unique_lock and std::scoped_lock.
/// Errors: as Object.
class Lockable : public Object {
 public:
  Lockable() = default;
  explicit Lockable(Object object) : Object{std::move(object)} {}

  /// Waits for it. Not held: the time passed.
  Result<Acquired> acquire(Patience patience = {}) const;
  /// Gives it back, and waits for the daemon's word. Error: `not_owner`.
  Result<void> release() const;
  /// How many wait for it now.
  Result<std::uint64_t> waiting() const;

  /// Throws std::system_error if it cannot be had, because the daemon is gone, say.
  void lock();
  /// False also for an error.
  bool try_lock();
  template <class Rep, class Period>
  bool try_lock_for(const std::chrono::duration<Rep, Period>& time) {
    return try_lock(Patience::up_to(std::chrono::ceil<std::chrono::milliseconds>(time)));
  }
  template <class Clock, class Duration>
  bool try_lock_until(const std::chrono::time_point<Clock, Duration>& time) {
    return try_lock_for(time - Clock::now());
  }
  /// Gives it back without waiting for an answer.
  void unlock();
  /// Whether the owner before the last lock() of this handle, or successful try_lock(), had died with it.
  bool owner_died() const { return owner_died_; }

 private:
  bool try_lock(Patience patience);

  bool owner_died_ = false;
};

/// One owner at a time. Anyone may give it back, as in Python's multiprocessing. Locking it twice waits for ever.
class Lock : public Lockable {
 public:
  using Lockable::Lockable;
};

/// The same for a thread that locks it several times, and gives it back as often; nobody else can.
class RLock : public Lockable {
 public:
  using Lockable::Lockable;
};

/// A count of units to be had. A bounded one (Client::bounded_semaphore) refuses to get above what it began with
/// (`out_of_range`), and takes back the units of a session that ends.
class Semaphore : public Object {
 public:
  Semaphore() = default;
  explicit Semaphore(Object object) : Object{std::move(object)} {}

  /// Waits for a unit. Not held: the time passed.
  Result<Acquired> acquire(Patience patience = {}) const;
  Result<bool> try_acquire() const;
  Result<bool> try_acquire_for(std::chrono::milliseconds timeout) const;
  Result<void> release(std::uint32_t units = 1) const;
  /// Units to be had now.
  Result<std::uint64_t> value() const;
};

/// A flag to wait for.
class Event : public Object {
 public:
  Event() = default;
  explicit Event(Object object) : Object{std::move(object)} {}

  /// Lets everybody go who waits, now or later.
  Result<void> set() const { return done(call(store::Code::event_set, {})); }
  Result<void> clear() const { return done(call(store::Code::event_clear, {})); }
  Result<bool> is_set() const;
  Result<void> wait() const { return done(call(store::Code::event_wait, {StoreArgument::integer(-1)})); }
  /// False: the time passed.
  Result<bool> wait_for(std::chrono::milliseconds timeout) const {
    return unless(Errc::timed_out,
                  call(store::Code::event_wait, {StoreArgument::integer(Patience::up_to(timeout).ms)}));
  }
};

/// A lock with a place to wait for somebody else's word. Everything but locking needs it locked: `not_owner` else.
class Condition : public Lockable {
 public:
  using Lockable::Lockable;

  /// Gives the lock back, waits to be notified, and gets the lock again.
  Result<void> wait() const;
  /// The same for so long. False: the time passed; the lock is held again then too.
  Result<bool> wait_for(std::chrono::milliseconds timeout) const { return wait(Patience::up_to(timeout)); }
  /// Waits until `is_true()`, which is asked with the lock held. False: the time passed and it is not.
  template <class F>
  Result<bool> wait_until_true(const F& is_true, Patience patience = {}) const {
    const auto begun = std::chrono::steady_clock::now();
    while (!is_true()) {
      auto left = patience;
      if (patience.ms >= 0) {
        const auto passed =
            std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - begun);
        if (passed.count() >= patience.ms) return is_true();
        left.ms = patience.ms - passed.count();
      }
      if (auto woken = wait(left); !woken) return woken.error();
    }
    return true;
  }
  /// Wakes up to so many of those who wait; returns how many it was.
  Result<std::uint64_t> notify(std::uint32_t count = 1) const { return notify_some(count); }
  Result<std::uint64_t> notify_all() const { return notify_some(-1); }

 private:
  Result<bool> wait(Patience patience) const;
  Result<std::uint64_t> notify_some(std::int64_t count) const;
};

/// Where a number of parties wait for each other.
class Barrier : public Object {
 public:
  struct State {
    std::uint64_t parties = 0;
    std::uint64_t waiting = 0;
    bool broken = false;
  };

  Barrier() = default;
  explicit Barrier(Object object) : Object{std::move(object)} {}

  /// Waits for the others. Returns one's place, 0 to parties - 1, another one for each. `action` is run by one of them
  /// before all go on, if the barrier was made to have one; an exception of it breaks the barrier and goes on to the
  /// caller. Error: `broken`, for all who wait, once one of them has run out of time, or its session has ended.
  Result<std::uint64_t> wait(Patience patience = {}, const std::function<void()>& action = {}) const;
  /// Begins anew; who waits gets `broken`.
  Result<void> reset() const { return done(call(store::Code::barrier_reset, {})); }
  /// Breaks it for everybody until a reset.
  Result<void> abort() const { return done(call(store::Code::barrier_abort, {})); }
  Result<State> state() const;
};

}  // namespace taskpool
