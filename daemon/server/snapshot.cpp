#include "daemon/server/snapshot.hpp"

#include <unistd.h>

#include "daemon/os/usage.hpp"

namespace taskpool::server {

namespace {

void add(PoolSnapshot& into, const pool::Pool& pool, std::chrono::steady_clock::time_point now) {
  into.waiting += pool.queue().waiting();
  into.running += pool.queue().running();
  if (const auto oldest = pool.queue().oldest())
    into.oldest = std::max(into.oldest.value_or(now - *oldest), now - *oldest);
  into.workers[static_cast<std::size_t>(WorkerActivity::starting)] += pool.starting();
  for (const auto& worker : pool.workers()) ++into.workers[static_cast<std::size_t>(activity_of(*worker))];
  into.target += pool.target();
  into.is_up = into.is_up && pool.is_up();
  into.metrics.add(pool.metrics());
}

}  // namespace

WorkerActivity activity_of(const pool::Worker& worker) {
  switch (worker.state) {
    case pool::WorkerState::starting: return WorkerActivity::starting;
    case pool::WorkerState::retiring: return WorkerActivity::retiring;
    case pool::WorkerState::stopping:
    case pool::WorkerState::dead: return WorkerActivity::stopping;
    case pool::WorkerState::working: break;
  }
  if (worker.is_idle()) return WorkerActivity::idle;
  return worker.lent > 0 ? WorkerActivity::lent : WorkerActivity::busy;
}

Snapshot take_snapshot(const Core& core, std::chrono::nanoseconds loop_lag) {
  const auto now = core.turn.now();
  Snapshot snapshot;
  PoolSnapshot of_sessions{.name = std::string{kSessionPools}, .metrics = core.pools.closed()};
  std::map<std::string_view, std::size_t> places;  // a pool that a reload has removed may be there beside its successor
  auto& metrics = core.metrics;
  metrics.tasks_waiting = metrics.tasks_running = metrics.workers_alive = 0;
  snapshot.pools.reserve(core.pools.all().size() + 1);
  for (const auto& pool : core.pools.all()) {
    metrics.tasks_waiting += pool->queue().waiting();
    metrics.tasks_running += pool->queue().running();
    metrics.workers_alive += pool->workers().size();
    if (pool->owner_session() != 0 || pool->name() == kSessionPools) {
      add(of_sessions, *pool, now);
      continue;
    }
    const auto [place, is_new] = places.try_emplace(pool->name(), snapshot.pools.size());
    if (is_new) snapshot.pools.push_back({.name = pool->name()});
    add(snapshot.pools[place->second], *pool, now);
  }
  of_sessions.is_up = true;  // whoever opened one that does not start is told
  snapshot.pools.push_back(std::move(of_sessions));
  metrics.jobs_known = core.jobs.size();
  core.store.measure(metrics);
  snapshot.sessions = core.sessions;
  snapshot.loop_lag = loop_lag;
  snapshot.uptime = std::chrono::duration_cast<std::chrono::milliseconds>(now - core.admin.started());
  snapshot.resident_bytes = os::resident_bytes(::getpid());
  snapshot.is_draining = core.admin.is_draining();
  snapshot.metrics = metrics;
  return snapshot;
}

}  // namespace taskpool::server
