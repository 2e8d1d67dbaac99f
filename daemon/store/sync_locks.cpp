#include <algorithm>

#include "daemon/store/lock_state.hpp"
#include "daemon/store/semaphore_state.hpp"
#include "daemon/store/sync_waiting.hpp"
#include "proto/frame.hpp"
#include "proto/store/key.hpp"

/// Locks, semaphores and conditions.
namespace taskpool::store {

namespace {

/// In a condition's second word: its lock is another object, whose id is in the first.
constexpr std::uint64_t kOtherLock = ~std::uint64_t{0};

/// An owner's entry in a bounded semaphore's index: session and thread; units and since when.
struct UnitsEntry {
  std::uint64_t count;
  std::uint64_t since_ms;
};
KeyBuffer key_of(const Owner& owner) {
  std::array<std::byte, 12> bytes;
  store_le(bytes.data(), owner.session);
  store_le(bytes.data() + 8, owner.thread);
  KeyBuffer key;
  (void)key.set_bytes(bytes);  // it is short enough
  return key;
}

}  // namespace

// Locks

Result<Sync::LockPlace> Sync::lock_of(Transaction& tx, ObjectId object, ObjectType type) {
  const auto own = words(tx, object);
  if (!own) return own.error();
  if (type != ObjectType::condition || (*own)[1] != kOtherLock)
    return LockPlace{object, type != ObjectType::lock, *own};
  const auto other = static_cast<ObjectId>((*own)[0]);
  const auto found = writer_.info(tx, other);
  if (!found) return fail(Errc::unknown_object, "the condition's lock was deleted");
  return LockPlace{other, found->type != ObjectType::lock, std::to_array(found->aux)};
}

Result<bool> Sync::attempt_lock(Transaction& tx, const Attempt& what, SyncAnswer& answer, Effects& effects) {
  const auto& call = what.call;
  const auto lock = lock_of(tx, call.object, call.type);
  if (!lock) return lock.error();
  const auto before = lock->state();
  const bool again = lock->recursive && before.is_held() && before.holder == call.owner;
  if (what.others_wait && !again) return false;
  const auto next = store::acquire(before, lock->recursive, call.owner, host_.unix_ms(), what.depth);
  if (next.verdict == Verdict::refused) return refusal(next.error);
  if (next.verdict == Verdict::wait) return false;
  auto after = lock->words;
  next.state.write(after);
  if (const auto set = set_words(tx, lock->object, lock->words, after); !set) return set.error();
  if (!again) {
    effects.object = lock->object;
    effects.gained = call.owner;
  }
  answer.numbers = {next.owner_died};
  answer.count = 1;
  return true;
}

Result<void> Sync::release_lock(Transaction& tx, const SyncCall& call, Effects& effects) {
  if (call.number != 1) return fail(Errc::out_of_range, "units: a lock has one");
  const auto lock = lock_of(tx, call.object, call.type);
  if (!lock) return lock.error();
  const auto before = lock->state();
  const auto next = store::release(before, lock->recursive, call.owner);
  if (next.verdict == Verdict::refused) return refusal(next.error);
  auto after = lock->words;
  next.state.write(after);
  effects.object = lock->object;
  if (!next.state.is_held()) effects.lost = before.holder;
  return set_words(tx, lock->object, lock->words, after);
}

// Semaphores

Result<bool> Sync::attempt_unit(Transaction& tx, const Attempt& what, SyncAnswer& answer, Effects& effects) {
  if (what.others_wait) return false;
  const auto& call = what.call;
  const auto before = words(tx, call.object);
  if (!before) return before.error();
  const auto next = store::acquire(SemaphoreState::from(*before));
  if (next.verdict == Verdict::wait) return false;
  auto after = *before;
  next.state.write(after);
  if (const auto set = set_words(tx, call.object, *before, after); !set) return set.error();
  effects.object = call.object;
  if (call.type == ObjectType::bounded_semaphore) {
    effects.units.emplace_back(call.owner, 1);
    if (const auto written = write_units(tx, effects); !written) return written.error();
  }
  answer.numbers = {next.owner_died};
  answer.count = 1;
  return true;
}

Result<void> Sync::release_units(Transaction& tx, const SyncCall& call, Effects& effects) {
  if (call.number < 1) return fail(Errc::out_of_range, "units: at least 1");
  const auto before = words(tx, call.object);
  if (!before) return before.error();
  auto left = static_cast<std::uint64_t>(call.number);
  const auto next = store::release(SemaphoreState::from(*before), left);
  if (next.verdict == Verdict::refused) return refusal(next.error);
  auto after = *before;
  next.state.write(after);
  if (auto set = set_words(tx, call.object, *before, after); !set) return set;
  effects.object = call.object;
  if (call.type != ObjectType::bounded_semaphore) return boost::system::in_place_value;
  // Anyone may release; his own units first, then somebody else's are no longer leased.
  auto& holders = units_[static_cast<std::uint64_t>(call.object)];
  const auto give_back = [&](const Owner& owner, std::uint64_t held) {
    const auto units = std::min(held, left);
    left -= units;
    if (units > 0) effects.units.emplace_back(owner, -static_cast<std::int64_t>(units));
  };
  if (const auto own = holders.find(call.owner); own != holders.end()) give_back(call.owner, own->second.count);
  for (auto holder = holders.begin(); left > 0 && holder != holders.end(); ++holder)
    if (holder->first != call.owner) give_back(holder->first, holder->second.count);
  return write_units(tx, effects);
}

Result<void> Sync::write_units(Transaction& tx, const Effects& effects) {
  const auto& holders = units_[static_cast<std::uint64_t>(effects.object)];
  for (const auto& [owner, change] : effects.units) {
    const auto holder = holders.find(owner);
    const auto held = holder == holders.end() ? Units{0, host_.unix_ms()} : holder->second;
    const auto count = held.count + static_cast<std::uint64_t>(change);
    if (count == 0) {
      if (const auto erased = writer_.erase(tx, effects.object, key_of(owner)); !erased) return erased.error();
      continue;
    }
    const UnitsEntry entry{count, held.since_ms};
    const auto put = writer_.put(
        tx, effects.object, key_of(owner),
        {.value = std::as_bytes(std::span{&entry, 1}), .encoding = static_cast<std::uint8_t>(Encoding::bytes)});
    if (!put) return put.error();
  }
  return boost::system::in_place_value;
}

// Conditions

Result<void> Sync::wait_on_condition(const SyncCall& call) {
  auto waiting = std::make_unique<Waiting>(call);
  Effects effects;
  const auto give_way = [&]() -> Result<void> {
    auto tx = host_.begin();
    const auto lock = lock_of(tx, call.object, call.type);
    if (!lock) return lock.error();
    const auto before = lock->state();
    if (!may_use_condition(before, lock->recursive, call.owner)) return refusal(Errc::not_owner);
    auto after = lock->words;
    give_up(before).write(after);
    if (auto set = set_words(tx, lock->object, lock->words, after); !set) return set;
    waiting->lock = lock->object;
    waiting->depth = before.depth;
    waiting->order = waiters_.last_order() + 1;
    effects.object = lock->object;
    effects.lost = before.holder;
    if (waiting->noted)
      if (auto noted = note_pending(tx, *waiting); !noted) return noted;
    return tx.commit();
  };
  const auto record = static_cast<ObjectId>(call.owner.session);
  waiting->noted = waiters_.count_of(call.owner.session) < kMaxNoted;
  auto done = with_work(record, give_way);
  if (!done && done.error().errc() == Errc::store_full) {  // no reason not to wait
    waiting->noted = false;
    done = give_way();
  }
  if (!done) return done;
  if (!waiting->noted) note_loss(call.owner.session);
  remember(effects);
  auto& kept = enqueue(std::move(waiting), place_of(call.object, Lane::notify));
  if (call.timeout == std::chrono::milliseconds{0})
    leave(kept, Errc::timed_out);  // it has let others in, and gets its lock back in turn
  else
    settle(effects.object);
  return boost::system::in_place_value;
}

Result<void> Sync::notify(const SyncCall& call) {
  const auto from = place_of(call.object, Lane::notify);
  auto most = waiters_.count(from);
  if (call.number >= 0) most = std::min(most, static_cast<std::size_t>(call.number));
  auto tx = host_.begin();
  const auto own = words(tx, call.object);
  if (!own) return own.error();
  const auto lock = lock_of(tx, call.object, call.type);
  if (!lock) return lock.error();
  if (!may_use_condition(lock->state(), lock->recursive, call.owner)) return refusal(Errc::not_owner);
  const auto to = place_of(lock->object, Lane::acquire);
  if (most > 0) {
    // They are served in order of coming, so one number says who was notified, whatever becomes of this daemon.
    const auto last = waiters_.nth(from, most - 1)->order;
    if (auto set = writer_.set_aux(tx, call.object, kNotified, std::max((*own)[kNotified], last)); !set) return set;
  }
  auto done = host_.note(tx, call.owner.session, call.request());
  if (done) done = tx.commit();
  if (!done) return done;
  waiters_.move_first(from, to, most, [](Waiter&) {});
  call.reply.integers({static_cast<std::int64_t>(most)});
  settle(lock->object);
  return boost::system::in_place_value;
}

}  // namespace taskpool::store
