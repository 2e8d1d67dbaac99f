#pragma once

#include <limits>

#include "daemon/store/primitive.hpp"

namespace taskpool::store {

/// A lock, an rlock, or the lock inside a condition. As in multiprocessing: anyone may release a lock, only the owner
/// an rlock; whoever acquires a lock twice waits for himself.
struct LockState {
  Owner holder;             ///< Of a lock too, for its lease and for people.
  std::uint32_t depth = 0;  ///< How often an rlock's holder has acquired it; 1 for a held lock; 0: free.
  bool abandoned = false;   ///< The last holder's session died; the next one is told so.
  std::uint64_t since = 0;  ///< When the holder came. Unix time, milliseconds.
  friend constexpr bool operator==(const LockState&, const LockState&) = default;

  constexpr bool is_held() const { return depth > 0; }

  // aux: holder's session; thread in the low half, depth in 31 bits of the high one, `abandoned` in the highest; since;
  // [3] is not ours.
  static constexpr LockState from(const AuxWords& words) {
    return {{words[0], static_cast<std::uint32_t>(words[1])},
            static_cast<std::uint32_t>(words[1] >> 32) & kMaxDepth,
            (words[1] >> 63) != 0,
            words[2]};
  }
  constexpr void write(AuxWords& words) const {
    words[0] = holder.session;
    words[1] = std::uint64_t{holder.thread} | std::uint64_t{depth} << 32 | std::uint64_t{abandoned} << 63;
    words[2] = since;
  }

  static constexpr std::uint32_t kMaxDepth = 0x7fffffff;
};

/// `recursive`: an rlock. `times`: how deep the holder shall have it; above 1 only for a wait on a condition that takes
/// back what it gave up. Error: `limit_reached` (kMaxDepth).
constexpr Step<LockState> acquire(LockState state, bool recursive, Owner owner, std::uint64_t now,
                                  std::uint32_t times = 1) {
  using S = Step<LockState>;
  if (!state.is_held()) return S::done({owner, times, false, now}, state.abandoned);
  if (!recursive || state.holder != owner) return S::wait(state);
  if (times > LockState::kMaxDepth - state.depth) return S::refused(state, Errc::limit_reached);
  state.depth += times;
  return S::done(state);
}

/// Error: `not_owner` (an rlock of another owner, or a lock that nobody holds).
constexpr Step<LockState> release(LockState state, bool recursive, Owner owner) {
  using S = Step<LockState>;
  if (!state.is_held() || (recursive && state.holder != owner)) return S::refused(state, Errc::not_owner);
  if (--state.depth == 0) state = {};
  return S::done(state);
}

/// True if this owner may wait on or notify a condition with this lock. Anyone may while a lock that is no rlock is
/// held: as in Python.
constexpr bool may_use_condition(const LockState& state, bool recursive, Owner owner) {
  return state.is_held() && (!recursive || state.holder == owner);
}

/// Gives it up at whatever depth, for a wait on a condition: the caller keeps the depth, to take it back.
constexpr LockState give_up(LockState) { return {}; }

/// The holder's session is gone.
constexpr LockState abandon(LockState state, std::uint64_t session) {
  if (!state.is_held() || state.holder.session != session) return state;
  return {.abandoned = true};
}

}  // namespace taskpool::store
