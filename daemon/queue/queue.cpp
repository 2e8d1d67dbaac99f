#include "daemon/queue/queue.hpp"

#include <algorithm>
#include <cassert>
#include <utility>

namespace taskpool::queue {

std::uint32_t SessionTurn::uid() const { return uid_->uid_; }
int SessionTurn::priority() const { return uid_->priority_; }

SessionTurn& Queue::turn_of(std::uint32_t uid, std::uint32_t session, int priority) {
  auto& by_uid = levels_[priority].uids[uid];
  if (!by_uid) {
    by_uid = std::make_unique<UidTurn>();
    by_uid->uid_ = uid;
    by_uid->priority_ = priority;
  }
  auto& turn = by_uid->sessions_[session];
  if (!turn) {
    turn = std::make_unique<SessionTurn>();
    turn->session_ = session;
    turn->uid_ = by_uid.get();
  }
  return *turn;
}

void Queue::forget_session(std::uint32_t uid, std::uint32_t session) {
  for (auto level = levels_.begin(); level != levels_.end();) {
    if (const auto user = level->second.uids.find(uid); user != level->second.uids.end()) {
      if (const auto turn = user->second->sessions_.find(session); turn != user->second->sessions_.end()) {
        leave(*turn->second);
        user->second->sessions_.erase(turn);
      }
      if (user->second->sessions_.empty()) level->second.uids.erase(user);
    }
    level = level->second.uids.empty() ? levels_.erase(level) : std::next(level);
  }
}

void Queue::pause_session(std::uint32_t uid, std::uint32_t session, bool paused) {
  for (auto& [priority, level] : levels_) {
    const auto user = level.uids.find(uid);
    if (user == level.uids.end()) continue;
    const auto turn = user->second->sessions_.find(session);
    if (turn == user->second->sessions_.end()) continue;
    turn->second->paused_ = paused;
    if (paused)
      leave(*turn->second);
    else
      enter(*turn->second);
  }
}

SessionTurn* Queue::next() const {
  for (const auto& [priority, level] : levels_)
    if (!level.order.empty()) return *(*level.order.begin())->order_.begin();
  return nullptr;
}

void Queue::enter(SessionTurn& turn) {
  if (turn.in_order_ || turn.paused_ || turn.ready_.empty()) return;
  auto& user = *turn.uid_;
  // Whoever was away gets no credit for it, but the next turn: it starts just before the one that has had the least.
  if (!user.order_.empty()) turn.used_ns_ = std::max(turn.used_ns_, (*user.order_.begin())->used_ns_ - 1);
  const bool was_away = user.order_.empty();
  user.order_.insert(&turn);
  turn.in_order_ = true;
  if (was_away) enter(user);
}

void Queue::enter(UidTurn& user) {
  if (user.held_ || user.order_.empty()) return;
  auto& order = levels_[user.priority_].order;
  if (!order.empty()) user.used_ns_ = std::max(user.used_ns_, (*order.begin())->used_ns_ - 1);
  order.insert(&user);
}

void Queue::leave(SessionTurn& turn) {
  if (!turn.in_order_) return;
  auto& user = *turn.uid_;
  user.order_.erase(&turn);
  turn.in_order_ = false;
  if (user.order_.empty() && !user.held_) levels_[user.priority_].order.erase(&user);
}

void Queue::hold(std::uint32_t uid) {
  held_.push_back(uid);
  for (auto& [priority, level] : levels_) {
    const auto found = level.uids.find(uid);
    if (found == level.uids.end() || found->second->held_) continue;
    auto& user = *found->second;
    if (!user.order_.empty()) level.order.erase(&user);
    user.held_ = true;
  }
}

void Queue::release_held() {
  if (held_.empty()) return;
  for (const auto uid : std::exchange(held_, {}))
    for (auto& [priority, level] : levels_) {
      const auto found = level.uids.find(uid);
      if (found == level.uids.end() || !std::exchange(found->second->held_, false)) continue;
      enter(*found->second);
    }
}

void Queue::charge(SessionTurn& turn, std::int64_t ns) {
  const auto move_in = [ns](auto& order, auto& member, bool present) {
    if (!present || order.size() == 1) {  // its neighbours, if any, do not matter
      member.used_ns_ += ns;
      return;
    }
    auto node = order.extract(&member);
    member.used_ns_ += ns;
    order.insert(std::move(node));
  };
  auto& user = *turn.uid_;
  move_in(user.order_, turn, turn.in_order_);
  move_in(levels_[user.priority_].order, user, !user.order_.empty() && !user.held_);
}

void Queue::make_ready(Job& job, bool front) {
  if (!job.ready_hook.is_linked()) {
    if (front)
      job.turn->ready_.push_front(job);
    else
      job.turn->ready_.push_back(job);
  }
  enter(*job.turn);
}

void Queue::count_waiting(Job& job, std::uint32_t items, bool waits) {
  const auto change = [&](auto& count) { waits ? count += items : count -= items; };
  change(job.waiting);
  change(waiting_);
  if (job.usage) change(job.usage->queued_tasks);
}

void Queue::apply(Transition transition) {
  using Kind = Transition::Kind;
  auto& job = transition.job;
  const auto count = transition.range.count;
  const auto leave_running = [&] {
    assert(job.running >= count);
    job.running -= count;
    job.turn->running_ -= count;
    running_ -= count;
  };
  switch (transition.kind) {
    case Kind::accepted: break;
    case Kind::input:
      job.total += count;
      count_waiting(job, count, true);
      job.push_back(transition.range);
      make_ready(job, false);
      break;
    case Kind::refused:
      job.total += count;
      job.failed += count;
      break;
    case Kind::input_ended: job.input_ended = true; break;
    case Kind::started:
      count_waiting(job, count, false);
      job.running += count;
      job.turn->running_ += count;
      running_ += count;
      if (job.waiting == 0) {
        job.ready_hook.unlink();
        if (job.turn->ready_.empty()) leave(*job.turn);
      }
      break;
    case Kind::returned:
      leave_running();
      count_waiting(job, count, true);
      job.push_front(transition.range);
      make_ready(job, true);
      break;
    case Kind::delayed:
      leave_running();
      job.delayed += count;
      break;
    case Kind::resumed:
      job.delayed -= count;
      count_waiting(job, count, true);
      job.push_front(transition.range);
      make_ready(job, true);
      break;
    case Kind::succeeded:
      leave_running();
      job.succeeded += count;
      break;
    case Kind::failed:
      leave_running();
      job.failed += count;
      break;
    case Kind::cancelled:
      if (transition.from == From::running) leave_running();
      if (transition.from == From::delayed) job.delayed -= count;
      if (transition.from == From::waiting) count_waiting(job, count, false);
      job.cancelled_items += count;
      break;
    case Kind::stopped:
      job.cancelled = true;
      job.input_ended = true;
      break;
    case Kind::ended: job.ended = true; break;
  }
  if (on_transition) on_transition(transition);
}

void Queue::accept(Job& job) { apply({Transition::Kind::accepted, job}); }
void Queue::add_input(Job& job, BlockPtr block) {
  apply({Transition::Kind::input, job, Range::whole(std::move(block))});
}
void Queue::end_input(Job& job) { apply({Transition::Kind::input_ended, job}); }

Range Queue::start(Job& job, std::uint32_t most, std::size_t max_bytes, std::int64_t cost_ns) {
  auto range = job.pop_front(most, max_bytes);
  charge(*job.turn, cost_ns * range.count);
  apply({Transition::Kind::started, job, range});
  return range;
}

void Queue::give_back(Job& job, Range range, std::int64_t cost_ns) {
  charge(*job.turn, -cost_ns * range.count);
  apply({Transition::Kind::returned, job, std::move(range)});
}

void Queue::delay(Job& job, Range range) { apply({Transition::Kind::delayed, job, std::move(range)}); }
void Queue::resume(Job& job, Range range) { apply({Transition::Kind::resumed, job, std::move(range)}); }

namespace {
Range counted(std::uint32_t count) {
  Range range;
  range.count = count;
  return range;
}
}  // namespace

void Queue::refuse(Job& job, std::uint32_t count) { apply({Transition::Kind::refused, job, counted(count)}); }
void Queue::succeed(Job& job, std::uint32_t count) { apply({Transition::Kind::succeeded, job, counted(count)}); }
void Queue::fail(Job& job, std::uint32_t count) { apply({Transition::Kind::failed, job, counted(count)}); }
void Queue::cancel_running(Job& job, std::uint32_t count) {
  apply({Transition::Kind::cancelled, job, counted(count), From::running});
}
void Queue::cancel_delayed(Job& job, std::uint32_t count) {
  apply({Transition::Kind::cancelled, job, counted(count), From::delayed});
}

std::vector<Range> Queue::stop(Job& job) {
  std::vector<Range> dropped;
  apply({Transition::Kind::stopped, job});
  while (job.front_.count > 0) {
    dropped.push_back(job.pop_front(kMaxJobItems, kMaxFrameBodyBytes));
    apply({Transition::Kind::cancelled, job, dropped.back(), From::waiting});
  }
  job.ready_hook.unlink();
  if (job.turn->ready_.empty()) leave(*job.turn);
  return dropped;
}

void Queue::move(Job& job, SessionTurn& turn) {
  assert(job.waiting == 0);
  job.turn->running_ -= job.running;
  turn.running_ += job.running;
  job.turn = &turn;
}

void Queue::end(Job& job) { apply({Transition::Kind::ended, job}); }

}  // namespace taskpool::queue
