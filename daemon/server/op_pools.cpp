#include <fmt/core.h>

#include "daemon/server/rows.hpp"
#include "daemon/server/session.hpp"
#include "proto/codec.hpp"

/// Requests about pools: `pools`, `workers`, `functions`, `pool_open`, `pool_close`, `pool_resize`, `pool_pause`,
/// `pool_resume`.
namespace taskpool::server {

namespace {
/// Descriptors that become a worker's standard input, output and error.
constexpr std::size_t kStdio = 3;
}  // namespace

Result<std::shared_ptr<pool::Pool>> Session::find_pool(const std::string& name, bool to_change) const {
  auto pool = core_.pools.find(name, number_);
  if (!pool) return fail(Errc::unknown_pool, "pool: there is no '" + name + "'");
  if (to_change && pool->owner_session() != number_)
    if (const auto allowed = may(Right::change_pools, "changing pool '" + pool->name() + "'"); !allowed)
      return allowed.error();
  return pool;
}

bool Session::sees(const pool::Pool& pool) const {
  return pool.owner_session() == 0 || pool.owner_uid() == who_.uid || sees_others();
}

Result<std::shared_ptr<pool::Pool>> Session::pool_to_change(const FrameView& frame) const {
  const auto wanted = decode<PoolName>(frame.head);
  if (!wanted) return wanted.error();
  return find_pool(wanted->pool, true);
}

Result<void> Session::workers(const FrameView& frame) {
  const auto wanted = decode<PoolName>(frame.head);
  if (!wanted) return wanted.error();
  auto rows = nlohmann::json::array();
  for (const auto& pool : core_.pools.all())
    if (sees(*pool) && (wanted->pool.empty() || pool->name() == wanted->pool))
      for (const auto& worker : pool->workers())
        rows.push_back(worker_row(core_, *pool, *worker, sees_others() ? std::nullopt : std::optional{who_.uid}));
  reply(frame.prefix.request, {{"workers", std::move(rows)}});
  return boost::system::in_place_value;
}

Result<void> Session::pools(const FrameView& frame) {
  auto rows = nlohmann::json::array();
  for (const auto& pool : core_.pools.all())
    if (sees(*pool)) rows.push_back(pool_row(core_, *pool));
  reply(frame.prefix.request, {{"pools", std::move(rows)}});
  return boost::system::in_place_value;
}

Result<void> Session::functions(const FrameView& frame) {
  const auto wanted = decode<PoolName>(frame.head);
  if (!wanted) return wanted.error();
  const auto pool = find_pool(wanted->pool, false);
  if (!pool) return pool.error();
  auto rows = nlohmann::json::array();
  if (const auto& zygote = (*pool)->zygote())
    for (const auto& function : zygote->functions())
      rows.push_back({{"name", function.name},
                      {"signature", function.signature},
                      {"doc", function.doc},
                      {"array", function.array}});
  reply(frame.prefix.request, {{"functions", std::move(rows)}});
  return boost::system::in_place_value;
}

Result<void> Session::pool_open(const FrameView& frame, std::vector<os::UniqueFd> fds) {
  auto open = decode<PoolOpen>(frame.head);
  if (!open) return open.error();
  if (fds.size() != frame.prefix.fds)
    return fail(Errc::limit_reached, "fds: the daemon has no descriptors left for those that came with this");
  pool::WorkerFds worker_fds;
  if (open->setup) {
    if (fds.empty()) return fail(Errc::bad_message, "setup: it is the last descriptor, and there is none");
    worker_fds.setup = std::move(fds.back());
    fds.pop_back();
  }
  if (fds.size() > kStdio) return fail(Errc::bad_message, "fds: a pool takes up to three, as standard streams");
  worker_fds.stdio = std::move(fds);
  if (core_.admin.is_draining()) return fail(Errc::draining, "the daemon takes no new work");
  PoolConfig config;
  config.name = std::move(open->name);
  config.runtime = std::move(open->runtime);
  config.workers = open->workers;
  config.modules = std::move(open->modules);
  config.environment = std::move(open->environment);
  config.cwd = std::move(open->cwd);
  config.initializer = std::move(open->initializer);
  config.initializer_arguments = std::move(open->initializer_arguments);
  config.max_tasks_per_worker = open->max_tasks_per_worker;
  config.max_worker_memory = open->max_worker_memory;
  config.timeout = std::chrono::milliseconds{open->timeout_ms};
  config.priority = open->priority;
  if (open->max_queued > 0) config.max_queued = open->max_queued;
  config.max_task_memory = open->max_task_memory;
  config.max_task_processes = open->max_task_processes;
  config.max_task_files = open->max_task_files;
  config.cpu_timeout = std::chrono::milliseconds{open->cpu_timeout_ms};
  config.nice = open->nice;
  if (config.max_task_files != 0 && config.max_task_files < kMinTaskFiles)
    return fail(Errc::bad_argument, fmt::format("max_task_files: want 0 or at least {}", kMinTaskFiles));
  pool::bound_limits(config, core_.config.pools.front());
  config.command = std::move(open->command);
  config.once = open->once;
  if (!config.modules.empty())
    if (const auto allowed = may(Right::load_code, "modules: loading code"); !allowed) return allowed.error();
  if (!config.command.empty())
    if (const auto allowed = may(Right::load_code, "command: naming a program"); !allowed) return allowed.error();
  if (config.modules.empty() && config.runtime == "native" && !core_.config.pools.empty())
    config.modules = core_.config.pools.front().modules;
  auto pool = core_.pools.open(std::move(config), {number_, who_.uid}, std::move(worker_fds));
  if (!pool) return pool.error();
  audit(frame.prefix.op, {{"pool", (*pool)->name()}, {"runtime", (*pool)->config().runtime}});
  const auto answer = [to = later(), request = frame.prefix.request, name = (*pool)->name()](const std::string& error) {
    to([&](Session& session) {
      if (error.empty()) return session.reply(request, {{"pool", name}});
      session.reply_error(request, fail(Errc::start_failed, error));
      if (const auto failed = session.core_.pools.find(name, session.number_)) failed->close(true, {});
      session.core_.turn.end_later();
    });
  };
  // It may have failed already, or have found a warm zygote; the answer is the same.
  if (!(*pool)->last_error().empty())
    answer((*pool)->last_error());
  else
    (*pool)->on_started = answer;
  return boost::system::in_place_value;
}

Result<void> Session::pool_close(const FrameView& frame) {
  const auto wanted = decode<PoolName>(frame.head);
  if (!wanted) return wanted.error();
  const auto pool = find_pool(wanted->pool, true);
  if (!pool) return pool.error();
  if ((*pool)->owner_session() == 0)
    return fail(Errc::permission_denied, "pool '" + (*pool)->name() + "' is the config's: it ends with a reload");
  audit(frame.prefix.op, {{"pool", (*pool)->name()}});
  (*pool)->close(wanted->terminate, [to = later(), request = frame.prefix.request] {
    to([&](Session& session) { session.reply(request, nlohmann::json::object()); });
  });
  core_.turn.end_later();
  return boost::system::in_place_value;
}

Result<void> Session::pool_resize(const FrameView& frame) {
  const auto wanted = decode<PoolResize>(frame.head);
  if (!wanted) return wanted.error();
  const auto pool = find_pool(wanted->pool, true);
  if (!pool) return pool.error();
  audit(frame.prefix.op, {{"pool", (*pool)->name()}, {"workers", wanted->workers}});
  (*pool)->resize(wanted->workers);
  reply(frame.prefix.request, {{"pool", (*pool)->name()}, {"workers", wanted->workers}});
  return boost::system::in_place_value;
}

Result<void> Session::pool_pause(const FrameView& frame) {
  const auto pool = pool_to_change(frame);
  if (!pool) return pool.error();
  audit(frame.prefix.op, {{"pool", (*pool)->name()}});
  (*pool)->set_paused(true);
  reply(frame.prefix.request, {{"pool", (*pool)->name()}, {"paused", true}});
  return boost::system::in_place_value;
}

Result<void> Session::pool_resume(const FrameView& frame) {
  const auto pool = pool_to_change(frame);
  if (!pool) return pool.error();
  audit(frame.prefix.op, {{"pool", (*pool)->name()}});
  (*pool)->set_paused(false);
  reply(frame.prefix.request, {{"pool", (*pool)->name()}, {"paused", false}});
  return boost::system::in_place_value;
}

}  // namespace taskpool::server
