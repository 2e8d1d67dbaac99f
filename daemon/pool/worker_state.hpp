#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace taskpool::pool {

/// Where a worker is in its life.
enum class WorkerState : std::uint8_t {
  starting,  ///< Forked; its initializer runs.
  working,   ///< Takes tasks.
  retiring,  ///< Finishes what it holds, then is stopped.
  stopping,  ///< Was told to end.
  dead,
};

enum class WorkerEvent : std::uint8_t {
  ready,         ///< It takes work.
  retire_asked,  ///< It is to be replaced or is one too many.
  emptied,       ///< It holds no task any more.
  stop_asked,    ///< It is to end now.
  exited,
};

/// What the pool does at a step.
enum class WorkerAction : std::uint8_t {
  none,
  offer_work,
  stop,        ///< Close its channel, which ends it.
  clean_up,    ///< It ended as asked.
  fail_tasks,  ///< It died: what it ran is lost, the rest goes back.
  back_off,    ///< It died before it was ready: wait before the next try.
};

struct WorkerStep {
  WorkerState next;
  WorkerAction action;
};

/// The life of a worker, as a table. No step means that this cannot happen here; the pool logs it as a bug. Making a
/// replacement is no step: the pool tops itself up.
constexpr std::optional<WorkerStep> step(WorkerState state, WorkerEvent event) {
  using S = WorkerState;
  using E = WorkerEvent;
  using A = WorkerAction;
  switch (event) {
    case E::ready:
      if (state == S::starting) return WorkerStep{S::working, A::offer_work};
      if (state == S::stopping) return WorkerStep{S::stopping, A::none};
      break;
    case E::retire_asked:
      if (state == S::working) return WorkerStep{S::retiring, A::none};
      if (state == S::starting) return WorkerStep{S::stopping, A::stop};
      return WorkerStep{state, A::none};
    case E::emptied:
      if (state == S::retiring) return WorkerStep{S::stopping, A::stop};
      return WorkerStep{state, A::none};
    case E::stop_asked:
      if (state == S::dead || state == S::stopping) return WorkerStep{state, A::none};
      return WorkerStep{S::stopping, A::stop};
    case E::exited:
      if (state == S::starting) return WorkerStep{S::dead, A::back_off};
      if (state == S::stopping) return WorkerStep{S::dead, A::clean_up};
      if (state != S::dead) return WorkerStep{S::dead, A::fail_tasks};
      break;
  }
  return std::nullopt;
}
static_assert(step(WorkerState::working, WorkerEvent::exited)->action == WorkerAction::fail_tasks);
static_assert(!step(WorkerState::dead, WorkerEvent::ready));

constexpr std::string_view name(WorkerState state) {
  switch (state) {
    case WorkerState::starting: return "starting";
    case WorkerState::working: return "working";
    case WorkerState::retiring: return "retiring";
    case WorkerState::stopping: return "stopping";
    case WorkerState::dead: return "dead";
  }
  return "";
}

}  // namespace taskpool::pool
