#pragma once

#include <array>
#include <cstdint>
#include <string_view>

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
    MetricInfo{"store_held_back_total", &Metrics::store_held_back, "sessions", true, "times that a session was not read, as much of it waited for a held object"},
    MetricInfo{"store_waiting", &Metrics::store_waiting, "requests", false, "requests that wait at locks, queues and others"},
    MetricInfo{"store_segments", &Metrics::store_segments, "segments", false, "users and groups that have a store"},
    MetricInfo{"store_objects", &Metrics::store_objects, "objects", false, "objects in the store"},
    MetricInfo{"store_bytes", &Metrics::store_bytes, "bytes", false, "memory that the store's segments take"},
    MetricInfo{"store_live_bytes", &Metrics::store_live_bytes, "bytes", false, "how much of that objects use"},
    MetricInfo{"store_buffer_bytes", &Metrics::store_buffer_bytes, "bytes", false, "size of the buffers that sessions have open"},
};

}  // namespace taskpool
