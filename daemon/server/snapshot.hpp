#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/server/core.hpp"

/// What the daemon shows of itself, at one moment. `stats` and /metrics are made of it.
namespace taskpool::server {

/// The label of the pools that sessions open, which are told of together: there may be a new one each millisecond.
inline constexpr std::string_view kSessionPools = "(sessions)";

/// What a worker is doing, in words for people.
enum class WorkerActivity : std::uint8_t { starting, idle, busy, lent, retiring, stopping, count_ };
constexpr std::string_view name(WorkerActivity activity) {
  constexpr std::array<std::string_view, 6> kNames{"starting", "idle", "busy", "lent", "retiring", "stopping"};
  return kNames[static_cast<std::size_t>(activity)];
}
WorkerActivity activity_of(const pool::Worker& worker);

/// One pool of the configuration, or all that sessions have opened.
struct PoolSnapshot {
  std::string name;
  std::uint64_t waiting = 0;
  std::uint64_t running = 0;
  std::optional<std::chrono::nanoseconds> oldest{};
  std::array<std::uint64_t, static_cast<std::size_t>(WorkerActivity::count_)> workers{};
  std::uint64_t target = 0;
  bool is_up = true;
  PoolMetrics metrics{};
};

struct Snapshot {
  std::vector<PoolSnapshot> pools;
  std::map<std::uint32_t, std::uint32_t> sessions;  ///< By uid.
  std::chrono::nanoseconds loop_lag{0};
  std::chrono::milliseconds uptime{0};
  std::uint64_t resident_bytes = 0;
  bool is_draining = false;
  Metrics metrics{};
};

/// Looks at everything once: costs some nanoseconds a worker and a session with waiting work, and about 0.3 us a pool.
/// `loop_lag`: how long the caller has just waited for the loop.
Snapshot take_snapshot(const Core& core, std::chrono::nanoseconds loop_lag);

/// Calls `visitor.value(labels, number)`, `visitor.seconds(labels, duration)` or `visitor.histogram(labels, histogram)`
/// for each line of a series. `labels` are the values of the labels that kSeries names; "" where it names none.
template <class Visitor>
void visit(const Snapshot& snapshot, Series series, Visitor&& visitor) {
  using Labels = std::array<std::string_view, 2>;
  const auto each_pool = [&](const auto& call) {
    for (const auto& pool : snapshot.pools) call(Labels{pool.name, ""}, pool);
  };
  const auto plain = [&](std::uint64_t PoolSnapshot::*value) {
    each_pool([&](const Labels& labels, const PoolSnapshot& pool) { visitor.value(labels, pool.*value); });
  };
  switch (series) {
    case Series::pool_waiting: return plain(&PoolSnapshot::waiting);
    case Series::pool_running: return plain(&PoolSnapshot::running);
    case Series::pool_target: return plain(&PoolSnapshot::target);
    case Series::pool_oldest:
      return each_pool([&](const Labels& labels, const PoolSnapshot& pool) {
        visitor.seconds(labels, pool.oldest.value_or(std::chrono::nanoseconds{0}));
      });
    case Series::pool_ended:
      return each_pool([&](const Labels& labels, const PoolSnapshot& pool) {
        for (std::size_t code = 0; code < PoolMetrics::kOutcomes; ++code) {
          const auto errc = static_cast<Errc>(code);
          // Those that a dashboard asks for are there from the start, so that a first one shows as an increase.
          const bool always = errc == Errc::ok || errc == Errc::task_failed || errc == Errc::worker_lost ||
                              errc == Errc::timed_out || errc == Errc::cancelled || errc == Errc::out_of_memory;
          if (always || pool.metrics.ended[code] > 0)
            visitor.value(Labels{labels[0], errc == Errc::ok ? "done" : taskpool::name(errc)},
                          pool.metrics.ended[code]);
        }
      });
    case Series::task_wait:
      return each_pool(
          [&](const Labels& labels, const PoolSnapshot& pool) { visitor.histogram(labels, pool.metrics.wait); });
    case Series::task_run:
      return each_pool(
          [&](const Labels& labels, const PoolSnapshot& pool) { visitor.histogram(labels, pool.metrics.run); });
    case Series::pool_workers:
      return each_pool([&](const Labels& labels, const PoolSnapshot& pool) {
        for (std::size_t at = 0; at < pool.workers.size(); ++at)
          visitor.value(Labels{labels[0], name(static_cast<WorkerActivity>(at))}, pool.workers[at]);
      });
    case Series::pool_up:
      return each_pool(
          [&](const Labels& labels, const PoolSnapshot& pool) { visitor.value(labels, pool.is_up ? 1 : 0); });
    case Series::pool_restarts:
      return each_pool([&](const Labels& labels, const PoolSnapshot& pool) {
        visitor.value(Labels{labels[0], "died"}, pool.metrics.workers_died);
        visitor.value(Labels{labels[0], "recycled"}, pool.metrics.workers_recycled);
      });
    case Series::pool_start_failures:
      return each_pool(
          [&](const Labels& labels, const PoolSnapshot& pool) { visitor.value(labels, pool.metrics.start_failures); });
    case Series::user_sessions:
      for (const auto& [uid, sessions] : snapshot.sessions) visitor.value(Labels{std::to_string(uid), ""}, sessions);
      return;
    case Series::loop_lag: return visitor.seconds(Labels{}, snapshot.loop_lag);
    case Series::count_: return;
  }
}

}  // namespace taskpool::server
