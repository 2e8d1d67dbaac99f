#pragma once

#include <algorithm>

#include "daemon/store/primitive.hpp"

namespace taskpool::store {

/// A semaphore or bounded_semaphore. Who holds units of a bounded one is in its index, by owner: holders.hpp.
struct SemaphoreState {
  std::uint64_t value = 1;
  std::uint64_t bound = kMaxSemaphore;  ///< The value may not rise above it.
  std::uint64_t abandoned = 0;          ///< Units whose holder's session died; the next ones to acquire are told so.
  friend constexpr bool operator==(const SemaphoreState&, const SemaphoreState&) = default;

  /// As SEM_VALUE_MAX.
  static constexpr std::uint64_t kMaxSemaphore = 0x7fffffff;

  static constexpr SemaphoreState from(const AuxWords& words) { return {words[0], words[1], words[2]}; }
  constexpr void write(AuxWords& words) const {
    words[0] = value;
    words[1] = bound;
    words[2] = abandoned;
  }
};

constexpr Step<SemaphoreState> acquire(SemaphoreState state) {
  using S = Step<SemaphoreState>;
  if (state.value == 0) return S::wait(state);
  --state.value;
  const bool owner_died = state.abandoned > 0;
  if (owner_died) --state.abandoned;
  return S::done(state, owner_died);
}

/// Error: `out_of_range`; nothing is released then.
constexpr Step<SemaphoreState> release(SemaphoreState state, std::uint64_t units = 1) {
  using S = Step<SemaphoreState>;
  if (state.value > state.bound || units > state.bound - state.value) return S::refused(state, Errc::out_of_range);
  state.value += units;
  return S::done(state);
}

/// The session that held `units` is gone.
constexpr SemaphoreState abandon(SemaphoreState state, std::uint64_t units) {
  const auto room = state.bound - std::min(state.value, state.bound);
  state.value += std::min(units, room);
  state.abandoned = std::min(state.abandoned + units, state.value);
  return state;
}

}  // namespace taskpool::store
