#include "daemon/app.hpp"

#include <fmt/core.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <random>

#include "daemon/exit_codes.hpp"
#include "daemon/log.hpp"
#include "daemon/os/notify.hpp"
#include "daemon/os/process.hpp"
#include "daemon/os/process_limits.hpp"
#include "daemon/os/text_file.hpp"
#include "daemon/server/token.hpp"
#include "daemon/wire/spawn.hpp"
#include "proto/build_id.hpp"

namespace taskpool {

namespace {

using namespace std::chrono_literals;

/// How long everything may take to end after the last task was stopped, were even every process of a pool stopped by a
/// signal: the worker's and the zygote's graces, 2 s each, with what is between them.
constexpr auto kLastGrace = 6s;
/// The supervisor is the last to be killed when memory runs out, if it may say so.
constexpr int kSupervisorOomScore = -500;

}  // namespace

App::App(Config config, CommandLine command_line, os::PassedSockets passed)
    : config_{std::move(config)},
      command_line_{std::move(command_line)},
      passed_{std::move(passed)},
      jobs_{std::random_device{}()},
      arenas_{config_, metrics_},
      services_{turn_, arenas_, jobs_, metrics_, config_},
      pools_{services_},
      keeper_{turn_, config_, metrics_, jobs_, arenas_},
      waiters_{turn_},
      store_{io_, config_, metrics_},
      core_{turn_,    config_,   metrics_, jobs_,        pools_, arenas_, keeper_,
            waiters_, failures_, store_,   permissions_, users_, *this},
      server_{core_},
      metrics_server_{core_},
      signals_{io_.get_executor(), {SIGTERM, SIGINT, SIGHUP, SIGCHLD}},
      stop_timer_{io_},
      idle_timer_{io_},
      watchdog_timer_{io_} {
  services_.make_token = server::make_token;
  services_.on_ended = [this](queue::Job& job) { waiters_.on_ended(job); };
  services_.on_uncollected = [this](const queue::Job& job, std::uint32_t index, const ErrorHead& error) {
    ++metrics_.failures_uncollected;
    log::warning("failure_uncollected", {{"task", jobs_.text(job.id)},
                                         {"index", index},
                                         {"function", job.call->call.function},
                                         {"code", name(error.code)},
                                         {"detail", error.detail}});
    failures_.add({jobs_.text(job.id), index, job.call->call.function, job.pool->name(), job.uid, error.code,
                   error.detail, turn_.now()});
  };
  keeper_.pin = [this](const std::string& id, std::uint32_t uid) { return store_.pin_named(id, uid, nullptr); };
  keeper_.on_uncollected = services_.on_uncollected;
  keeper_.on_dropped = [this](const queue::Job& job) {
    if (job.call->call.command.empty()) return;
    const auto base = config_.spool + "/" + jobs_.text(job.id);
    for (const char* end : {".out", ".err"}) ::unlink((base + end).c_str());  // most have none
  };
  turn_.on_end = [this] { on_turn_end(); };
}

App::~App() = default;

Result<void> App::prepare() {
  (void)os::set_oom_score_adj(kSupervisorOomScore);  // only root may; it is a wish
  auto permissions = server::Permissions::make(config_, ::geteuid(), server::host_lookups());
  if (!permissions) return permissions.error();
  permissions_ = std::move(*permissions);
  if (const auto subreaper = os::set_subreaper(); !subreaper) return subreaper.error();
  auto listening =
      passed_.clients ? server::SocketPath::adopt(std::move(*passed_.clients))
                      : server::SocketPath::listen("socket", config_.socket, config_.socket_mode, config_.socket_group);
  if (!listening) return listening.error();
  socket_.emplace(std::move(*listening));
  if (!config_.admin_socket.empty()) {
    auto admin = passed_.admin ? server::SocketPath::adopt(std::move(*passed_.admin))
                               : server::SocketPath::listen("admin_socket", config_.admin_socket,
                                                            config_.admin_socket_mode, config_.admin_socket_group);
    if (!admin) return admin.error();
    admin_socket_.emplace(std::move(*admin));
  }
  if (const auto opened = store_.start(); !opened) return opened.error();
  if (!config_.metrics_listen.empty()) {
    if (const auto listens = metrics_server_.listen(); !listens) return listens.error();
    metrics_server_.serve();
    log::info("metrics", {{"address", metrics_server_.address()}});
  }
  // What a killed daemon left there belongs to tasks that are no more.
  std::error_code error;
  std::filesystem::create_directories(config_.spool, error);
  if (!error) std::filesystem::permissions(config_.spool, std::filesystem::perms::owner_all, error);
  if (error) return fail(Errc::system, "spool '" + config_.spool + "': " + error.message());
  for (const auto& entry : std::filesystem::directory_iterator(config_.spool, error))
    if (entry.is_regular_file(error)) std::filesystem::remove(entry.path(), error);
  return boost::system::in_place_value;
}

void App::find_means() {
  auto& means = services_.means;
  means.process_limit = os::is_bound_by_process_limit();
  means.open_files = os::most_open_files();
  const auto own = os::CgroupTree::own_directory(os::read_text("/proc/self/cgroup"), "/sys/fs/cgroup");
  auto tree = own ? os::CgroupTree::take_over(*own, {"memory", "pids"}) : Result<os::CgroupTree>{own.error()};
  if (tree) {
    cgroups_.emplace(std::move(*tree));
    services_.cgroups = &*cgroups_;
    means.cgroups = true;
    means.cgroup_memory = cgroups_->has("memory");
    means.cgroup_pids = cgroups_->has("pids");
    means.why_no_cgroups = cgroups_->base() + " has no such controller";
  } else {
    means.why_no_cgroups = "no cgroups: " + tree.error().detail;
  }
  log::info("limits", {{"memory_by", means.cgroup_memory ? "cgroup" : "rlimit"},
                       {"processes_by", means.cgroup_pids     ? "cgroup"
                                        : means.process_limit ? "rlimit"
                                                              : "nobody"},
                       {"cgroup", cgroups_ ? cgroups_->base() : ""},
                       {"why", means.cgroup_memory && means.cgroup_pids ? "" : means.why_no_cgroups}});
}

void App::warn_of_limits() const {
  for (const auto& pool : config_.pools)
    for (const auto& limit : pool::plan_limits(pool, services_.means).limits)
      if (!limit.note.empty())
        log::warning("limit_weakened", {{"pool", pool.name},
                                        {"limit", limit.key},
                                        {"value", limit.value},
                                        {"by", pool::name(limit.by)},
                                        {"note", limit.note}});
}

int App::run() {
  log::set_level(config_.log_level);
  if (const auto ready = prepare(); !ready) {
    log::error("start_failed", {{"error", ready.error().detail}});
    return ready.error().errc() == Errc::already_running ? kExitTemporary : kExitConfig;
  }
  const auto ended = [this](const std::string& error) {
    if (error.empty()) return;
    log::error("bug", {{"what", "supervisor"}, {"error", error}});
    exit_code_ = kExitFailed;
    shutdown(true);
  };
  find_means();
  warn_of_limits();
  wire::spawn(io_, hear_signals(), ended);
  wire::spawn(io_, feed_watchdog(), ended);
  pools_.open_configured([this](const std::string& error) { on_pools_started(error); });
  server_.on_ended = [this] { watch_idle(); };
  io_.run();
  os::block_signals({SIGTERM, SIGINT, SIGHUP});
  store_.leave();
  std::error_code ignored;
  std::filesystem::remove(config_.spool, ignored);  // stays if it holds something
  return exit_code_;
}

void App::on_pools_started(const std::string& error) {
  if (phase_ != Phase::starting) return;
  if (!error.empty()) {
    log::error("start_failed", {{"error", error}});
    exit_code_ = kExitFailed;
    return shutdown(true);
  }
  phase_ = Phase::serving;
  metrics_server_.set_started();
  server_.serve(socket_->fd(), server::Door::clients);
  if (admin_socket_) server_.serve(admin_socket_->fd(), server::Door::admin);
  log::info("started", {{"socket", config_.socket},
                        {"admin_socket", config_.admin_socket},
                        {"pid", ::getpid()},
                        {"build", std::string{build_id()}},
                        {"pools", config_.pools.size()}});
  os::notify_ready(fmt::format("serving {}", config_.socket));
  watch_idle();
}

boost::asio::awaitable<void> App::hear_signals() {
  while (const auto signal = co_await signals_.next()) {
    switch (*signal) {
      case SIGHUP:
        reload([](const std::string& error, const ConfigChanges&) {
          if (!error.empty()) log::error("reload_failed", {{"error", error}});
        });
        break;
      case SIGCHLD: reap_orphans(); break;
      default: log::info("signal", {{"signal", *signal}}); shutdown(stopping_);  // the second time at once
    }
  }
}

boost::asio::awaitable<void> App::feed_watchdog() {
  const auto interval = os::watchdog_interval();
  while (interval && phase_ != Phase::stopping) {
    watchdog_timer_.expires_after(*interval);
    if (const auto [error] = co_await watchdog_timer_.async_wait(wire::kTuple); error) co_return;
    os::notify_watchdog();
  }
}

void App::reap_orphans() {
  (void)os::reap_orphans([this](pid_t pid) { return services_.children.contains(pid); });
}

void App::on_turn_end() {
  pools_.dispatch();
  check_drained();
  if (config_.idle_exit.count() > 0 && phase_ == Phase::serving) watch_idle();
}

void App::reload(std::function<void(const std::string& error, const ConfigChanges&)> done) {
  auto loaded = load_config(command_line_);
  if (!loaded) return done(loaded.error().detail, {});
  if (is_draining()) return done("the daemon is stopping", {});
  auto permissions = server::Permissions::make(*loaded, ::geteuid(), server::host_lookups());
  if (!permissions) return done(permissions.error().detail, {});
  permissions_ = std::move(*permissions);
  server_.update_bounds();
  os::notify_reloading();
  const auto changes = compare(config_, *loaded);
  const auto keep_socket = config_.socket;
  const auto keep_admin_socket = config_.admin_socket;
  const auto keep_spool = config_.spool;
  const auto keep_store = config_.store_dir;
  const auto keep_metrics = config_.metrics_listen;
  config_ = std::move(*loaded);
  config_.socket = keep_socket;
  config_.admin_socket = keep_admin_socket;
  config_.spool = keep_spool;
  config_.store_dir = keep_store;
  config_.metrics_listen = keep_metrics;
  log::set_level(config_.log_level);
  warn_of_limits();
  pools_.reload([changes, done = std::move(done), this](const std::string& error) {
    log::info("reloaded", {{"changed", fmt::format("{}", fmt::join(changes.changed, ","))},
                           {"needs_restart", fmt::format("{}", fmt::join(changes.needs_restart, ","))},
                           {"error", error}});
    os::notify_ready(fmt::format("serving {}", config_.socket));
    done(error, changes);
  });
}

void App::drain(std::chrono::milliseconds timeout, std::function<void(bool drained)> done) {
  draining_ = true;
  auto waiter = std::make_shared<DrainWaiter>();
  waiter->done = std::move(done);
  if (timeout.count() > 0) {
    waiter->deadline = std::make_unique<boost::asio::steady_timer>(io_, timeout);
    waiter->deadline->async_wait([this, weak = std::weak_ptr{waiter}](const boost::system::error_code& error) {
      const auto late = weak.lock();
      if (error || !late) return;
      std::erase(drain_waiters_, late);
      late->done(false);
    });
  }
  drain_waiters_.push_back(std::move(waiter));
  turn_.end_later();
}

void App::check_drained() {
  if (!is_draining() || pools_.has_work()) return;
  for (const auto& waiter : std::exchange(drain_waiters_, {})) {
    if (waiter->deadline) waiter->deadline->cancel();
    waiter->done(true);
  }
  if (stopping_ && phase_ != Phase::stopping) stop_now();
}

void App::shutdown(bool force) {
  if (phase_ == Phase::stopping) return;
  if (!stopping_) {
    stopping_ = true;
    os::notify_stopping("finishing tasks");
    log::info("stopping", {{"work", describe_work()}});
    stop_timer_.expires_after(config_.stop_timeout);
    stop_timer_.async_wait([this](const boost::system::error_code& error) {
      if (error || phase_ == Phase::stopping) return;
      log::warning("stop_timeout", {{"cancelling", describe_work()}});
      stop_now();
    });
  }
  if (force) {
    if (pools_.has_work()) log::warning("stop_forced", {{"cancelling", describe_work()}});
    stop_now();
  }
  turn_.end_later();
}

std::string App::describe_work() const {
  std::uint64_t waiting = 0;
  std::uint64_t running = 0;
  for (const auto& pool : pools_.all()) {
    waiting += pool->queue().waiting();
    running += pool->queue().running();
  }
  return fmt::format("{} waiting, {} running", waiting, running);
}

void App::stop_now() {
  phase_ = Phase::stopping;
  server_.stop_accepting();
  if (socket_) socket_->close();
  if (admin_socket_) admin_socket_->close();
  idle_timer_.cancel();
  watchdog_timer_.cancel();
  pools_.stop([this] { finish(); });
  stop_timer_.expires_after(config_.cancel_grace + kLastGrace);
  stop_timer_.async_wait([](const boost::system::error_code& error) {
    if (error) return;
    log::error("stop_stuck", {{"what", "a worker or client did not end; leaving anyway"}});
    std::_Exit(kExitFailed);
  });
}

void App::finish() {
  // Sessions got their last replies at the end of this turn; then they end.
  boost::asio::post(io_, [this] {
    store_.freeze();
    server_.close_all();
    metrics_server_.stop();
    signals_.cancel();
    stop_timer_.cancel();
    waiters_.stop();
    keeper_.stop();
    log::info("stopped");
  });
}

void App::watch_idle() {
  const bool idle = config_.idle_exit.count() > 0 && phase_ == Phase::serving && server_.size() == 0 &&
                    !pools_.has_work() && keeper_.size() == 0 && store_.named() == 0;
  if (!idle) {
    idle_timer_.cancel();
    return;
  }
  idle_timer_.expires_after(config_.idle_exit);
  idle_timer_.async_wait([this](const boost::system::error_code& error) {
    if (error || phase_ != Phase::serving || server_.size() > 0 || pools_.has_work() || store_.named() > 0) return;
    log::info("idle", {{"idle_exit_ms", config_.idle_exit.count()}});
    shutdown(false);
  });
}

}  // namespace taskpool
