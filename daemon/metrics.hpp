#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <string_view>

#include "proto/errc.hpp"

namespace taskpool {

/// What the daemon counts. Gauges are filled in when somebody asks.
struct Metrics {
  std::uint64_t sessions_opened = 0;
  std::uint64_t sessions_refused = 0;
  std::uint64_t sessions_open = 0;
  std::uint64_t protocol_errors = 0;
  std::uint64_t requests_refused = 0;
  std::uint64_t jobs_submitted = 0;
  std::uint64_t tasks_submitted = 0;
  std::uint64_t tasks_succeeded = 0;
  std::uint64_t tasks_failed = 0;
  std::uint64_t tasks_cancelled = 0;
  std::uint64_t tasks_timed_out = 0;
  std::uint64_t tasks_lost = 0;
  std::uint64_t tasks_out_of_memory = 0;
  std::uint64_t tasks_retried = 0;
  std::uint64_t tasks_taken_back = 0;
  std::uint64_t failures_uncollected = 0;
  std::uint64_t tasks_waiting = 0;
  std::uint64_t tasks_running = 0;
  std::uint64_t jobs_known = 0;
  std::uint64_t results_kept = 0;
  std::uint64_t results_kept_bytes = 0;
  std::uint64_t workers_started = 0;
  std::uint64_t workers_died = 0;
  std::uint64_t workers_recycled = 0;
  std::uint64_t workers_alive = 0;
  std::uint64_t fork_failures = 0;
  std::uint64_t zygotes_started = 0;
  std::uint64_t zygotes_died = 0;
  std::uint64_t reloads = 0;
  std::uint64_t arena_bytes = 0;
  std::uint64_t store_operations = 0;
  std::uint64_t store_segments = 0;
  std::uint64_t store_objects = 0;
  std::uint64_t store_bytes = 0;
  std::uint64_t store_live_bytes = 0;
  std::uint64_t store_buffer_bytes = 0;
  std::uint64_t store_waiting = 0;
  std::uint64_t store_held_back = 0;
};

/// How often something took how long, in classes with fixed bounds. Counting takes no clock and no memory.
class DurationHistogram {
 public:
  /// An upper bound of a class, its own value included, and how Prometheus spells it in seconds.
  struct Bound {
    std::int64_t ns;
    std::string_view text;
  };
  static constexpr std::array<Bound, 15> kBounds{{{10'000, "0.00001"},
                                                  {100'000, "0.0001"},
                                                  {500'000, "0.0005"},
                                                  {1'000'000, "0.001"},
                                                  {5'000'000, "0.005"},
                                                  {10'000'000, "0.01"},
                                                  {50'000'000, "0.05"},
                                                  {100'000'000, "0.1"},
                                                  {500'000'000, "0.5"},
                                                  {1'000'000'000, "1"},
                                                  {5'000'000'000, "5"},
                                                  {10'000'000'000, "10"},
                                                  {60'000'000'000, "60"},
                                                  {600'000'000'000, "600"},
                                                  {3'600'000'000'000, "3600"}}};

  /// Counts `count` times that took `each`; a negative time counts as none.
  void add(std::chrono::nanoseconds each, std::uint64_t count = 1) {
    const auto ns = std::max<std::int64_t>(each.count(), 0);
    std::size_t at = 0;
    for (const auto& bound : kBounds) at += static_cast<std::size_t>(ns > bound.ns);  // no branch to mispredict
    classes_[at] += count;
    sum_ns_ += static_cast<std::uint64_t>(ns) * count;
  }
  void add(const DurationHistogram& other) {
    for (std::size_t at = 0; at < classes_.size(); ++at) classes_[at] += other.classes_[at];
    sum_ns_ += other.sum_ns_;
  }
  /// One count for each bound, and one for what is above them all; each counts its own class alone.
  const std::array<std::uint64_t, kBounds.size() + 1>& classes() const { return classes_; }
  std::uint64_t sum_ns() const { return sum_ns_; }

 private:
  std::array<std::uint64_t, kBounds.size() + 1> classes_{};
  std::uint64_t sum_ns_ = 0;
};

/// What one pool counts.
struct PoolMetrics {
  static constexpr std::size_t kOutcomes = static_cast<std::size_t>(Errc::internal) + 1;

  std::array<std::uint64_t, kOutcomes> ended{};  ///< Tasks, by the code that they ended with; ok: with a result.
  DurationHistogram wait;
  DurationHistogram run;
  std::uint64_t workers_died = 0;
  std::uint64_t workers_recycled = 0;
  std::uint64_t start_failures = 0;

  void count(Errc code, std::uint64_t tasks) {
    ended[std::min(static_cast<std::size_t>(code), kOutcomes - 1)] += tasks;
  }
  void add(const PoolMetrics& other) {
    for (std::size_t at = 0; at < kOutcomes; ++at) ended[at] += other.ended[at];
    wait.add(other.wait);
    run.add(other.run);
    workers_died += other.workers_died;
    workers_recycled += other.workers_recycled;
    start_failures += other.start_failures;
  }
};

/// One line of `taskpool stats`.
struct MetricInfo {
  std::string_view name;
  std::uint64_t Metrics::*value;
  std::string_view unit;
  bool counts;  ///< Counts since the daemon's start; else it is what holds now.
  std::string_view help;
};

inline constexpr std::array kMetrics{
    MetricInfo{"sessions_open", &Metrics::sessions_open, "sessions", false, "connected clients"},
    MetricInfo{"sessions_opened_total", &Metrics::sessions_opened, "sessions", true, "clients that connected"},
    MetricInfo{"sessions_refused_total", &Metrics::sessions_refused, "sessions", true,
               "clients turned away, because there were too many"},
    MetricInfo{"protocol_errors_total", &Metrics::protocol_errors, "sessions", true,
               "clients disconnected for what they sent"},
    MetricInfo{"requests_refused_total", &Metrics::requests_refused, "requests", true,
               "requests answered with an error at once"},
    MetricInfo{"jobs_submitted_total", &Metrics::jobs_submitted, "jobs", true, "applies and maps accepted"},
    MetricInfo{"jobs_known", &Metrics::jobs_known, "jobs", false, "jobs waiting, running or kept"},
    MetricInfo{"tasks_submitted_total", &Metrics::tasks_submitted, "tasks", true, "tasks accepted"},
    MetricInfo{"tasks_succeeded_total", &Metrics::tasks_succeeded, "tasks", true, "tasks that gave a result"},
    MetricInfo{"tasks_failed_total", &Metrics::tasks_failed, "tasks", true,
               "tasks that ended in an error, lost and timed out ones included"},
    MetricInfo{"tasks_cancelled_total", &Metrics::tasks_cancelled, "tasks", true, "tasks cancelled"},
    MetricInfo{"tasks_timed_out_total", &Metrics::tasks_timed_out, "tasks", true, "tasks killed at their time limit"},
    MetricInfo{"tasks_lost_total", &Metrics::tasks_lost, "tasks", true, "tasks whose worker died"},
    MetricInfo{"tasks_out_of_memory_total", &Metrics::tasks_out_of_memory, "tasks", true,
               "tasks whose worker was killed for memory"},
    MetricInfo{"tasks_retried_total", &Metrics::tasks_retried, "tasks", true, "runs that were repeats"},
    MetricInfo{"tasks_taken_back_total", &Metrics::tasks_taken_back, "tasks", true,
               "tasks moved from one worker's share back to the queue"},
    MetricInfo{"failures_uncollected_total", &Metrics::failures_uncollected, "tasks", true,
               "failed tasks whose client was gone"},
    MetricInfo{"tasks_waiting", &Metrics::tasks_waiting, "tasks", false, "tasks in the queues"},
    MetricInfo{"tasks_running", &Metrics::tasks_running, "tasks", false, "tasks with workers"},
    MetricInfo{"results_kept", &Metrics::results_kept, "jobs", false, "ended jobs kept for `taskpool result`"},
    MetricInfo{"results_kept_bytes", &Metrics::results_kept_bytes, "bytes", false, "memory that they take"},
    MetricInfo{"workers_alive", &Metrics::workers_alive, "workers", false, "worker processes"},
    MetricInfo{"workers_started_total", &Metrics::workers_started, "workers", true, "workers forked"},
    MetricInfo{"workers_died_total", &Metrics::workers_died, "workers", true, "workers that ended unasked"},
    MetricInfo{"workers_recycled_total", &Metrics::workers_recycled, "workers", true,
               "workers replaced at max_tasks_per_worker or max_worker_memory"},
    MetricInfo{"fork_failures_total", &Metrics::fork_failures, "workers", true, "workers that could not be started"},
    MetricInfo{"zygotes_started_total", &Metrics::zygotes_started, "zygotes", true, "runtime programs started"},
    MetricInfo{"zygotes_died_total", &Metrics::zygotes_died, "zygotes", true, "runtime programs that ended unasked"},
    MetricInfo{"reloads_total", &Metrics::reloads, "reloads", true, "configuration reloads"},
    MetricInfo{"arena_bytes", &Metrics::arena_bytes, "bytes", false, "shared memory of the sessions' arenas"},
    MetricInfo{"store_operations_total", &Metrics::store_operations, "operations", true,
               "operations on objects of the store, done by the daemon"},
    MetricInfo{"store_waiting", &Metrics::store_waiting, "requests", false,
               "requests that wait at locks, queues and others"},
    MetricInfo{"store_held_back_total", &Metrics::store_held_back, "sessions", true,
               "times that a session was not read, as much of it waited for a held object"},
    MetricInfo{"store_segments", &Metrics::store_segments, "segments", false, "users and groups that have a store"},
    MetricInfo{"store_objects", &Metrics::store_objects, "objects", false, "objects in the store"},
    MetricInfo{"store_bytes", &Metrics::store_bytes, "bytes", false, "memory that the store's segments take"},
    MetricInfo{"store_live_bytes", &Metrics::store_live_bytes, "bytes", false, "how much of that objects use"},
    MetricInfo{"store_buffer_bytes", &Metrics::store_buffer_bytes, "bytes", false,
               "size of the buffers that sessions have open"},
};

/// What is told for each pool, user or the like. The order is that of kSeries.
enum class Series : std::uint8_t {
  pool_waiting,
  pool_oldest,
  pool_running,
  pool_ended,
  task_wait,
  task_run,
  pool_workers,
  pool_target,
  pool_up,
  pool_restarts,
  pool_start_failures,
  user_sessions,
  loop_lag,
  count_,
};

enum class SeriesKind : std::uint8_t { counter, gauge, histogram };
constexpr std::string_view name(SeriesKind kind) {
  return kind == SeriesKind::counter ? "counter" : kind == SeriesKind::gauge ? "gauge" : "histogram";
}

/// A metric with labels: a line of `taskpool stats` for each of their values.
struct SeriesInfo {
  Series series;
  std::string_view name;
  SeriesKind kind;
  std::string_view unit;
  std::array<std::string_view, 2> labels;  ///< Their names; "" for none.
  std::string_view help;
};

inline constexpr std::array kSeries{
    SeriesInfo{
        Series::pool_waiting, "pool_waiting_tasks", SeriesKind::gauge, "tasks", {"pool"}, "tasks in the pool's queue"},
    SeriesInfo{Series::pool_oldest,
               "pool_oldest_wait_seconds",
               SeriesKind::gauge,
               "seconds",
               {"pool"},
               "how long the task has waited that waits longest, of sessions that take their results"},
    SeriesInfo{Series::pool_running,
               "pool_running_tasks",
               SeriesKind::gauge,
               "tasks",
               {"pool"},
               "tasks with the pool's workers"},
    SeriesInfo{Series::pool_ended,
               "pool_tasks_ended_total",
               SeriesKind::counter,
               "tasks",
               {"pool", "outcome"},
               "tasks that ended, by how: done, or the code of their error"},
    SeriesInfo{Series::task_wait,
               "task_wait_seconds",
               SeriesKind::histogram,
               "seconds",
               {"pool"},
               "from a task's arrival until it was given to the worker with which it ended"},
    SeriesInfo{Series::task_run,
               "task_run_seconds",
               SeriesKind::histogram,
               "seconds",
               {"pool"},
               "run time of tasks; short ones that a worker reported together count with their mean"},
    SeriesInfo{Series::pool_workers,
               "pool_workers",
               SeriesKind::gauge,
               "workers",
               {"pool", "state"},
               "worker processes, by state"},
    SeriesInfo{Series::pool_target,
               "pool_target_workers",
               SeriesKind::gauge,
               "workers",
               {"pool"},
               "workers that the pool shall have"},
    SeriesInfo{Series::pool_up,
               "pool_up",
               SeriesKind::gauge,
               "",
               {"pool"},
               "1 if the pool can run tasks, 0 if its workers do not start"},
    SeriesInfo{Series::pool_restarts,
               "pool_worker_restarts_total",
               SeriesKind::counter,
               "workers",
               {"pool", "reason"},
               "workers that were replaced: they died, or were recycled"},
    SeriesInfo{Series::pool_start_failures,
               "pool_start_failures_total",
               SeriesKind::counter,
               "starts",
               {"pool"},
               "failures to start a worker or a runtime"},
    SeriesInfo{Series::user_sessions,
               "user_open_sessions",
               SeriesKind::gauge,
               "sessions",
               {"uid"},
               "connected clients, by user"},
    SeriesInfo{Series::loop_lag,
               "loop_lag_seconds",
               SeriesKind::gauge,
               "seconds",
               {},
               "how long this request waited for the next turn of the event loop"},
};
static_assert(kSeries.size() == static_cast<std::size_t>(Series::count_));

constexpr const SeriesInfo& info(Series series) { return kSeries[static_cast<std::size_t>(series)]; }
static_assert(std::all_of(kSeries.begin(), kSeries.end(),
                          [](const SeriesInfo& row) { return &info(row.series) == &row; }));

}  // namespace taskpool
