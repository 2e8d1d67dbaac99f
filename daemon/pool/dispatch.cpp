#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <boost/container/small_vector.hpp>
#include <tuple>
#include <utility>

#include "daemon/log.hpp"
#include "daemon/os/usage.hpp"
#include "daemon/pool/pool.hpp"
#include "proto/limits.hpp"

/// Work is given out here, watched while it runs, and taken back when it should be elsewhere.
namespace taskpool::pool {

namespace {
using namespace std::chrono_literals;

/// A worker whose channel has this much queued is not reading: it gets nothing more. Bytes.
constexpr std::size_t kMaxQueuedBytes = 512 * 1024;
/// How often a worker is looked at whose running task may have to be stopped as soon as it shows.
constexpr auto kCancelCheck = 5ms;
/// How often CPU time is looked at, at most: that of other processes is counted in ticks of 10 ms.
constexpr auto kCpuCheck = 10ms;
/// For how long sessions count as at work together after the last time that one followed another.
constexpr auto kSharedFor = 20ms;
/// How often a worker that has tasks is looked at, whether it was stopped.
constexpr auto kStopCheck = 500ms;
/// How long a zygote may take to say how a worker ended of which the kernel says that it has. On a host with far more
/// to do than CPUs it does take its time; a caller is to know within a second.
constexpr auto kExitReport = 700ms;
}  // namespace

std::optional<std::uint32_t> Pool::resolve(queue::Function& function) {
  if (function.generation == current_->generation()) return function.number;
  const auto number = current_->find_function(function.name);
  if (!number) return std::nullopt;
  function.generation = current_->generation();
  function.number = *number;
  return number;
}

bool Pool::trusts(const queue::Job& job, std::uint32_t function) const {
  return function < current_->listed_functions() || !current_->is_open() || job.uid == 0 || job.uid == ::geteuid();
}

Pool::Choice Pool::choose(const queue::Job& job) const {
  const queue::Demand demand{job.waiting,
                             queue_.waiting(),
                             job.estimate(),
                             job.call->call.chunk,
                             services_.turn.now() < shared_until_,
                             job.turn->running() == 0};
  const bool full = is_full(job);
  Choice best;
  auto best_rank = std::make_tuple(queue::Nanoseconds::max(), std::chrono::nanoseconds::max());
  for (const auto& worker : workers_) {
    if (!serves(*worker)) continue;
    if (full && !worker->holds(*job.usage)) continue;
    if (worker->channel().queued() > kMaxQueuedBytes) {
      // Perhaps all of that was taken back, and no result will remind us of it.
      worker->channel().on_drained(kMaxQueuedBytes, [&turn = services_.turn] { turn.end_later(); });
      continue;
    }
    const auto load = worker->load();
    const bool claims = worker->zygote()->claims();
    if (!claims && load.items > 0) continue;
    auto items = queue::items_to_give(load, demand, target_, services_.config.prefetch);
    if (!claims) items = std::min(items, 1u);
    if (config_.max_tasks_per_worker > 0) {
      const auto left =
          worker->given_total >= config_.max_tasks_per_worker ? 0 : config_.max_tasks_per_worker - worker->given_total;
      items = static_cast<std::uint32_t>(std::min<std::uint64_t>(items, left));
    }
    if (items == 0) continue;
    // The least loaded; among idle ones the one that ran last, whose memory is still in the caches.
    const auto rank = std::make_tuple(load.estimated, -worker->last_used.time_since_epoch());
    if (rank < best_rank) {
      best_rank = rank;
      best = {worker.get(), items};
    }
  }
  return best;
}

bool Pool::is_full(const queue::Job& job) { return job.usage && job.usage->takes_no_more(); }

void Pool::give_all() {
  queue_.release_held();
  while (auto* turn = queue_.next()) {
    auto& job = queue::Queue::front(*turn);
    const auto number = resolve(*job.call->function);
    if (!number) {
      cancel(job, false, Errc::unknown_function);
      continue;
    }
    if (!trusts(job, *number)) {
      cancel(job, false, Errc::permission_denied);
      continue;
    }
    if (is_full(job) && choose(job).worker == nullptr) {
      queue_.hold(job.uid);  // until the next time that work is given out
      continue;
    }
    if (const auto* last = std::exchange(last_turn_, turn); last != turn && last != nullptr)
      shared_until_ = services_.turn.now() + kSharedFor;
    auto choice = choose(job);
    if (choice.worker == nullptr && preempt(*turn))
      choice = choose(job);  // the place is this turn's, whoever is first now
    if (choice.worker == nullptr) return;
    const auto cost = job.estimate().per_item().count();
    auto range = queue_.start(job, choice.items, kPackBytes, cost);
    if (job.first_started == TimePoint{}) job.first_started = services_.turn.now();
    choice.worker->give(job, std::move(range), cost, *number);
  }
}

std::uint32_t Pool::room_for(const queue::SessionTurn& turn, Worker& worker) {
  if (worker.items() < 2 || worker.state != WorkerState::working || worker.lent > 0) return 0;
  const auto& last = *worker.assignments().back().job->turn;
  if (&last == &turn) return 0;
  const bool equals_begin = turn.priority() == last.priority() && turn.running() == 0;
  if (turn.priority() <= last.priority() && !equals_begin) return 0;
  // Each of two would take the place from the other for ever: nothing is taken from a higher priority, and from an
  // equal not the last that he has.
  boost::container::small_vector<std::pair<const queue::SessionTurn*, std::uint32_t>, 8> losses;
  const auto unclaimed = worker.unclaimed();
  auto left = unclaimed;
  for (auto assignment = worker.assignments().rbegin(); left > 0; ++assignment) {
    const auto* const holder = assignment->job->turn;
    const auto count = std::min(left, assignment->range.count);
    left -= count;
    if (holder == &turn || holder->priority() < turn.priority()) continue;
    if (holder->priority() > turn.priority()) return 0;
    auto loss = std::find_if(losses.rbegin(), losses.rend(), [&](const auto& entry) { return entry.first == holder; });
    auto& lost = loss != losses.rend() ? loss->second : losses.emplace_back(holder, 0u).second;
    lost += count;
    if (lost >= holder->running()) return 0;
  }
  return unclaimed;
}

bool Pool::preempt(const queue::SessionTurn& turn) {
  Worker* victim = nullptr;
  std::uint32_t most = 0;
  for (const auto& worker : workers_) {
    const auto room = room_for(turn, *worker);
    if (room > most) {
      most = room;
      victim = worker.get();
    }
  }
  if (victim == nullptr) return false;
  const auto before = victim->items();
  take_back(*victim);
  return victim->items() < before;
}

bool Pool::rebalance() {
  const bool somebody_idle = std::any_of(workers_.begin(), workers_.end(),
                                         [&](const auto& worker) { return worker->is_idle() && serves(*worker); });
  if (!somebody_idle) return false;
  for (const auto& worker : workers_) {
    if (worker->items() < 2 || is_full(*worker->assignments().back().job)) continue;
    const auto running = worker->running();
    const auto elapsed = running ? services_.turn.now() - running->since : queue::Nanoseconds{0};
    const queue::Nanoseconds per_item{worker->assignments().back().cost_ns};
    if (!queue::worth_moving(worker->unclaimed(), per_item, elapsed)) continue;
    const auto before = worker->items();
    take_back(*worker);
    if (worker->items() < before) return true;
  }
  return false;
}

void Pool::take_back(Worker& worker) {
  for (auto& assignment : worker.take_back()) {
    services_.metrics.tasks_taken_back += assignment.range.count;
    return_range(*assignment.job, std::move(assignment.range), assignment.cost_ns);
  }
}

void Pool::dispatch() {
  if (is_dormant() && has_work()) top_up();
  if (!paused_ && current_ && current_->state() == Zygote::State::ready) {
    give_all();
    if (queue_.waiting() == 0 && rebalance()) give_all();
    for (const auto& worker : workers_)
      worker->offer();  // before the turn's end writes to it: it may read that at once
  }
  arm_timer();
}

Result<void> Pool::lend(Worker& worker) {
  if (worker.lent == 0) {
    if (services_.lent_workers >= services_.config.max_lent_workers)
      return fail(Errc::nesting_too_deep, "max_lent_workers: too many tasks wait for tasks of their own");
    ++services_.lent_workers;
    take_back(worker);
  }
  worker.lend();
  top_up();
  services_.turn.end_later();
  return boost::system::in_place_value;
}

void Pool::give_back(Worker& worker) {
  if (worker.lent == 0) return;
  worker.give_back();
  if (worker.lent > 0) return;
  --services_.lent_workers;
  retire_surplus();
  services_.turn.end_later();
}

void Pool::check(Worker& worker, TimePoint now) {
  if (worker.stopping && !worker.stopping->killed && now >= worker.stopping->kill_at) {
    worker.stopping->killed = true;
    worker.kill();
  }
  if (const auto running = worker.running()) {
    check_running(worker, *running, now);
  } else if (!worker.is_idle()) {
    const auto& first = *worker.assignments().front().job;
    if (os::is_stopped(worker.pid())) {
      // No timeout would ever end what it has not begun. Nothing of it is lost: it runs on another one.
      log::warning("worker_stopped", {{"worker", worker.number()}, {"pid", worker.pid()}});
      worker.kill();
    } else if (first.is_stopping() && now >= first.kill_at && !worker.stopping) {
      worker.kill();  // it has claimed what was cancelled, and neither runs it nor says what became of it
    }
  }
}

void Pool::check_running(Worker& worker, const Worker::Running& running, TimePoint now) {
  const auto& job = *running.assignment->job;
  const auto& call = *job.call;
  const auto elapsed = now - running.since;
  if (job.is_stopping() && !worker.stopping) stop_running(worker, running.ticket, job.cancel_code, job.kill_at, now);
  if (call.timeout.count() > 0 && elapsed >= call.timeout && !(worker.stopping && worker.stopping->killed))
    stop_running(worker, running.ticket, Errc::timed_out, now, now,
                 fmt::format("timeout_ms: killed after {} ms", call.timeout.count()));
  if (call.cpu_timeout.count() > 0 && !(worker.stopping && worker.stopping->killed)) check_cpu(worker, running, now);
  if (call.soft_timeout.count() > 0 && elapsed >= call.soft_timeout && !worker.soft_told && !worker.stopping) {
    worker.soft_told = true;
    worker.interrupt(running.ticket, Interrupt::soft_timeout);
  }
  if (elapsed >= queue::kSlowItem && worker.items() > 1 && !worker.slow && !worker.is_handling()) {
    // Nothing waits behind a long task: its finished predecessors are delivered, its successors go elsewhere.
    const auto ticket = running.ticket;
    worker.drain_outbox();
    count_batch(worker);  // what was short: the long one, when it ends, is no part of its mean
    const auto still = worker.running();
    worker.slow = still && still->ticket == ticket;  // it may have finished meanwhile
    take_back(worker);
    services_.turn.end_later();
  }
}

void Pool::check_cpu(Worker& worker, const Worker::Running& running, TimePoint now) {
  auto& watch = worker.cpu_watch;
  const bool seen = watch && watch->ticket == running.ticket;
  if (seen && now < watch->next) return;
  const auto used = worker.cpu_time();
  if (!seen) watch = CpuWatch{running.ticket, used, now};
  const auto limit = running.assignment->job->call->cpu_timeout;
  const auto spent = std::max(used - watch->before, std::chrono::microseconds{0});
  if (spent >= limit) {
    const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(spent).count();
    stop_running(worker, running.ticket, Errc::timed_out, now, now,
                 fmt::format("cpu_timeout_ms: killed after {} ms of CPU time, of {}", ms, limit.count()));
    return;
  }
  watch->next =
      now + std::max<std::chrono::nanoseconds>((limit - spent) / cpus_, kCpuCheck);  // it may have a thread for each
}

void Pool::stop_running(Worker& worker, Ticket ticket, Errc reason, TimePoint kill_at, TimePoint now,
                        std::string detail) {
  worker.stopping = Stopping{ticket, reason, kill_at, now >= kill_at, std::move(detail)};
  take_back(worker);
  if (worker.stopping->killed)
    worker.kill();
  else
    worker.interrupt(ticket, Interrupt::cancel);
}

std::optional<Pool::TimePoint> Pool::next_check(Worker& worker, TimePoint now) const {
  std::optional<TimePoint> next;
  const auto by = [&](TimePoint at) { next = next ? std::min(*next, at) : at; };
  if (worker.exit_seen) by(*worker.exit_seen + kExitReport);
  if (worker.stopping && !worker.stopping->killed) by(worker.stopping->kill_at);
  if (worker.items() > 1 && !worker.slow) by(now + queue::kSlowItem);
  if (worker.is_idle()) return next;
  by(now + kStopCheck);
  const auto running = worker.running();
  const auto& job = running ? *running->assignment->job : *worker.assignments().front().job;
  const auto since = running ? running->since : now;
  if (job.is_stopping() && !worker.stopping) by(now + kCancelCheck);
  if (job.call->timeout.count() > 0 && !(worker.stopping && worker.stopping->killed)) by(since + job.call->timeout);
  if (job.call->soft_timeout.count() > 0 && !worker.soft_told && !worker.stopping) by(since + job.call->soft_timeout);
  if (job.call->cpu_timeout.count() > 0 && !(worker.stopping && worker.stopping->killed)) {
    const bool seen = running && worker.cpu_watch && worker.cpu_watch->ticket == running->ticket;
    by(seen ? worker.cpu_watch->next : since + queue::kSlowItem);  // most are done by then
  }
  return next;
}

void Pool::arm_timer() {
  std::optional<TimePoint> next;
  const auto by = [&](std::optional<TimePoint> at) {
    if (at) next = next ? std::min(*next, *at) : *at;
  };
  for (const auto& worker : workers_) {
    // The usual case costs nothing: one short task, no limits.
    if (worker->is_idle() && !worker->exit_seen && !worker->stopping) continue;
    by(next_check(*worker, services_.turn.now()));
  }
  if (!delayed_.empty()) by(delayed_.front().due);
  by(retry_at_);
  if (!next) return;  // an armed timer fires once in vain, which is cheaper than disarming it
  if (armed_for_ && *armed_for_ <= *next) return;
  armed_for_ = next;
  timer_.expires_at(*next);
  timer_.async_wait([self = weak_from_this()](const boost::system::error_code& error) {
    const auto pool = self.lock();
    if (!pool || error) return;
    pool->armed_for_.reset();
    pool->on_timer();
  });
}

void Pool::on_timer() {
  const auto now = std::chrono::steady_clock::now();
  const auto workers = workers_;  // finish() takes them out
  for (const auto& worker : workers) {
    if (worker->exit_seen && now >= *worker->exit_seen + kExitReport) {
      finish(worker, std::nullopt);
      continue;
    }
    check(*worker, now);
  }
  resume_due(now);
  if (retry_at_ && now >= *retry_at_) {
    retry_at_.reset();
    top_up();
  }
  services_.turn.end_later();
}

void Pool::resume_due(TimePoint now) {
  while (!delayed_.empty() && delayed_.front().due <= now) {
    std::pop_heap(delayed_.begin(), delayed_.end(), is_later);
    auto repeat = std::move(delayed_.back());
    delayed_.pop_back();
    ++services_.metrics.tasks_retried;
    queue_.resume(*repeat.job, std::move(repeat.range));
  }
}

}  // namespace taskpool::pool
