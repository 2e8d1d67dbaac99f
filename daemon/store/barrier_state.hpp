#pragma once

#include "daemon/store/primitive.hpp"

namespace taskpool::store {

/// A barrier, as threading.Barrier. Who waits is in its lane in order of arrival; the first `parties` there are the
/// next to pass. A barrier with an action asks the last of them to run it (the daemon cannot), while the others go on
/// waiting.
struct BarrierState {
  enum class Phase : std::uint8_t { filling, acting, broken };

  std::uint32_t parties = 1;
  bool has_action = false;
  Phase phase = Phase::filling;
  std::uint64_t actor = 0;  ///< `acting`: the session that runs the action.
  friend constexpr bool operator==(const BarrierState&, const BarrierState&) = default;

  // aux: parties in the low half, phase in the next byte, has_action in bit 40; the actor. The others are not ours.
  static constexpr BarrierState from(const AuxWords& words) {
    const auto phase = static_cast<std::uint8_t>(words[0] >> 32);
    return {static_cast<std::uint32_t>(words[0]), ((words[0] >> 40) & 1) != 0,
            phase <= 2 ? static_cast<Phase>(phase) : Phase::broken, words[1]};
  }
  constexpr void write(AuxWords& words) const {
    words[0] = parties | std::uint64_t{static_cast<std::uint8_t>(phase)} << 32 | std::uint64_t{has_action} << 40;
    words[1] = actor;
  }
};

enum class BarrierEvent : std::uint8_t {
  arrived,  ///< Somebody came to the end of the lane.
  acted,    ///< The actor has run the action.
  left,     ///< One who waited timed out, gave up or died; or the actor's action failed, or he died.
  reset,    ///< Who waits gets `broken`; the barrier is as new.
  aborted,  ///< Who waits gets `broken`, and so does everybody until a reset.
};

enum class BarrierAction : std::uint8_t {
  none,
  pass,   ///< The first `parties` in the lane are answered with their places. More of them may follow: ask again with
          ///< `arrived`.
  elect,  ///< The one at place `parties - 1` is taken out of the lane and told to run the action.
  pass_rest,  ///< The first `parties - 1` in the lane are answered with their places; then as for `pass`.
  break_all,  ///< All in the lane are answered `broken`.
  refuse,     ///< The event was out of place: `broken` for the one it came from.
};

struct BarrierStep {
  BarrierState state;
  BarrierAction action = BarrierAction::none;
};

/// `waiting`: how many are in the lane, a newcomer included. `session`: who does it, where that matters (`arrived`
/// elects the one at the last place, whoever came: the caller sets `actor`).
constexpr BarrierStep step(BarrierState state, BarrierEvent event, std::uint64_t waiting, std::uint64_t session = 0) {
  using P = BarrierState::Phase;
  using E = BarrierEvent;
  using A = BarrierAction;
  const auto broken = [&] {
    state.phase = P::broken;
    state.actor = 0;
    return BarrierStep{state, A::break_all};
  };
  switch (event) {
    case E::arrived:
      if (state.phase == P::broken) return {state, A::break_all};
      if (state.phase == P::acting || waiting < state.parties) return {state, A::none};
      if (!state.has_action) return {state, A::pass};
      state.phase = P::acting;
      return {state, A::elect};
    case E::acted:
      if (state.phase != P::acting || state.actor != session) return {state, A::refuse};
      state.phase = P::filling;
      state.actor = 0;
      return {state, A::pass_rest};
    case E::left:
      if (state.phase == P::broken) return {state, A::none};
      return broken();
    case E::reset:
      state.phase = P::filling;
      state.actor = 0;
      return {state, A::break_all};
    case E::aborted: return broken();
  }
  return {state, A::none};
}

}  // namespace taskpool::store
