#include <fmt/core.h>

#include <algorithm>

#include "daemon/log.hpp"
#include "daemon/pool/pool.hpp"
#include "proto/limits.hpp"

/// What becomes of tasks: results, errors, repeats, cancellation; and the end of their jobs.
namespace taskpool::pool {

namespace {

void learn(Worker& worker, const queue::Job& job) {
  auto* const function = job.call->function;
  const auto id = job.is_map ? job.id : queue::JobId{};
  if (worker.batch_function != nullptr && (worker.batch_function != function || worker.batch_job != id))
    worker.batch_mixed = true;
  worker.batch_function = function;
  worker.batch_job = id;
}

bool holds(const Worker& worker, queue::JobId job) {
  const auto& assignments = worker.assignments();
  return std::any_of(assignments.begin(), assignments.end(),
                     [&](const Assignment& assignment) { return assignment.job->id == job; });
}

}  // namespace

void Pool::on_items_done(Worker& worker, Assignment& assignment, std::uint32_t count, const Prefix& form,
                         std::span<const std::byte> table, std::span<const std::byte> payload,
                         std::span<const std::string> refs) {
  auto& job = *assignment.job;
  learn(worker, job);
  services_.metrics.tasks_succeeded += count;
  metrics_.count(Errc::ok, count);
  count_wait(assignment, count);
  queue_.succeed(job, count);
  if (job.listener != nullptr) {
    job.listener->on_results(job, assignment.range.index, count, form, table, payload, refs);
  } else if ((form.flags & kInArena) != 0) {
    for (std::size_t at = 0; at + sizeof(ArenaRef) <= payload.size(); at += sizeof(ArenaRef))
      services_.arenas.release(job.session, load<ArenaRef>(payload.data() + at));
  }
  settle(job);
  services_.turn.end_later();
}

void Pool::on_items_failed(Worker& worker, Assignment& assignment, std::uint32_t count, ErrorHead error) {
  auto& job = *assignment.job;
  learn(worker, job);
  auto range = assignment.range;
  range.count = count;
  const auto position = worker.stopping ? worker.stopping->ticket - assignment.first : count;
  if (position < count) {
    // It ended because we asked it to: that is why, whatever it says itself.
    error.code = worker.stopping->reason;
    if (error.detail.empty()) error.detail = std::string{taskpool::name(error.code)};
  } else if (worker.soft_told && error.code == Errc::cancelled) {
    error.code = Errc::timed_out;
    error.detail = fmt::format("soft_timeout_ms: stopped after {} ms", job.call->soft_timeout.count());
  }
  const bool may_repeat = error.code == Errc::task_failed && !job.cancelled;
  if (may_repeat && range.attempt < job.call->call.retries) {
    ++range.attempt;
    repeat_later(job, std::move(range), std::uint32_t{assignment.range.attempt});
  } else {
    count_wait(assignment, count);
    fail_range(job, range, std::move(error));
  }
  services_.turn.end_later();
}

void Pool::count_wait(const Assignment& assignment, std::uint32_t count) {
  metrics_.wait.add(assignment.given - assignment.range.block->arrived(), count);
}

void Pool::count_batch(Worker& worker) {
  if (worker.finished_in_batch == 0) return;
  const auto worked = worker.worked();
  if (worked > worker.worked_before) {
    const auto took =
        std::min<std::chrono::nanoseconds>(worked - worker.worked_before, services_.turn.now() - worker.started);
    metrics_.run.add(took / worker.finished_in_batch, worker.finished_in_batch);
    if (!worker.batch_mixed) {
      worker.batch_function->run_time.add(took, worker.finished_in_batch);
      if (auto* job = services_.jobs.find(worker.batch_job); job != nullptr)
        job->run_time.add(took, worker.finished_in_batch);
    }
  } else {
    metrics_.run.add({}, worker.finished_in_batch);
  }
  worker.worked_before = worked;
  worker.finished_in_batch = 0;
  worker.batch_function = nullptr;
  worker.batch_mixed = false;
}

void Pool::on_report(Worker& worker, const Assignment& assignment, const Report& report) {
  auto& job = *assignment.job;
  if (!report.log.empty())
    log::info("task_log", {{"worker", worker.number()},
                           {"task", services_.jobs.text(job.id)},
                           {"task_level", report.level},
                           {"message", report.log}});
  if (job.listener != nullptr) job.listener->on_progress(job, assignment.range.index, report);
}

void Pool::repeat_later(queue::Job& job, queue::Range range, std::uint32_t runs_before) {
  std::chrono::milliseconds delay{job.call->call.retry_delay_ms};
  for (std::uint32_t run = 0; run < runs_before && delay < kMaxRetryDelay; ++run) delay *= 2;
  delay = std::min(delay, kMaxRetryDelay);
  queue_.delay(job, range);
  delayed_.push_back({services_.turn.now() + delay, &job, std::move(range)});
  std::push_heap(delayed_.begin(), delayed_.end(), is_later);
}

void Pool::tell_failed(queue::Job& job, const queue::Range& range, const ErrorHead& error) {
  if (job.listener != nullptr)
    job.listener->on_failed(job, range.index, range.count, error);
  else if (error.code != Errc::cancelled)
    services_.on_uncollected(job, range.index, error);
}

void Pool::fail_range(queue::Job& job, const queue::Range& range, ErrorHead error) {
  auto& metrics = services_.metrics;
  metrics_.count(error.code, range.count);
  if (error.code == Errc::cancelled) {
    metrics.tasks_cancelled += range.count;
    queue_.cancel_running(job, range.count);
  } else {
    metrics.tasks_failed += range.count;
    if (error.code == Errc::timed_out) metrics.tasks_timed_out += range.count;
    if (error.code == Errc::worker_lost) metrics.tasks_lost += range.count;
    if (error.code == Errc::out_of_memory) metrics.tasks_out_of_memory += range.count;
    queue_.fail(job, range.count);
  }
  if (error.task.empty()) error.task = services_.jobs.text(job.id);
  tell_failed(job, range, error);
  if (job.call->call.stop_on_error && !job.cancelled && error.code != Errc::cancelled)
    (void)cancel_waiting(job);
  else
    settle(job);
}

void Pool::cancel_range(queue::Job& job, const queue::Range& range) {
  ErrorHead error;
  error.code = job.cancel_code;
  if (error.code == Errc::unknown_function)
    error.detail = fmt::format("function: '{}' is not in pool '{}' any more", job.call->call.function, name());
  else if (error.code == Errc::start_failed && !last_error_.empty())
    error.detail = "refused before it ran: " + last_error_;
  else
    error.detail = error.code == Errc::cancelled ? "cancelled before it ran" : "refused before it ran";
  error.task = services_.jobs.text(job.id);
  metrics_.count(error.code, range.count);
  if (error.code == Errc::cancelled)
    services_.metrics.tasks_cancelled += range.count;
  else
    services_.metrics.tasks_failed += range.count;
  tell_failed(job, range, error);
}

void Pool::return_range(queue::Job& job, queue::Range range, std::int64_t cost_ns) {
  if (!job.cancelled) {
    queue_.give_back(job, std::move(range), cost_ns);
    return;
  }
  queue_.cancel_running(job, range.count);
  cancel_range(job, range);
  settle(job);
}

void Pool::drop_waiting(queue::Job& job) {
  for (const auto& range : queue_.stop(job)) cancel_range(job, range);
  std::erase_if(delayed_, [&](const Repeat& repeat) {
    if (repeat.job != &job) return false;
    queue_.cancel_delayed(job, repeat.range.count);
    cancel_range(job, repeat.range);
    return true;
  });
  std::make_heap(delayed_.begin(), delayed_.end(), is_later);
}

void Pool::cancel(queue::Job& job, bool force, Errc code) {
  const auto alive = shared_from_this();  // the job may have been the last who kept it
  const auto now = services_.turn.now();
  if (job.is_stopping()) {
    if (force) job.kill_at = now;  // asked for again, less politely
  } else {
    job.cancel_code = code;
    job.kill_at = force ? now : now + services_.config.cancel_grace;
    job.running_goes_on = false;
    drop_waiting(job);
  }
  // What runs may end the job's life as soon as the last of it is stopped, so the job is held by its number from here
  // on.
  const auto id = job.id;
  if (job.running == 0) {
    settle(job);
  } else {
    for (const auto& worker : workers_) {
      if (!holds(*worker, id)) continue;
      if (worker->unclaimed() > 0) take_back(*worker);
      if (worker->stopping && force) worker->stopping->kill_at = now;
      check(*worker, now);
    }
  }
  services_.turn.end_later();
}

std::uint32_t Pool::cancel_waiting(queue::Job& job) {
  if (job.cancelled) return 0;
  const auto alive = shared_from_this();  // as above
  for (const auto& worker : workers_)
    if (holds(*worker, job.id) && worker->unclaimed() > 0) take_back(*worker);
  services_.turn.end_later();
  const auto reached = job.waiting + job.delayed;
  if (reached > 0 || !job.input_ended) {  // else all of it has begun, and may be repeated as before
    job.cancel_code = Errc::cancelled;
    job.running_goes_on = true;
    drop_waiting(job);
  }
  settle(job);
  return reached;
}

void Pool::settle(queue::Job& job) {
  if (job.ended || !job.finished()) return;
  queue_.end(job);
  job.ended_at = services_.turn.now();
  const bool keep = job.listener != nullptr && job.listener->on_done(job);
  services_.on_ended(job);
  if (!keep) services_.jobs.release(job);
}

}  // namespace taskpool::pool
