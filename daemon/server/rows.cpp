#include "daemon/server/rows.hpp"

#include <unistd.h>

#include <numeric>

#include "daemon/os/usage.hpp"
#include "daemon/server/snapshot.hpp"
#include "proto/build_id.hpp"
#include "proto/fields.hpp"
#include "proto/limits.hpp"
#include "proto/version.hpp"

namespace taskpool::server {

namespace {

/// What the rest of a `stats` reply may take. Bytes.
constexpr std::size_t kRoomBesideSeries = 64 * 1024;

using std::chrono::duration_cast;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

std::int64_t ms_between(steady_clock::time_point then, steady_clock::time_point now) {
  if (then == steady_clock::time_point{}) return 0;
  return std::max<std::int64_t>(duration_cast<milliseconds>(now - then).count(), 0);
}

std::int64_t ms_since(steady_clock::time_point then) { return ms_between(then, steady_clock::now()); }

/// The lines of one series as JSON.
struct SeriesValues {
  Json values = Json::array();

  using Labels = std::array<std::string_view, 2>;
  void value(const Labels& labels, std::uint64_t number) { add(labels)["value"] = number; }
  void seconds(const Labels& labels, std::chrono::nanoseconds time) {
    add(labels)["value"] = std::chrono::duration<double>(time).count();
  }
  void histogram(const Labels& labels, const DurationHistogram& histogram) {
    auto& row = add(labels);
    row["counts"] = histogram.classes();
    row["sum"] = static_cast<double>(histogram.sum_ns()) / 1e9;
  }

 private:
  Json& add(const Labels& labels) {
    auto& row = values.emplace_back(Json::object());
    auto& shown = row["labels"] = Json::array();
    for (const auto label : labels)
      if (!label.empty()) shown.push_back(label);
    return row;
  }
};

/// What series() may take as text at most: told without making it.
std::size_t most_series_bytes(const Snapshot& snapshot) {
  constexpr std::size_t kLines =
      PoolMetrics::kOutcomes + static_cast<std::size_t>(WorkerActivity::count_) + kSeries.size();  // of a pool
  constexpr std::size_t kLineBytes = 80;        // beside the pool's name: labels, a number of twenty digits
  constexpr std::size_t kHistogramBytes = 500;  // twenty digits for each class, if it must be
  std::size_t bytes = snapshot.sessions.size() * kLineBytes;
  for (const auto& pool : snapshot.pools)
    bytes += kLines * (kLineBytes + dump_json(pool.name).size()) + 2 * kHistogramBytes;
  return bytes;
}

Json series(const Snapshot& snapshot) {
  Json all = Json::array();
  for (const auto& info : kSeries) {
    SeriesValues lines;
    visit(snapshot, info.series, lines);
    Json labels = Json::array();
    for (const auto label : info.labels)
      if (!label.empty()) labels.push_back(label);
    Json row{{"name", info.name}, {"unit", info.unit},           {"kind", name(info.kind)},
             {"help", info.help}, {"labels", std::move(labels)}, {"values", std::move(lines.values)}};
    if (info.kind == SeriesKind::histogram) {
      auto& bounds = row["bounds"] = Json::array();
      for (const auto& bound : DurationHistogram::kBounds) bounds.push_back(static_cast<double>(bound.ns) / 1e9);
    }
    all.push_back(std::move(row));
  }
  return all;
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
          attempts = std::max<std::uint32_t>(attempts, assignment.range.runs());
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
           {"state", name(activity_of(worker))},
           {"generation", worker.zygote()->generation()},
           {"tasks_done", worker.done_total},
           {"rss_bytes", os::resident_bytes(worker.pid())},
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
    if (worker->state == pool::WorkerState::starting)
      ++starting;
    else if (worker->is_idle())
      ++idle;
    else
      ++busy;
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
           {"functions", pool.function_names().size()},
           {"up", pool.is_up()}};
  const auto& ended = pool.metrics().ended;
  const auto all = std::accumulate(ended.begin(), ended.end(), std::uint64_t{0});
  const auto of = [&](Errc code) { return ended[static_cast<std::size_t>(code)]; };
  row["ended_tasks"] = all;
  row["failed_tasks"] = all - of(Errc::ok) - of(Errc::cancelled);
  row["worker_restarts"] = pool.metrics().workers_died + pool.metrics().workers_recycled;
  if (const auto oldest = pool.queue().oldest()) row["oldest_ms"] = ms_since(*oldest);
  if (!pool.last_error().empty()) row["last_error"] = pool.last_error();
  for (const auto& limit : pool.limits()) {
    auto& shown = row["limits"][std::string{limit.key}] = {{"limit", limit.value}, {"by", pool::name(limit.by)}};
    if (!limit.note.empty()) shown["note"] = limit.note;
  }
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

Json stats(const Core& core, std::chrono::nanoseconds loop_lag) {
  const auto snapshot = take_snapshot(core, loop_lag);
  Json counters = Json::array();
  for (const auto& info : kMetrics)
    counters.push_back({{"name", info.name},
                        {"value", snapshot.metrics.*info.value},
                        {"unit", info.unit},
                        {"kind", info.counts ? "counter" : "gauge"},
                        {"help", info.help}});
  Json stats{{"pid", ::getpid()},
             {"uid", ::geteuid()},
             {"version", kVersion},
             {"build", build_id()},
             {"socket", core.config.socket},
             {"uptime_ms", snapshot.uptime.count()},
             {"state", snapshot.is_draining ? "draining" : "running"},
             {"rss_bytes", snapshot.resident_bytes},
             {"counters", std::move(counters)}};
  // With a hundred pools and more they might not fit a frame; /metrics has them.
  if (most_series_bytes(snapshot) < kMaxFrameBodyBytes - kRoomBesideSeries) stats["series"] = series(snapshot);
  return stats;
}

}  // namespace taskpool::server
