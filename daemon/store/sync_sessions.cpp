#include <algorithm>

#include "daemon/store/semaphore_state.hpp"
#include "daemon/store/sync_waiting.hpp"
#include "proto/frame.hpp"
#include "proto/store/key.hpp"

/// Who holds and waits: leases of sessions that die, and what a new daemon finds.
namespace taskpool::store {

namespace {

/// In a session's record, under the number of a request that waits (8 bytes): for what.
struct PendingEntry {
  std::uint64_t object;
  std::uint64_t order;
  std::uint64_t lock;
  std::uint32_t thread;
  std::uint32_t depth;
  std::uint16_t code;
  std::uint16_t type;
  std::uint32_t zero;
};
static_assert(sizeof(PendingEntry) == 40);

KeyBuffer key_of(std::uint64_t request) {
  KeyBuffer key;
  (void)key.set_bytes(std::as_bytes(std::span{&request, 1}));  // it is short enough
  return key;
}

/// The bytes of a key of kind `bytes` and that length, else nothing.
template <std::size_t length>
const std::byte* bytes_of(KeyView key) {
  const bool is_one = key.size() == length + 1 && key[0] == static_cast<std::byte>(KeyKind::bytes);
  return is_one ? key.data() + 1 : nullptr;
}

constexpr std::size_t kRestoreSteps = 1024;

}  // namespace

// Requests that wait, in their session's record

Result<void> Sync::note_waiting(Waiting& waiting) {
  const auto session = waiting.owner.session;
  const auto note = [&]() -> Result<void> {
    auto tx = host_.begin();
    auto noted = note_pending(tx, waiting);
    return noted ? tx.commit() : noted;
  };
  waiting.order = waiters_.last_order() + 1;
  if (waiters_.count_of(session) < kMaxNoted) {
    auto noted = with_work(static_cast<ObjectId>(session), note);
    if (!noted && noted.error().errc() == Errc::busy) return noted;
    waiting.noted = noted.has_value();
  }
  if (!waiting.noted) note_loss(session);
  return boost::system::in_place_value;
}

void Sync::note_loss(std::uint64_t session) {
  auto tx = host_.begin();
  if (writer_.set_aux(tx, static_cast<ObjectId>(session), kLossy, 1)) (void)tx.commit();  // it needs no room
}

bool Sync::is_lossy(std::uint64_t session) {
  auto tx = host_.begin();
  const auto record = words(tx, static_cast<ObjectId>(session));
  return !record || (*record)[kLossy] != 0;
}

Result<void> Sync::note_pending(Transaction& tx, const Waiting& waiting) {
  const PendingEntry entry{static_cast<std::uint64_t>(waiting.call.object),
                           waiting.order,
                           static_cast<std::uint64_t>(waiting.lock),
                           waiting.owner.thread,
                           waiting.depth,
                           static_cast<std::uint16_t>(waiting.call.code),
                           static_cast<std::uint16_t>(waiting.call.type),
                           0};
  const auto put = writer_.put(
      tx, static_cast<ObjectId>(waiting.owner.session), key_of(waiting.request),
      {.value = std::as_bytes(std::span{&entry, 1}), .encoding = static_cast<std::uint8_t>(Encoding::bytes)});
  if (!put) return put.error();
  return boost::system::in_place_value;
}

Result<void> Sync::note_done(Transaction& tx, const Waiting& waiting) {
  if (waiting.noted) {
    const auto erased = writer_.erase(tx, static_cast<ObjectId>(waiting.owner.session), key_of(waiting.request));
    if (!erased) return erased.error();
  }
  return host_.note(tx, waiting.owner.session, waiting.request);
}

// Who holds what

void Sync::remember(const Effects& effects) {
  const auto object = static_cast<std::uint64_t>(effects.object);
  if (effects.lost.session != 0) held_[effects.lost.session].erase(object);
  if (effects.gained.session != 0) held_[effects.gained.session].insert(object);
  for (const auto& [owner, change] : effects.units) {
    auto& holders = units_[object];
    const auto holder = holders.try_emplace(owner, Units{0, host_.unix_ms()}).first;
    holder->second.count += static_cast<std::uint64_t>(change);
    if (holder->second.count > 0) {
      held_[owner.session].insert(object);
      continue;
    }
    holders.erase(holder);
    const auto other = holders.lower_bound({owner.session, 0});  // of another thread
    if (other == holders.end() || other->first.session != owner.session) held_[owner.session].erase(object);
  }
}

Result<void> Sync::let_go(std::uint64_t session, ObjectId object) {
  auto tx = host_.begin();
  const auto found = writer_.info(tx, object);
  if (!found) return found.error();
  const auto before = std::to_array(found->aux);
  auto after = before;
  Effects effects{.object = object};
  switch (found->type) {
    case ObjectType::barrier:
      tx.abort();
      if (BarrierState::from(before).actor != session) return boost::system::in_place_value;
      return barrier_event(object, BarrierEvent::left);
    case ObjectType::bounded_semaphore: {
      const auto& holders = units_[static_cast<std::uint64_t>(object)];
      std::uint64_t units = 0;
      for (auto holder = holders.lower_bound({session, 0}); holder != holders.end() && holder->first.session == session;
           ++holder) {
        units += holder->second.count;
        effects.units.emplace_back(holder->first, -static_cast<std::int64_t>(holder->second.count));
        if (effects.units.size() == kTogether) break;  // more threads of it: the next time
      }
      abandon(SemaphoreState::from(before), units).write(after);
      if (auto written = write_units(tx, effects); !written) return written;
      break;
    }
    default: {
      const auto lock = LockState::from(before);
      abandon(lock, session).write(after);
      effects.lost = {session, 0};
    }
  }
  auto done = set_words(tx, object, before, after);
  if (done) done = tx.commit();
  if (done) remember(effects);
  return done;
}

// The end of a session

void Sync::end_session(std::uint64_t session, std::function<void()> done) {
  kept_.erase(session);
  ended_.push_back({session, std::move(done)});
  work();
}

bool Sync::end_some(std::uint64_t session, std::size_t& budget) {
  while (auto* const waiter = waiters_.any_of(session)) {
    if (budget == 0) return false;
    --budget;
    const auto place = waiter->place;
    const auto object = static_cast<Waiting&>(*waiter).call.object;
    take(static_cast<Waiting&>(*waiter));
    if (place.lane == Lane::arrive)
      (void)barrier_event(object, BarrierEvent::left);  // an object that is gone has nobody waiting
  }
  const auto held = held_.find(session);
  while (held != held_.end() && !held->second.empty()) {
    if (budget == 0) return false;
    --budget;
    const auto object = static_cast<ObjectId>(*held->second.begin());
    const auto gone = let_go(session, object);
    if (!gone && gone.error().errc() == Errc::busy) return false;  // it grows
    // Nothing that a full segment could refuse; an object that is gone holds nobody.
    if (!gone) held->second.erase(static_cast<std::uint64_t>(object));
    settle_later(object);
  }
  held_.erase(session);
  kept_.erase(session);
  waiting_bytes_.erase(session);
  return true;
}

void Sync::forget_object(ObjectId object) {
  const auto number = static_cast<std::uint64_t>(object);
  for (auto& [session, objects] : held_) objects.erase(number);
  units_.erase(number);
  std::erase(unsettled_, object);
  for (const auto lane : {Lane::acquire, Lane::notify, Lane::arrive, Lane::set, Lane::put, Lane::get, Lane::join})
    if (waiters_.move_first(place_of(object, lane), kTold, waiters_.size(), [](Waiter& waiter) {
          static_cast<Waiting&>(waiter).error = refusal(Errc::unknown_object);
        }) > 0)
      host_.more();
}

// After a restart

void Sync::restore() {
  std::vector<ObjectInfo> objects;
  std::vector<std::uint64_t> sessions;
  writer_.for_each_object([&](const ObjectInfo& object) {
    switch (object.type) {
      case ObjectType::session: sessions.push_back(static_cast<std::uint64_t>(object.id)); break;
      case ObjectType::lock:
      case ObjectType::rlock:
      case ObjectType::condition:
      case ObjectType::bounded_semaphore:
      case ObjectType::barrier: objects.push_back(object); break;
      default: break;
    }
  });
  for (const auto& object : objects) restore_holders(object);
  for (const auto session : sessions) restore_waiters(session);
  for (const auto& object : objects) settle_later(object.id);
}

void Sync::restore_holders(const ObjectInfo& object) {
  const auto own = std::to_array(object.aux);
  const auto number = static_cast<std::uint64_t>(object.id);
  switch (object.type) {
    case ObjectType::bounded_semaphore: {
      std::uint64_t position = 0;
      const auto visit = [&](const EntryView& entry) {
        const auto* const key = bytes_of<12>(entry.key);
        if (key == nullptr || entry.value.size() != 16) return;
        const Owner owner{load<std::uint64_t>(key), load<std::uint32_t>(key + 8)};
        units_[number][owner] = {load<std::uint64_t>(entry.value.data()), load<std::uint64_t>(entry.value.data() + 8)};
        held_[owner.session].insert(number);
      };
      while (writer_.visit_entries(object.id, position, kRestoreSteps, visit)) {
      }
      break;
    }
    case ObjectType::barrier:
      if (const auto actor = BarrierState::from(own).actor; actor != 0) held_[actor].insert(number);
      break;
    default:
      if (const auto lock = LockState::from(own); lock.is_held() && lock.holder.session != 0)
        held_[lock.holder.session].insert(number);
  }
}

void Sync::restore_waiters(std::uint64_t session) {
  std::vector<std::unique_ptr<Waiting>> found;
  std::uint64_t position = 0;
  const auto visit = [&](const EntryView& entry) {
    const auto* const key = bytes_of<8>(entry.key);
    if (key == nullptr || entry.value.size() != sizeof(PendingEntry)) return;
    const auto pending = load<PendingEntry>(entry.value.data());
    SyncCall call{.owner = {session, pending.thread},
                  .reply = Reply{{}, load<std::uint64_t>(key), false},
                  .object = static_cast<ObjectId>(pending.object),
                  .type = static_cast<ObjectType>(pending.type),
                  .code = static_cast<Code>(pending.code)};
    auto waiting = std::make_unique<Waiting>(call);
    waiting->order = pending.order;
    waiting->lock = static_cast<ObjectId>(pending.lock);
    waiting->depth = pending.depth;
    waiting->noted = true;
    waiting->present = false;
    found.push_back(std::move(waiting));
  };
  while (writer_.visit_entries(static_cast<ObjectId>(session), position, kRestoreSteps, visit)) {
  }
  for (auto& waiting : found) restore_waiter(std::move(waiting));
}

void Sync::restore_waiter(std::unique_ptr<Waiting> waiting) {
  // Only those whom something can happen to while they are away. The others are as good as new when they come again.
  const auto code = waiting->call.code;
  if (code != Code::condition_wait && code != Code::barrier_wait && code != Code::event_wait) return;
  const auto object = waiting->call.object;
  AuxWords own{};
  {
    auto tx = host_.begin();
    const auto found = writer_.info(tx, object);
    if (!found || found->type != waiting->call.type) return;
    own = std::to_array(found->aux);
  }
  const auto order = waiting->order;
  if (code == Code::event_wait) {
    waiters_.restore(std::move(waiting), place_of(object, Lane::set));
  } else if (code == Code::condition_wait) {
    const bool notified = order <= own[kNotified];
    const auto lock = waiting->lock;
    waiters_.restore(std::move(waiting), notified ? place_of(lock, Lane::acquire) : place_of(object, Lane::notify));
  } else {
    auto& restored = static_cast<Waiting&>(waiters_.restore(std::move(waiting), place_of(object, Lane::arrive)));
    if (order <= own[kBroke])
      conclude(restored, refusal(Errc::broken));
    else if (order <= own[kPassed])
      conclude(restored, fail(Errc::outcome_unknown, "the daemon restarted while the barrier let its parties pass"));
  }
}

Result<bool> Sync::repeat(const SyncCall& call, std::uint64_t applied) {
  const auto session = call.owner.session;
  const auto request = call.request();
  if (const auto kept = kept_.find(session); kept != kept_.end())
    if (const auto node = kept->second.extract(request); !node.empty()) {
      if (node.mapped().error)
        call.reply.error(*node.mapped().error);
      else
        answer(call.reply, node.mapped().answer);
      return true;
    }
  if (auto* const found = waiters_.find(session, request)) {
    auto& waiting = static_cast<Waiting&>(*found);
    if (waiting.present) return false;  // not a repetition, but a number that is used twice: it will be refused
    waiting.present = true;
    waiting.call.reply = call.reply;
    const auto lane = waiting.place.lane;
    if (lane == Lane::notify || lane == Lane::arrive || lane == Lane::set) set_deadline(waiting, call.timeout);
    return true;
  }
  bool is_pending = false;
  const auto take_entry = [&]() -> Result<void> {
    auto tx = host_.begin();
    const auto pending = writer_.erase(tx, static_cast<ObjectId>(session), key_of(request));
    if (!pending) return pending.error();
    is_pending = *pending;
    return tx.commit();
  };
  const auto taken = with_work(static_cast<ObjectId>(session), take_entry);
  if (!taken && taken.error().errc() == Errc::busy) return taken.error();
  // If it stays for another reason, it goes with its session.
  if (is_pending || request > applied) return false;  // it waited and was not served, or is new
  if (waits(call.code) && is_lossy(session)) {
    call.reply.error(Errc::outcome_unknown, "so many requests waited that it is not known whether this one was served");
    return true;
  }
  switch (call.code) {
    case Code::queue_get:
    case Code::barrier_wait:
      call.reply.error(Errc::outcome_unknown, "it was done, and its result is lost with the daemon");
      break;
    case Code::acquire: call.reply.integers({0}); break;
    case Code::condition_wait: call.reply.integers({1, 0}); break;  // a condition is looked at again in any case
    case Code::condition_notify: call.reply.integers({-1}); break;
    case Code::sync_state:
    case Code::event_is_set:
    case Code::barrier_state: return false;
    default: call.reply.done();
  }
  return true;
}

// Rows

std::vector<Holding> Sync::holdings() {
  std::vector<Holding> rows;
  auto tx = host_.begin();
  for (const auto& [session, objects] : held_)
    for (const auto number : objects) {
      const auto object = static_cast<ObjectId>(number);
      const auto found = writer_.info(tx, object);
      if (!found) continue;
      const auto own = std::to_array(found->aux);
      if (found->type == ObjectType::bounded_semaphore) {
        const auto& holders = units_[number];
        for (auto holder = holders.lower_bound({session, 0});
             holder != holders.end() && holder->first.session == session; ++holder)
          rows.push_back({object, holder->first, holder->second.count, holder->second.since_ms});
      } else if (found->type == ObjectType::barrier) {
        rows.push_back({object, {session, 0}, 1, 0});
      } else {
        const auto lock = LockState::from(own);
        rows.push_back({object, lock.holder, lock.depth, lock.since});
      }
    }
  return rows;
}

std::vector<WaitingRow> Sync::waiting() {
  std::vector<WaitingRow> rows;
  waiters_.for_each([&](const Waiter& waiter) {
    const auto& waiting = static_cast<const Waiting&>(waiter);
    if (waiting.place == kTold) return;
    rows.push_back({waiting.call.object, waiting.owner, waiting.call.code, waiting.since_ms, waiting.order});
  });
  std::sort(rows.begin(), rows.end(), [](const WaitingRow& a, const WaitingRow& b) { return a.order < b.order; });
  return rows;
}

}  // namespace taskpool::store
