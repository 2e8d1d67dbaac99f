#pragma once

#include "daemon/store/primitive.hpp"

namespace taskpool::store {

/// The bounds of a queue: how many items it may hold and how many are unfinished. The items are in its list; `items` is
/// their number.
struct QueueState {
  std::uint64_t maxsize = 0;     ///< 0: no bound.
  std::uint64_t unfinished = 0;  ///< Items put and not yet marked by task_done.
  std::uint64_t items = 0;       ///< The list's count, not an aux word.
  friend constexpr bool operator==(const QueueState&, const QueueState&) = default;

  static constexpr QueueState from(const AuxWords& words, std::uint64_t items) { return {words[0], words[1], items}; }
  constexpr void write(AuxWords& words) const {
    words[0] = maxsize;
    words[1] = unfinished;
  }
};

constexpr bool is_full(const QueueState& state) { return state.maxsize > 0 && state.items >= state.maxsize; }

constexpr Step<QueueState> put(QueueState state) {
  using S = Step<QueueState>;
  if (is_full(state)) return S::wait(state);
  ++state.items;
  ++state.unfinished;
  return S::done(state);
}

constexpr Step<QueueState> get(QueueState state) {
  using S = Step<QueueState>;
  if (state.items == 0) return S::wait(state);
  --state.items;
  return S::done(state);
}

/// One item, got by anyone, was dealt with. Error: `out_of_range` (called more often than there were items).
constexpr Step<QueueState> task_done(QueueState state) {
  using S = Step<QueueState>;
  if (state.unfinished == 0) return S::refused(state, Errc::out_of_range);
  --state.unfinished;
  return S::done(state);
}

/// Waits until every item put was marked by task_done.
constexpr Step<QueueState> join(QueueState state) {
  using S = Step<QueueState>;
  return state.unfinished == 0 ? S::done(state) : S::wait(state);
}

}  // namespace taskpool::store
