#include <algorithm>

#include "daemon/store/queue_state.hpp"
#include "daemon/store/semaphore_state.hpp"
#include "daemon/store/sync_waiting.hpp"

/// Events, barriers, queues; and the states that all of them show.
namespace taskpool::store {

// Events

Result<bool> Sync::attempt_event(Transaction& tx, const Attempt& what) {
  const auto event = words(tx, what.call.object);
  if (!event) return event.error();
  return (*event)[kIsSet] != 0 || what.order <= (*event)[kSeenBy];
}

Result<void> Sync::act_event(Transaction& tx, const SyncCall& call) {
  const bool set = call.code == Code::event_set;
  if (auto done = writer_.set_aux(tx, call.object, kIsSet, set); !done || !set) return done;
  return writer_.set_aux(tx, call.object, kSeenBy, waiters_.last_order());
}

// Queues

Result<bool> Sync::attempt_queue(Transaction& tx, const Attempt& what, SyncAnswer& answer) {
  const auto& call = what.call;
  if (what.others_wait && call.code != Code::queue_join) return false;
  const auto queue = writer_.info(tx, call.object);
  if (!queue) return queue.error();
  const auto before = std::to_array(queue->aux);
  const auto state = QueueState::from(before, queue->count);
  if (call.code == Code::queue_join) return join(state).verdict == Verdict::done;
  const bool puts = call.code == Code::queue_put;
  const auto next = puts ? put(state) : get(state);
  if (next.verdict == Verdict::wait) return false;
  const auto moved =
      puts ? host_.push(tx, call.object, what.item) : host_.pop(tx, call.object, call.owner.session, answer.body);
  if (!moved) return moved.error();
  auto after = before;
  next.state.write(after);
  if (const auto set = set_words(tx, call.object, before, after); !set) return set.error();
  return true;
}

Result<void> Sync::act_queue(Transaction& tx, const SyncCall& call) {
  const auto before = words(tx, call.object);
  if (!before) return before.error();
  const auto next = task_done(QueueState::from(*before, 0));
  if (next.verdict == Verdict::refused) return fail(next.error, "task_done: called more often than there were items");
  auto after = *before;
  next.state.write(after);
  return set_words(tx, call.object, *before, after);
}

// States

Result<void> Sync::read_state(Transaction& tx, const SyncCall& call, SyncAnswer& answer) {
  const auto own = words(tx, call.object);
  if (!own) return own.error();
  const auto count = [&](ObjectId object, Lane lane) {
    return static_cast<std::int64_t>(waiters_.count(place_of(object, lane)));
  };
  switch (call.type) {
    case ObjectType::event:
      answer.numbers = {(*own)[kIsSet] != 0};
      answer.count = 1;
      break;
    case ObjectType::barrier: {
      const auto state = BarrierState::from(*own);
      const bool broken = state.phase == BarrierState::Phase::broken;
      answer.numbers = {state.parties, broken ? 0 : count(call.object, Lane::arrive), broken};
      answer.count = 3;
      break;
    }
    case ObjectType::semaphore:
    case ObjectType::bounded_semaphore:
      answer.numbers = {static_cast<std::int64_t>(SemaphoreState::from(*own).value), count(call.object, Lane::acquire)};
      answer.count = 2;
      break;
    default: {
      const auto lock = lock_of(tx, call.object, call.type);
      if (!lock) return lock.error();
      answer.numbers = {!lock->state().is_held(), count(lock->object, Lane::acquire)};
      answer.count = 2;
    }
  }
  return boost::system::in_place_value;
}

// Barriers

Result<void> Sync::wait_at_barrier(const SyncCall& call) {
  {
    auto tx = host_.begin();
    const auto own = words(tx, call.object);
    if (!own) return own.error();
    if (BarrierState::from(*own).phase == BarrierState::Phase::broken) return refusal(Errc::broken);
  }
  auto made = std::make_unique<Waiting>(call);
  if (auto noted = note_waiting(*made); !noted) return noted;
  auto& waiting = enqueue(std::move(made), place_of(call.object, Lane::arrive));
  const auto request = waiting.request;
  if (const auto done = barrier_event(call.object, BarrierEvent::arrived); !done) conclude(waiting, done.error());
  auto* const still = waiters_.find(call.owner.session, request);
  if (still != nullptr && still->place.lane == Lane::arrive && call.timeout == std::chrono::milliseconds{0})
    leave(static_cast<Waiting&>(*still), Errc::timed_out);
  std::size_t budget = kSlice;
  tell_some(budget);
  return boost::system::in_place_value;
}

Result<void> Sync::change_barrier(const SyncCall& call) {
  const auto event = call.code == Code::barrier_reset   ? BarrierEvent::reset
                     : call.code == Code::barrier_abort ? BarrierEvent::aborted
                     : call.number != 0                 ? BarrierEvent::acted
                                                        : BarrierEvent::left;
  auto done = barrier_event(call.object, event, &call);
  if (!done) return done;
  call.reply.done();
  std::size_t budget = kSlice;
  tell_some(budget);
  return done;
}

Result<void> Sync::barrier_event(ObjectId barrier, BarrierEvent event, const SyncCall* call) {
  const auto lane = place_of(barrier, Lane::arrive);
  for (;;) {
    auto tx = host_.begin();
    const auto own = words(tx, barrier);
    if (!own) return own.error();
    const auto before = BarrierState::from(*own);
    auto next = step(before, event, waiters_.count(lane), call != nullptr ? call->owner.session : 0);
    if (next.action == BarrierAction::refuse) return refusal(Errc::broken);
    const std::size_t passing = next.action == BarrierAction::pass        ? before.parties
                                : next.action == BarrierAction::pass_rest ? before.parties - std::size_t{1}
                                                                          : 0;
    auto* const elected =
        next.action == BarrierAction::elect ? waiters_.nth(lane, before.parties - std::size_t{1}) : nullptr;
    if (elected != nullptr) next.state.actor = elected->owner.session;
    auto after = *own;
    next.state.write(after);
    if (auto* const last = passing > 0 ? waiters_.nth(lane, passing - 1) : nullptr; last != nullptr)
      after[kPassed] = last->order;
    if (next.action == BarrierAction::break_all) after[kBroke] = waiters_.last_order();
    auto done = set_words(tx, barrier, *own, after);
    if (done && call != nullptr) done = host_.note(tx, call->owner.session, call->request());
    if (done) done = tx.commit();
    if (!done) return done;
    if (before.actor != next.state.actor)
      remember({.object = barrier, .gained = {next.state.actor, 0}, .lost = {before.actor, 0}});

    if (elected != nullptr)
      conclude(static_cast<Waiting&>(*elected),
               SyncAnswer{.numbers = {before.parties - std::int64_t{1}, 1}, .count = 2});
    std::int64_t index = 0;
    const auto told = waiters_.move_first(lane, kTold, passing, [&](Waiter& waiter) {
      static_cast<Waiting&>(waiter).answer = {.numbers = {index++, 0}, .count = 2};
    });
    const auto broken = next.action != BarrierAction::break_all
                            ? 0
                            : waiters_.move_first(lane, kTold, waiters_.size(), [](Waiter& waiter) {
                                static_cast<Waiting&>(waiter).error = refusal(Errc::broken);
                              });
    if (told + broken > 0) host_.more();
    // Those of the next round may have come already.
    if (next.action != BarrierAction::pass && next.action != BarrierAction::pass_rest) return done;
    if (waiters_.count(lane) < before.parties) return done;
    event = BarrierEvent::arrived;
    call = nullptr;
  }
}

}  // namespace taskpool::store
