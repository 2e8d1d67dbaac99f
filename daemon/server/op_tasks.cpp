#include <fcntl.h>
#include <fmt/core.h>

#include <algorithm>

#include "daemon/server/rows.hpp"
#include "daemon/server/session.hpp"
#include "proto/codec.hpp"

/// Requests about tasks: `cancel`, `wait`, `fetch`, `ps`, `failures`, `log`, `nested_wait`.
namespace taskpool::server {

Result<queue::Job*> Session::find_task(const std::string& text) const {
  std::optional<std::uint32_t> item;
  auto* const job = core_.jobs.find(text, item);
  if (job == nullptr || (job->uid != who_.uid && !sees_others()))
    return fail(Errc::unknown_task, "task: there is no '" + text + "', or its result is no longer kept");
  return job;
}

std::uint32_t Session::cancel_job(queue::Job& job, const Cancel& how) {
  if (job.ended) return 0;
  if (how.waiting) return job.pool->cancel_waiting(job);
  const auto reached = job.waiting + job.running + job.delayed;
  job.pool->cancel(job, how.force);
  return reached;
}

Result<void> Session::cancel(const FrameView& frame) {
  const auto cancel = decode<Cancel>(frame.head);
  if (!cancel) return cancel.error();
  if (cancel->waiting && cancel->force) return fail(Errc::bad_message, "waiting: what has not begun needs no force");
  std::uint32_t reached = 0;
  if (!cancel->task.empty()) {
    const auto job = find_task(cancel->task);
    if (!job) return job.error();
    const auto owner = (*job)->uid;
    reached = cancel_job(**job, *cancel);
    audit(frame.prefix.op, {{"task", cancel->task}, {"owner", owner}, {"cancelled", reached}});
  } else {
    if (!cancel->request) return fail(Errc::bad_message, "request: missing, and so is task");
    const auto job = std::find_if(jobs_.begin(), jobs_.end(),
                                  [&](const queue::Job& candidate) { return candidate.request == *cancel->request; });
    if (job != jobs_.end())
      reached = cancel_job(*job, *cancel);
    else if (!cancel->waiting)
      reached = core_.store.cancel(*this, *cancel->request) ? 1 : 0;
    if (is_audited(core_.config, true)) audit(frame.prefix.op, {{"request", *cancel->request}, {"cancelled", reached}});
  }
  reply(frame.prefix.request, {{"cancelled", reached}});
  return boost::system::in_place_value;
}

Result<void> Session::wait(const FrameView& frame) {
  const auto wait = decode<Wait>(frame.head);
  if (!wait) return wait.error();
  const auto job = find_task(wait->task);
  if (!job) return job.error();
  const auto request = frame.prefix.request;
  if ((*job)->ended) {
    reply(request, task_row(core_, **job));
    return boost::system::in_place_value;
  }
  std::optional<queue::TimePoint> deadline;
  if (wait->timeout_ms > 0) deadline = core_.turn.now() + std::chrono::milliseconds{wait->timeout_ms};
  core_.waiters.add((*job)->id, number_, deadline, [to = later(), request, task = wait->task](queue::Job* ended) {
    to([&](Session& session) {
      if (ended != nullptr)
        session.reply(request, task_row(session.core(), *ended));
      else
        session.reply_error(request, fail(Errc::timed_out, "timeout_ms: task " + task + " has not ended"));
    });
  });
  return boost::system::in_place_value;
}

Result<void> Session::fetch(const FrameView& frame) {
  const auto fetch = decode<Fetch>(frame.head);
  if (!fetch) return fetch.error();
  const auto job = find_task(fetch->task);
  if (!job) return job.error();
  if (!core_.keeper.keeps(**job))
    return fail(Errc::unknown_task, "task: '" + fetch->task + "' is not detached: its session gets its result");
  if (!(*job)->ended) return fail(Errc::not_finished, "task: '" + fetch->task + "' has not ended");
  if (answer(**job, frame.prefix.request, fetch->index) && !fetch->keep) core_.keeper.drop(**job);
  return boost::system::in_place_value;
}

Result<void> Session::ps(const FrameView& frame) {
  const auto ps = decode<Ps>(frame.head);
  if (!ps) return ps.error();
  auto rows = nlohmann::json::array();
  bool more = false;
  // Whoever may not see others' tasks is shown his own, and told that there may be more.
  const bool all = ps->all && sees_others();
  const auto show = [&](const queue::Job& job) {
    if (!all && ps->task.empty() && job.uid != who_.uid) return true;
    if (!ps->pool.empty() && job.pool->name() != ps->pool) return true;
    if (!ps->state.empty() && state_of(job) != ps->state) return true;
    if (rows.size() == ps->limit) {
      more = true;
      return false;
    }
    rows.push_back(task_row(core_, job));
    return true;
  };
  if (!ps->task.empty()) {
    const auto job = find_task(ps->task);
    if (!job) return job.error();
    show(**job);
  } else {
    for (const auto& job : core_.jobs.all())
      if (!show(job)) break;
  }
  reply(frame.prefix.request, {{"tasks", std::move(rows)}, {"more", more}, {"visible", sees_others() ? "all" : "own"}});
  return boost::system::in_place_value;
}

Result<void> Session::failures(const FrameView& frame) {
  const auto wanted = decode<taskpool::Failures>(frame.head);
  if (!wanted) return wanted.error();
  auto rows = nlohmann::json::array();
  const auto now = std::chrono::steady_clock::now();
  const bool all = sees_others();
  const auto& last = core_.failures.last();
  for (auto failure = last.rbegin(); failure != last.rend() && rows.size() < wanted->limit; ++failure) {
    if (failure->uid != who_.uid && !all) continue;
    rows.push_back(
        {{"task", failure->task},
         {"index", failure->index},
         {"function", failure->function},
         {"pool", failure->pool},
         {"code", name(failure->code)},
         {"detail", failure->detail},
         {"ended_ms_ago", std::chrono::duration_cast<std::chrono::milliseconds>(now - failure->ended).count()}});
  }
  reply(frame.prefix.request, {{"failures", std::move(rows)}, {"total", core_.failures.total()}});
  return boost::system::in_place_value;
}

Result<void> Session::log(const FrameView& frame) {
  const auto wanted = decode<LogRequest>(frame.head);
  if (!wanted) return wanted.error();
  const auto job = find_task(wanted->task);
  if (!job) return job.error();
  const auto base = core_.config.spool + "/" + core_.jobs.text((*job)->id);
  const os::UniqueFd out{::open((base + ".out").c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW)};
  const os::UniqueFd err{::open((base + ".err").c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW)};
  if (!out || !err)
    return fail(Errc::no_output, "task: '" + wanted->task + "' has not begun, or keeps no output (keep_output)");
  const int fds[] = {out.get(), err.get()};
  reply_with(frame.prefix.request, task_row(core_, **job), fds);
  return boost::system::in_place_value;
}

Result<void> Session::nested_wait(const FrameView& frame) {
  const auto worker = parent_worker_.lock();
  if (!worker || worker->state == pool::WorkerState::dead) return boost::system::in_place_value;
  const bool begins = frame.prefix.target == 1;
  if (begins == waiting_nested_) return boost::system::in_place_value;
  if (!begins) {
    waiting_nested_ = false;
    parent_pool_->give_back(*worker);
    return boost::system::in_place_value;
  }
  if (const auto lent = parent_pool_->lend(*worker)) {
    waiting_nested_ = true;
    return boost::system::in_place_value;
  }
  // Without a worker to lend, what it waits for might never run: better an error than a wait without an end.
  std::vector<queue::JobId> jobs;
  for (const auto& job : jobs_) jobs.push_back(job.id);
  for (const auto id : jobs)
    if (auto* job = core_.jobs.find(id)) job->pool->cancel(*job, false, Errc::nesting_too_deep);
  return boost::system::in_place_value;
}

}  // namespace taskpool::server
