#pragma once

#include "daemon/store/sync.hpp"

/// Inside sync*.cpp alone.
namespace taskpool::store {

/// A request that waits.
struct Sync::Waiting : Waiter {
  explicit Waiting(const SyncCall& from) : Waiter{from.owner, from.request()}, call{from} {}

  SyncCall call;
  ObjectId lock = ObjectId::none;  ///< Of a condition: what is to be taken back,
  std::uint32_t depth = 1;         ///< and how deep.
  Errc ending = Errc::ok;      ///< Of a condition, once it waits for its lock: ok (notified), `timed_out`, `cancelled`.
  std::uint64_t since_ms = 0;  ///< Unix time.
  bool present = true;         ///< False: the session has not asked for it again since the daemon restarted.
  bool noted = false;          ///< It has an entry in its session's record.
  // A put's item
  std::vector<std::byte> value;
  std::vector<ObjectId> refs;
  std::uint8_t encoding = 0;
  std::uint32_t writer_uid = 0;
  // In the lane `told`
  SyncAnswer answer;
  std::optional<Error> error;

  ItemView item() const { return {value, encoding, refs, writer_uid}; }
};

/// What is tried: a new request, or one that waits.
struct Sync::Attempt {
  const SyncCall& call;
  ItemView item;
  std::uint32_t depth = 1;
  std::uint64_t order = ~std::uint64_t{0};  ///< A newcomer's is above all.
  bool others_wait = false;                 ///< And go first.
};

/// What grows with so many steps is not left to the host: some 5 to 10 us.
inline constexpr std::size_t kWorkSteps = 250;

// Words of the objects beyond those of their states. They hold orders of waiters, so that each of a long lane is told
// the right thing also when the daemon dies in between.
/// Of a condition: waiters up to this one were notified.
inline constexpr std::size_t kNotified = 3;
/// Of an event: whether it is set, and up to which order those who waited have seen it set. Nobody misses a set() that
/// a clear() follows.
inline constexpr std::size_t kIsSet = 0;
inline constexpr std::size_t kSeenBy = 1;
/// Of a session's record: some of its waits could not be noted there.
inline constexpr std::size_t kLossy = 3;
/// Of a barrier: up to which order those who arrived went on, or heard `broken`.
inline constexpr std::size_t kPassed = 2;
inline constexpr std::size_t kBroke = 3;

template <class Change>
Result<void> Sync::with_work(ObjectId own, Change change) {
  for (int attempt = 0;; ++attempt) {
    Result<void> done = change();
    if (done || done.error().errc() != Errc::busy) return done;
    // Here and not by the host alone: what does not succeed, as the segment is full, fails with the first steps.
    const auto worked = writer_.work(own, kWorkSteps);
    if (!worked) return worked.error();
    if (*worked && attempt < 2) continue;
    host_.work_on(own);
    return done;
  }
}

inline bool waits(Code code) {
  switch (code) {
    case Code::acquire:
    case Code::condition_wait:
    case Code::barrier_wait:
    case Code::event_wait:
    case Code::queue_put:
    case Code::queue_get:
    case Code::queue_join: return true;
    default: return false;
  }
}

inline Error refusal(Errc code) {
  switch (code) {
    case Errc::not_owner: return fail(code, "the lock is not held, or by somebody else");
    case Errc::out_of_range: return fail(code, "released more often than acquired");
    case Errc::limit_reached: return fail(code, "the rlock is held too deep");
    case Errc::broken: return fail(code, "the barrier is broken");
    case Errc::timed_out: return fail(code, "timeout: nobody let it go on in time");
    case Errc::cancelled: return fail(code, "the request was cancelled");
    case Errc::unknown_object: return fail(code, "the object was deleted");
    default: return fail(code, "");
  }
}

}  // namespace taskpool::store
