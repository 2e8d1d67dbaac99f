#include "daemon/server/rows.hpp"

#include <fmt/core.h>
#include <unistd.h>

#include <fstream>

#include "proto/build_id.hpp"
#include "proto/version.hpp"

namespace taskpool::server {

namespace {

using std::chrono::duration_cast;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

std::int64_t ms_between(steady_clock::time_point then, steady_clock::time_point now) {
  if (then == steady_clock::time_point{}) return 0;
  return std::max<std::int64_t>(duration_cast<milliseconds>(now - then).count(), 0);
}

std::int64_t ms_since(steady_clock::time_point then) { return ms_between(then, steady_clock::now()); }

std::uint64_t resident_bytes(pid_t pid) {
  std::ifstream statm{fmt::format("/proc/{}/statm", pid)};
  std::uint64_t size = 0;
  std::uint64_t resident = 0;
  if (!(statm >> size >> resident)) return 0;  // it has just exited
  return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace

std::string_view state_of(const queue::Job& job) {
  if (job.ended) {
    if (job.failed > 0) return "failed";
    if (job.cancelled_items > 0 || job.cancelled) return job.cancel_code == Errc::cancelled ? "cancelled" : "failed";
    return "succeeded";
  }
  if (job.running > 0) return "running";
  if (job.pool != nullptr && job.pool->is_paused() && job.waiting > 0) return "paused";
  if (job.waiting > 0) return "queued";
  return "waiting";
}

Json task_row(const Core& core, const queue::Job& job) {
  const auto& call = *job.call;
  Json row{{"task", core.jobs.text(job.id)},
           {"name", call.call.name.empty() ? call.call.function : call.call.name},
           {"function", call.call.function},
           {"pool", job.pool != nullptr ? job.pool->name() : call.call.pool},
           {"state", state_of(job)},
           {"kind", job.is_map ? "job" : "task"},
           {"total", job.total},
           {"done", job.succeeded + job.failed + job.cancelled_items},
           {"failed", job.failed},
           {"running", job.running},
           {"priority", call.priority},
           {"uid", job.uid},
           {"session", job.session},
           {"detached", call.call.detached},
           {"age_ms", ms_since(job.accepted)},
           {"run_ms", job.ended ? ms_between(job.first_started, job.ended_at) : ms_since(job.first_started)}};
  Json workers = Json::array();
  std::uint32_t attempts = 0;
  if (!job.ended && job.pool != nullptr) {
    for (const auto& worker : job.pool->workers())
      for (const auto& assignment : worker->assignments())
        if (assignment.job == &job) {
          workers.push_back(worker->number());
          attempts = std::max<std::uint32_t>(attempts, std::uint32_t{assignment.range.attempt} + assignment.range.deaths);
          break;
        }
  }
  row["workers"] = std::move(workers);
  row["attempts"] = attempts;
  if (const auto* error = core.keeper.error_of(job)) {
    auto& shown = row["error"] = {{"code", name(error->code)}, {"detail", error->detail}};
    if (error->exit_code) shown["exit_code"] = *error->exit_code;
    if (error->signal) shown["signal"] = *error->signal;
  }
  return row;
}

Json worker_row(const Core& core, const pool::Pool& pool, const pool::Worker& worker,
                std::optional<std::uint32_t> only_of) {
  Json row{{"worker", worker.number()},
           {"pid", worker.pid()},
           {"pool", pool.name()},
           {"state", worker.state == pool::WorkerState::working ? (worker.is_idle()      ? "idle"
                                                                   : worker.lent > 0 ? "lent"
                                                                                     : "busy")
                                                                : pool::name(worker.state)},
           {"generation", worker.zygote()->generation()},
           {"tasks_done", worker.done_total},
           {"rss_bytes", resident_bytes(worker.pid())},
           {"age_ms", ms_since(worker.started)}};
  if (const auto running = worker.running()) {
    const auto& job = *running->assignment->job;
    row["uid"] = job.uid;
    row["run_ms"] = ms_since(running->since);
    if (only_of && *only_of != job.uid) return row;
    row["task"] = core.jobs.text(job.id);
    row["function"] = job.call->call.function;
    if (job.is_map) row["index"] = running->index;
  }
  return row;
}

Json pool_row(const Core&, pool::Pool& pool) {
  std::uint32_t busy = 0;
  std::uint32_t idle = 0;
  std::uint32_t starting = pool.starting();
  for (const auto& worker : pool.workers()) {
    if (worker->state == pool::WorkerState::starting) ++starting;
    else if (worker->is_idle()) ++idle;
    else ++busy;
  }
  Json row{{"pool", pool.name()},
           {"runtime", pool.config().runtime},
           {"workers", pool.workers().size()},
           {"target", pool.target()},
           {"busy", busy},
           {"idle", idle},
           {"starting", starting},
           {"queued_tasks", pool.queue().waiting()},
           {"running_tasks", pool.queue().running()},
           {"paused", pool.is_paused()},
           {"draining", pool.is_closing()},
           {"owner_session", pool.owner_session()},
           {"uid", pool.owner_uid()},
           {"generation", pool.zygote() ? pool.zygote()->generation() : 0},
           {"functions", pool.function_names().size()}};
  if (!pool.last_error().empty()) row["last_error"] = pool.last_error();
  return row;
}

Json users(const Core& core) {
  Json rows = Json::array();
  for (const auto& [uid, usage] : core.users.all())
    rows.push_back({{"uid", uid},
                    {"sessions", usage->sessions},
                    {"queued_tasks", usage->queued_tasks},
                    {"queued_bytes", usage->queued_bytes},
                    {"running_slots", usage->slots},
                    {"store_bytes", core.store.used_bytes(uid)}});
  return rows;
}

Json stats(const Core& core) {
  auto& metrics = core.metrics;
  metrics.jobs_known = core.jobs.size();
  core.store.measure(metrics);
  metrics.tasks_waiting = metrics.tasks_running = metrics.workers_alive = 0;
  for (const auto& pool : core.pools.all()) {
    metrics.tasks_waiting += pool->queue().waiting();
    metrics.tasks_running += pool->queue().running();
    metrics.workers_alive += pool->workers().size();
  }
  Json counters = Json::array();
  for (const auto& info : kMetrics)
    counters.push_back({{"name", info.name},
                        {"value", metrics.*info.value},
                        {"unit", info.unit},
                        {"kind", info.counts ? "counter" : "gauge"},
                        {"help", info.help}});
  return {{"pid", ::getpid()},
          {"uid", ::geteuid()},
          {"version", kVersion},
          {"build", build_id()},
          {"socket", core.config.socket},
          {"uptime_ms", ms_since(core.admin.started())},
          {"state", core.admin.is_draining() ? "draining" : "running"},
          {"rss_bytes", resident_bytes(::getpid())},
          {"counters", std::move(counters)}};
}

}  // namespace taskpool::server
