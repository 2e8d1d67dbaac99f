#include "daemon/store/sync.hpp"

#include <algorithm>

#include "daemon/store/sync_waiting.hpp"

namespace taskpool::store {

using std::chrono::milliseconds;

// Words

Result<AuxWords> Sync::words(Transaction& tx, ObjectId object) {
  const auto found = writer_.info(tx, object);
  if (!found) return found.error();
  return std::to_array(found->aux);
}

Result<void> Sync::set_words(Transaction& tx, ObjectId object, const AuxWords& before, const AuxWords& after) {
  for (std::size_t index = 0; index < after.size(); ++index) {
    if (after[index] == before[index]) continue;
    if (auto set = writer_.set_aux(tx, object, index, after[index]); !set) return set;
  }
  return boost::system::in_place_value;
}

// Requests

bool Sync::run(const SyncCall& call, const ItemView& item) {
  const auto done = [&]() -> Result<void> {
    if (waits(call.code) && waiters_.find(call.owner.session, call.request()) != nullptr)
      return fail(Errc::bad_message, "request: one of this number waits already");
    switch (call.code) {  // those that do more than one thing
      case Code::condition_wait: return wait_on_condition(call);
      case Code::condition_notify: return notify(call);
      case Code::barrier_wait: return wait_at_barrier(call);
      case Code::barrier_acted:
      case Code::barrier_reset:
      case Code::barrier_abort: return change_barrier(call);
      default: return waits(call.code) ? try_or_wait(call, item) : act_once(call);
    }
  }();
  if (!done && done.error().errc() == Errc::busy) return false;
  if (!done) call.reply.error(done.error());
  return true;
}

Result<void> Sync::act_once(const SyncCall& call) {
  SyncAnswer result;
  Effects effects;
  auto done = with_work(call.object, [&]() -> Result<void> {
    result = {};
    effects = {};
    auto tx = host_.begin();
    auto acted = act(tx, call, result, effects);
    if (!acted || effects.reads_only) return acted;
    acted = host_.note(tx, call.owner.session, call.request());
    return acted ? tx.commit() : acted;
  });
  if (!done) return done;
  remember(effects);
  answer(call.reply, result);
  if (effects.reads_only) return done;
  if (call.code != Code::release) host_.changed(call.object);
  settle(effects.object == ObjectId::none ? call.object : effects.object);
  return boost::system::in_place_value;
}

Result<void> Sync::act(Transaction& tx, const SyncCall& call, SyncAnswer& answer, Effects& effects) {
  switch (call.code) {
    case Code::release:
      if (call.type == ObjectType::semaphore || call.type == ObjectType::bounded_semaphore)
        return release_units(tx, call, effects);
      return release_lock(tx, call, effects);
    case Code::task_done: return act_queue(tx, call);
    case Code::event_set:
    case Code::event_clear: return act_event(tx, call);
    case Code::sync_state:
    case Code::event_is_set:
    case Code::barrier_state: effects.reads_only = true; return read_state(tx, call, answer);
    default: return fail(Errc::bad_message, "no operation of this object");
  }
}

Result<void> Sync::try_or_wait(const SyncCall& call, const ItemView& item) {
  SyncAnswer result;
  Effects effects;
  Place place;
  bool is_done = false;
  auto done = with_work(call.object, [&]() -> Result<void> {
    result = {};
    effects = {};
    auto tx = host_.begin();
    const auto found = place_for(tx, call);
    if (!found) return found.error();
    place = *found;
    const bool others_wait = waiters_.front(place) != nullptr;
    const auto tried = attempt(tx, {.call = call, .item = item, .others_wait = others_wait}, result, effects);
    if (!tried) return tried.error();
    is_done = *tried;
    if (!is_done) return boost::system::in_place_value;
    auto noted = host_.note(tx, call.owner.session, call.request());
    return noted ? tx.commit() : noted;
  });
  if (!done) return done;
  if (is_done) {
    remember(effects);
    answer(call.reply, result);
    if (call.code == Code::queue_put || call.code == Code::queue_get) {
      host_.changed(call.object);
      settle(call.object);
    }
    return done;
  }
  if (call.timeout == milliseconds{0}) return refusal(Errc::timed_out);
  auto waiting = std::make_unique<Waiting>(call);
  if (call.code == Code::queue_put) {
    const auto& bytes = waiting_bytes_[call.owner.session];
    if (item.value.size() > kMaxWaitingBytes - std::min(bytes, kMaxWaitingBytes))
      return fail(Errc::limit_reached, "the items that this session waits to put: above 64 MiB");
    waiting->value.assign(item.value.begin(), item.value.end());
    waiting->refs.assign(item.refs.begin(), item.refs.end());
    waiting->encoding = item.encoding;
    waiting->writer_uid = item.writer_uid;
  }
  if (auto noted = note_waiting(*waiting); !noted) return noted;
  if (!waiting->value.empty()) waiting_bytes_[call.owner.session] += waiting->value.size();
  enqueue(std::move(waiting), place);
  return done;
}

Result<bool> Sync::attempt(Transaction& tx, const Attempt& what, SyncAnswer& answer, Effects& effects) {
  switch (what.call.code) {
    case Code::acquire:
      if (what.call.type == ObjectType::semaphore || what.call.type == ObjectType::bounded_semaphore)
        return attempt_unit(tx, what, answer, effects);
      return attempt_lock(tx, what, answer, effects);
    case Code::condition_wait: return attempt_lock(tx, what, answer, effects);
    case Code::event_wait: return attempt_event(tx, what);
    default: return attempt_queue(tx, what, answer);
  }
}

void Sync::answer(const Reply& reply, const SyncAnswer& answer) {
  const auto& numbers = answer.numbers;
  if (!answer.body.empty()) return reply.result(answer.body);
  switch (answer.count) {
    case 0: return reply.done();
    case 1: return reply.integers({numbers[0]});
    case 2: return reply.integers({numbers[0], numbers[1]});
    default: return reply.integers({numbers[0], numbers[1], numbers[2]});
  }
}

// Waiting

Result<Place> Sync::place_for(Transaction& tx, const SyncCall& call) {
  switch (call.code) {
    case Code::acquire: {
      if (call.type != ObjectType::condition) return place_of(call.object, Lane::acquire);
      const auto lock = lock_of(tx, call.object, call.type);
      if (!lock) return lock.error();
      return place_of(lock->object, Lane::acquire);
    }
    case Code::condition_wait: return place_of(call.object, Lane::notify);
    case Code::barrier_wait: return place_of(call.object, Lane::arrive);
    case Code::event_wait: return place_of(call.object, Lane::set);
    case Code::queue_put: return place_of(call.object, Lane::put);
    case Code::queue_get: return place_of(call.object, Lane::get);
    default: return place_of(call.object, Lane::join);
  }
}

void Sync::set_deadline(Waiting& waiting, std::optional<milliseconds> timeout) {
  if (!timeout) return waiters_.set_deadline(waiting, std::nullopt);
  const auto before = waiters_.next_deadline();
  const auto deadline = host_.now() + *timeout;
  waiters_.set_deadline(waiting, deadline);
  if (!before || deadline < *before) host_.deadline_changed();
}

Sync::Waiting& Sync::enqueue(std::unique_ptr<Waiting> waiting, Place place) {
  const auto timeout = waiting->call.timeout;
  waiting->since_ms = host_.unix_ms();
  auto& kept = static_cast<Waiting&>(waiters_.add(std::move(waiting), place, std::nullopt));
  if (timeout) set_deadline(kept, timeout);
  return kept;
}

bool Sync::serve(Place place) {
  auto* const front = waiters_.front(place);
  if (front == nullptr || !host_.may_change(static_cast<ObjectId>(place.object))) return false;
  auto& waiting = static_cast<Waiting&>(*front);
  SyncAnswer result;
  Effects effects;
  bool is_served = false;
  const auto serve_once = [&]() -> Result<void> {
    result = {};
    effects = {};
    auto tx = host_.begin();
    if (auto noted = note_done(tx, waiting); !noted) return noted;  // first: it may have to be tried again
    const Attempt again{.call = waiting.call,
                        .item = waiting.item(),
                        .depth = waiting.depth,
                        .order = waiting.order,
                        .others_wait = false};
    const auto tried = attempt(tx, again, result, effects);
    if (!tried) return tried.error();
    is_served = *tried;
    return is_served ? tx.commit() : boost::system::in_place_value;
  };
  const auto done = with_work(static_cast<ObjectId>(waiting.owner.session),
                              [&] { return with_work(waiting.call.object, serve_once); });
  if (!done && done.error().errc() == Errc::busy) {
    settle_later(static_cast<ObjectId>(place.object));
    return false;
  }
  if (!done) {
    conclude(waiting, done.error());
    return true;
  }
  if (!is_served) return false;
  remember(effects);
  if (waiting.call.code == Code::queue_get || waiting.call.code == Code::queue_put) host_.changed(waiting.call.object);
  if (waiting.call.code == Code::condition_wait) {
    if (waiting.ending == Errc::cancelled) {
      end_wait(waiting, refusal(Errc::cancelled));
      return true;
    }
    result.numbers = {waiting.ending == Errc::ok, result.numbers[0]};
    result.count = 2;
  }
  end_wait(waiting, result);
  return true;
}

void Sync::settle(ObjectId object) {
  if (waiters_.size() == 0) return;
  std::size_t budget = kSlice;
  settle_some(object, budget);
  tell_some(budget);
  if (budget > 0) return;
  unsettled_.push_back(object);
  host_.more();
}

void Sync::settle_some(ObjectId object, std::size_t& budget) {
  for (bool again = true; again && budget > 0;) {
    again = false;
    for (const auto lane : {Lane::acquire, Lane::set, Lane::get, Lane::put, Lane::join})
      while (budget > 0 && serve(place_of(object, lane))) {
        --budget;
        again = lane == Lane::get || lane == Lane::put;  // each makes room for the other
      }
  }
}

void Sync::settle_later(ObjectId object) {
  unsettled_.push_back(object);
  host_.more();
}

void Sync::conclude(Waiting& waiting, const SyncAnswer& answer) {
  waiting.answer = answer;
  waiters_.move(waiting, kTold);
  host_.more();
}

void Sync::conclude(Waiting& waiting, Error error) {
  waiting.error = std::move(error);
  waiters_.move(waiting, kTold);
  host_.more();
}

void Sync::tell_some(std::size_t& budget) {
  while (budget > 0) {
    const auto those = waiters_.first(kTold, std::min(budget, kTogether));
    if (those.empty()) return;
    ObjectId record = ObjectId::none;  // that was changed last
    const auto note = [&]() -> Result<void> {
      auto tx = host_.begin();
      for (auto* const waiter : those) {
        record = static_cast<ObjectId>(waiter->owner.session);
        if (auto noted = note_done(tx, static_cast<Waiting&>(*waiter)); !noted) return noted;
      }
      return tx.commit();
    };
    auto noted = note();
    for (std::size_t tries = 0; !noted && noted.error().errc() == Errc::busy && tries < those.size(); ++tries)
      noted = with_work(record, note);
    if (!noted && noted.error().errc() == Errc::busy) return host_.more();
    // An entry that has to stay behind goes with its session.
    for (auto* const waiter : those) {
      auto& waiting = static_cast<Waiting&>(*waiter);
      --budget;
      if (const auto error = std::move(waiting.error))
        end_wait(waiting, *error);
      else
        end_wait(waiting, SyncAnswer{waiting.answer});
    }
  }
}

void Sync::end_wait(Waiting& waiting, const SyncAnswer& result) {
  const auto ended = take(waiting);
  if (ended->present) return answer(ended->call.reply, result);
  kept_[ended->owner.session][ended->request] = {result, std::nullopt};
}

void Sync::end_wait(Waiting& waiting, const Error& error) {
  const auto ended = take(waiting);
  if (ended->present) return ended->call.reply.error(error);
  kept_[ended->owner.session][ended->request] = {{}, error};
}

std::unique_ptr<Sync::Waiting> Sync::take(Waiting& waiting) {
  if (!waiting.value.empty()) waiting_bytes_[waiting.owner.session] -= waiting.value.size();
  return std::unique_ptr<Waiting>{static_cast<Waiting*>(waiters_.remove(waiting).release())};
}

// The end of a wait

bool Sync::cancel(std::uint64_t session, std::uint64_t request) {
  auto* const found = waiters_.find(session, request);
  if (found == nullptr || found->place == kTold) return false;
  leave(static_cast<Waiting&>(*found), Errc::cancelled);
  std::size_t budget = kSlice;
  tell_some(budget);
  return true;
}

void Sync::leave(Waiting& waiting, Errc why) {
  switch (waiting.place.lane) {
    case Lane::told: return;
    case Lane::arrive: (void)barrier_event(waiting.call.object, BarrierEvent::left); return;  // all of them are told
    case Lane::notify: {
      waiting.ending = why;
      const auto lock = waiting.lock;
      waiters_.move(waiting, place_of(lock, Lane::acquire));
      return settle(lock);
    }
    default: break;
  }
  if (waiting.call.code == Code::condition_wait) return;  // it was notified already, and only waits for its lock
  conclude(waiting, refusal(why));
}

void Sync::expire() {
  const auto now = host_.now();
  for (std::size_t budget = kSlice; budget > 0; --budget) {
    auto* const late = waiters_.expired(now);
    if (late == nullptr) break;
    waiters_.set_deadline(*late, std::nullopt);
    leave(static_cast<Waiting&>(*late), Errc::timed_out);
  }
  std::size_t budget = kSlice;
  tell_some(budget);
}

void Sync::work() {
  std::size_t budget = kSlice;
  tell_some(budget);
  for (auto left = unsettled_.size(); budget > 0 && left > 0; --left) {  // it may get more of them, for the next turn
    const auto object = unsettled_.front();
    settle_some(object, budget);
    if (budget > 0) unsettled_.pop_front();
  }
  while (budget > 0 && !ended_.empty()) {
    if (!end_some(ended_.front().session, budget)) break;
    const auto done = std::move(ended_.front().done);
    ended_.pop_front();
    if (done) done();
  }
  tell_some(budget);
  if (!unsettled_.empty() || !ended_.empty() || waiters_.count(kTold) > 0) host_.more();
}

}  // namespace taskpool::store
