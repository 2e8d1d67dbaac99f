#pragma once

#include <array>
#include <cstdint>

#include "proto/errc.hpp"

/// Locks, semaphores, events, barriers and the bounds of queues as pure tables: a state and what is asked of it in, the
/// new state and the answer out. They know no sessions, clocks or memory. Who waits is in waiters.hpp; each state is
/// kept in the aux words of its object, so that it outlives the daemon.
///
/// None of them ever says "wait" while it could have gone on, so whoever waits is in its queue because the state is
/// such that nobody could go on: a newcomer cannot overtake.
namespace taskpool::store {

/// The words of an object that its type may use.
using AuxWords = std::array<std::uint64_t, 4>;

/// Who holds or waits: a session by the id of its record, which is never used again, and a thread of it by a number
/// that the client chose.
struct Owner {
  std::uint64_t session = 0;  ///< 0: nobody.
  std::uint32_t thread = 0;
  friend constexpr bool operator==(const Owner&, const Owner&) = default;
  friend constexpr auto operator<=>(const Owner&, const Owner&) = default;
};

enum class Verdict : std::uint8_t {
  done,     ///< It is as asked; the state may be new.
  wait,     ///< Not now: the state is as it was.
  refused,  ///< Never: the state is as it was, and `error` says why.
};

/// What became of one request.
template <class State>
struct Step {
  State state;
  Verdict verdict = Verdict::done;
  Errc error = Errc::ok;
  bool owner_died = false;  ///< What was acquired had been held by a session that died.

  static constexpr Step done(State now, bool owner_died = false) { return {now, Verdict::done, Errc::ok, owner_died}; }
  static constexpr Step wait(State as_before) { return {as_before, Verdict::wait}; }
  static constexpr Step refused(State as_before, Errc why) { return {as_before, Verdict::refused, why}; }
};

}  // namespace taskpool::store
