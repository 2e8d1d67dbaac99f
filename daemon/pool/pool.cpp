#include "daemon/pool/pool.hpp"

#include <fcntl.h>
#include <fmt/core.h>

#include <algorithm>
#include <csignal>
#include <utility>

#include "daemon/log.hpp"
#include "daemon/os/cpus.hpp"
#include "daemon/os/usage.hpp"
#include "proto/limits.hpp"

/// Workers come and go here: zygotes, forks, deaths, replacements.
namespace taskpool::pool {

namespace {
using namespace std::chrono_literals;

/// Delay before the next try after the first failure in a row, and the longest.
constexpr std::chrono::milliseconds kFirstBackOff = 100ms;
constexpr std::chrono::milliseconds kLongestBackOff = 10s;
/// How long a worker that was told to end may take.
constexpr auto kStopGrace = 2s;
/// Failures in a row after which a session's pool without a worker gives up: its session would wait for nothing.
constexpr std::uint32_t kMostFailures = 4;
/// Workers that a zygote is asked for at a time by one pool, before it has any and then: the first ones take work while
/// others are being forked, and another pool's first worker waits behind no more than these.
constexpr std::uint32_t kMostForking = 4;
constexpr std::uint32_t kMoreForking = 2;
/// How often a worker's resident size is looked at.
constexpr auto kMemoryCheck = 100ms;
/// Above the zygote's, which is above the supervisor's: when memory runs out, a worker goes first.
constexpr int kWorkerOomScore = 500;

std::uint32_t worker_target(const PoolConfig& config) {
  return config.workers > 0 ? std::min(config.workers, kMaxWorkers) : static_cast<std::uint32_t>(os::available_cpus());
}

}  // namespace

Pool::Pool(Services& services, PoolConfig config, const PoolOwner& owner, WorkerFds fds)
    : services_{services},
      config_{std::move(config)},
      owner_{owner},
      fds_{std::move(fds)},
      target_{worker_target(config_)},
      plan_{plan_limits(config_, services.means)},
      cpus_{os::available_cpus()},
      timer_{services.turn.io()} {}

Pool::~Pool() {
  for (const auto& zygote : {current_, next_})
    if (zygote) zygote->forget(*this);
}

ZygotePtr Pool::let_go() {
  fds_ = {};
  for (const auto& zygote : {current_, next_})
    if (zygote) zygote->forget(*this);
  next_.reset();
  return std::exchange(current_, nullptr);
}

// Zygotes

void Pool::use(ZygotePtr zygote) {
  if (next_) next_->forget(*this);
  next_ = std::move(zygote);
  if (next_ && next_->state() != Zygote::State::starting) on_zygote_changed(*next_);
}

void Pool::on_zygote_changed(Zygote& zygote) {
  if (next_.get() == &zygote) {
    if (zygote.state() == Zygote::State::failed) {
      const auto why = zygote.error();
      next_.reset();
      back_off(why);
      tell_started(why);
      sleep_again();
      return;
    }
    current_ = std::exchange(next_, nullptr);
    forking_ = 0;  // what the old one was asked for comes to be retired
    forks_.clear();
    if (target_ == 0) {
      failures_ = 0;  // else they are forgotten when a worker has started
      tell_started({});
    }
    for (const auto& worker : std::vector{workers_})
      if (worker->zygote() != current_) retire(*worker);
    top_up();
    services_.turn.end_later();
    return;
  }
  if (zygote.state() == Zygote::State::failed) zygote_died(zygote);
}

void Pool::zygote_died(Zygote& zygote) {
  for (const auto& worker : std::vector{workers_})
    if (worker->zygote().get() == &zygote) finish(worker, std::nullopt);
  if (current_.get() != &zygote) return;
  ++services_.metrics.zygotes_died;
  forking_ = 0;
  forks_.clear();
  current_.reset();
  if (closing_ && !has_work()) return tell_closed();
  log::warning("zygote_died", {{"pool", name()}, {"error", zygote.error()}});
  last_error_ = zygote.error();
  if (config_.once && forked_once_) {  // those that were being forked are none
    tell_started(zygote.error());
    return give_up(Errc::pool_closed);
  }
  if (failures_ == 0) {
    ++failures_;  // the first time at once
    if (on_zygote_wanted) on_zygote_wanted(*this);
  } else {
    back_off(zygote.error());
  }
}

void Pool::back_off(const std::string& why) {
  last_error_ = why;
  ++metrics_.start_failures;
  const auto delay = std::min(kFirstBackOff * (1u << std::min(failures_, 10u)), kLongestBackOff);
  ++failures_;
  retry_at_ = services_.turn.now() + delay;
  log::warning("start_failed", {{"pool", name()}, {"error", why}, {"retrying_in_ms", delay.count()}});
  services_.turn.end_later();  // arms the timer
}

void Pool::on_death_at_start(const Worker& worker, const Death& death) {
  const auto why = describe(death) + ", before it was ready";
  back_off(why);
  if (failures_ < kMostFailures || death.zygote_died) return;
  if (is_newest(worker)) tell_started(why);
  give_up(Errc::start_failed);
  sleep_again();
}

void Pool::give_up(Errc code) {
  if (owner_.session == 0 || (closing_ && !has_work()) || serving() > 0) return;
  for (auto* const job : open_jobs()) cancel(*job, true, code);
  close(true, {});
}

bool Pool::is_up() const {
  if (target_ == 0 || last_error_.empty() || is_dormant()) return true;
  return std::any_of(workers_.begin(), workers_.end(),
                     [](const auto& worker) { return worker->state == WorkerState::working; });
}

void Pool::sleep_again() {
  if (!config_.on_demand || serving() > 0) return;
  called_ = false;
  retry_at_.reset();
  failures_ = 0;
  for (auto* const job : open_jobs()) cancel(*job, true, Errc::start_failed);
}

void Pool::tell_started(const std::string& error) {
  if (const auto call = std::exchange(on_started, nullptr)) call(error);
}

// Workers

bool Pool::fills_place(const Worker& worker) const {
  return (worker.state == WorkerState::starting || worker.state == WorkerState::working) && worker.lent == 0 &&
         worker.zygote() == current_;
}

std::uint32_t Pool::filled_places() const {
  return static_cast<std::uint32_t>(
      std::count_if(workers_.begin(), workers_.end(), [&](const auto& worker) { return fills_place(*worker); }));
}

std::uint32_t Pool::serving() const { return filled_places() + forking_; }

void Pool::top_up() {
  if (closing_ && !has_work()) return;
  called_ = called_ || has_work();
  if (is_dormant()) return;
  if (config_.once && forked_once_) return;
  if (retry_at_) return;
  if (!current_) {
    if (!next_ && on_zygote_wanted) on_zygote_wanted(*this);
    return;
  }
  if (current_->state() != Zygote::State::ready) return;
  auto most = workers_.empty() ? kMostForking : kMoreForking;
  if (config_.once) most = target_;  // they are asked for once
  for (auto alive = serving(); alive < target_ && forking_ < most && !retry_at_; ++alive) fork_one();
  retire_surplus();
  if (config_.once) {
    forked_once_ = true;
    fds_ = {};  // whoever waits for the other end of a pipe to close waits for the workers alone
  }
}

void Pool::fork_one() {
  Fork request;
  request.worker = ++services_.last_worker;
  request.token = services_.make_token();
  request.task_prefix = services_.jobs.prefix();
  request.socket = services_.config.socket;
  request.environment = config_.environment;
  request.cwd = config_.cwd;
  request.initializer = config_.initializer;
  request.initializer_arguments = config_.initializer_arguments;
  request.oom_score_adj = kWorkerOomScore;
  request.setup = static_cast<bool>(fds_.setup);
  Forking forking{request.token, std::nullopt, plan_.cgroup.memory_bytes, os::oom_kills_of_host()};
  if (plan_.own_cgroup) {
    auto group = services_.cgroups->make(fmt::format("worker-{}", request.worker), plan_.cgroup);
    if (!group) return back_off(group.error().detail);
    request.cgroup = group->path();
    forking.group = std::move(*group);
  }
  request.data_bytes = plan_.process.data_bytes;
  request.processes = plan_.process.processes;
  request.open_files = plan_.process.open_files;
  request.nice = static_cast<std::uint32_t>(plan_.process.nice);
  std::vector<int> fds;
  for (const auto& fd : fds_.stdio) fds.push_back(fd.get());
  if (request.setup) fds.push_back(fds_.setup.get());
  if (const auto asked = current_->fork(request, fds, *this); !asked) {
    back_off(asked.error().detail);
    return;
  }
  forks_.emplace(request.worker, std::move(forking));
  ++forking_;
}

bool Pool::serves(const Worker& worker) const {
  return worker.state == WorkerState::working && !worker.stopping && !worker.exit_seen && fills_place(worker);
}

void Pool::retire(Worker& worker) {
  take_back(worker);
  advance(worker, WorkerEvent::retire_asked);
  if (worker.is_idle()) advance(worker, WorkerEvent::emptied);
}

void Pool::retire_surplus() {
  // The newest go first, whoever is still being forked once it is here: they stand in for a place that was lent, and an
  // older one is warm and may hold a lock for later tasks.
  auto surplus = static_cast<std::int64_t>(filled_places()) - target_;
  const auto workers = workers_;
  for (auto worker = workers.rbegin(); worker != workers.rend() && surplus > 0; ++worker) {
    if (!fills_place(**worker)) continue;
    retire(**worker);
    --surplus;
  }
}

void Pool::update(PoolConfig config) {
  config_ = std::move(config);
  target_ = worker_target(config_);
  plan_ = plan_limits(config_, services_.means);
}

void Pool::resize(std::uint32_t workers) {
  target_ = workers;
  config_.workers = workers;
  if (target_ == 0 && current_ && !next_) tell_started({});
  top_up();
  services_.turn.end_later();
}

void Pool::set_paused(bool paused) {
  paused_ = paused;
  if (paused)
    for (const auto& worker : workers_) take_back(*worker);
  services_.turn.end_later();
}

void Pool::close(bool terminate, std::function<void()> closed) {
  if (closed) {
    closed_ = [before = std::move(closed_), closed = std::move(closed)] {
      if (before) before();
      closed();
    };
  }
  closing_ = true;
  paused_ = false;
  if (terminate) {
    for (auto* const job : open_jobs()) cancel(*job, true);
  }
  tell_closed();
}

std::vector<queue::Job*> Pool::open_jobs() {
  std::vector<queue::Job*> jobs;
  for (auto& job : services_.jobs.all())
    if (!job.ended && job.pool.get() == this) jobs.push_back(&job);
  return jobs;
}

void Pool::tell_closed() {
  if (!closing_) return;
  if (!has_work()) {
    for (const auto& worker : std::vector{workers_}) advance(*worker, WorkerEvent::stop_asked);
    forking_ = 0;  // a worker that comes yet finds its channel closed; it may be long in coming, behind a main module
    forks_.clear();
  }
  if (!is_closed()) return;
  services_.turn.end_later();  // at which closed pools are forgotten
  retry_at_.reset();
  if (owner_.session == 0) tell_started("closed before it had started");
  if (const auto call = std::exchange(closed_, nullptr)) call();
}

std::shared_ptr<Worker> Pool::find_worker(std::uint32_t number) const {
  const auto found =
      std::find_if(workers_.begin(), workers_.end(), [&](const auto& worker) { return worker->number() == number; });
  return found == workers_.end() ? nullptr : *found;
}

void Pool::advance(Worker& worker, WorkerEvent event) {
  const auto next = step(worker.state, event);
  if (!next) {
    log::error("bug", {{"what", "worker state"},
                       {"worker", worker.number()},
                       {"state", taskpool::pool::name(worker.state)},
                       {"worker_event", static_cast<int>(event)}});
    return;
  }
  worker.state = next->next;
  switch (next->action) {
    case WorkerAction::stop:
      worker.stopping = Stopping{0, Errc::cancelled, services_.turn.now() + kStopGrace, false};
      worker.channel().close_after_flush();
      services_.turn.end_later();  // arms the timer
      break;
    case WorkerAction::offer_work: services_.turn.end_later(); break;
    case WorkerAction::none:
    case WorkerAction::back_off:  // finish() sees to it
    case WorkerAction::clean_up:
    case WorkerAction::fail_tasks: break;
  }
}

void Pool::on_forked(const ZygotePtr& zygote, const Forked& forked, os::UniqueFd channel, os::UniqueFd pidfd,
                     os::UniqueFd page) {
  const auto fork = forks_.find(forked.worker);
  os::UniqueFd watched{::fcntl(pidfd.get(), F_DUPFD_CLOEXEC, 0)};
  if (!watched) return on_fork_failed({forked.worker, errno_error("duplicate a pidfd").detail});
  auto memory = os::SharedMemory::attach(std::move(page), kClaimPageBytes);
  const bool wanted = zygote == current_ && fork != forks_.end() && (!closing_ || has_work());
  if (fork != forks_.end()) {
    --forking_;
    if (!wanted || !memory) forks_.erase(fork);
  }
  if (!wanted || !memory) {
    if (wanted) {
      log::error("claim_page", {{"worker", forked.worker}, {"error", memory.error().detail}});
      back_off(memory.error().detail);
    }
    tell_closed();
    return;  // its channel closes, at which it ends
  }
  memory->close_fd();
  ++services_.metrics.workers_started;
  auto worker = std::make_shared<Worker>(services_.turn, *this, services_.arenas, zygote, forked.worker,
                                         static_cast<pid_t>(forked.pid), std::move(channel), std::move(pidfd),
                                         std::move(watched), std::move(*memory));
  worker->token = std::move(fork->second.token);
  worker->group = std::move(fork->second.group);
  worker->max_task_memory = fork->second.max_task_memory;
  worker->host_oom_kills = fork->second.host_oom_kills;
  forks_.erase(fork);
  workers_.push_back(worker);
  worker->watch(worker, shared_from_this());
  top_up();
}

void Pool::on_fork_failed(const ForkFailed& failure) {
  if (forks_.erase(failure.worker) > 0) --forking_;
  ++services_.metrics.fork_failures;
  back_off(failure.detail);
  if (!next_) tell_started(failure.detail);
  if (config_.once && workers_.empty() && forking_ == 0) give_up(Errc::start_failed);
  tell_closed();
}

void Pool::on_worker_ready(Worker& worker) {
  advance(worker, WorkerEvent::ready);
  if (worker.state != WorkerState::working) return;
  failures_ = 0;
  last_error_.clear();
  if (is_newest(worker)) tell_started({});
}

void Pool::on_worker_failed(Worker& worker, const WorkerFailed& failure) {
  const auto why = failure.traceback.empty() ? failure.detail : failure.detail + "\n" + failure.traceback;
  advance(worker, WorkerEvent::stop_asked);
  back_off(why);
  if (is_newest(worker)) tell_started(why);
  if (failures_ < kMostFailures) return;
  give_up(Errc::start_failed);
  sleep_again();
}

void Pool::on_worker_exit_seen(Worker& worker) {
  worker.exit_seen = services_.turn.now();
  services_.turn.end_later();  // arms the timer
}

void Pool::on_worker_broken(Worker& worker, const std::string& why) {
  if (!why.empty())
    log::warning("worker_protocol_error", {{"worker", worker.number()}, {"pid", worker.pid()}, {"error", why}});
  // It ends by itself, or will be killed: a worker without a channel is of no use.
  if (worker.state != WorkerState::stopping) worker.kill();
}

void Pool::on_exited(const Exited& exited) {
  if (const auto worker = find_worker(exited.worker)) {
    finish(worker, exited);
    return;
  }
  if (forks_.erase(exited.worker) > 0) --forking_;
  top_up();
  tell_closed();
}

Death Pool::death_of(const Worker& worker, const std::optional<Exited>& exited) const {
  Death death{.worker = worker.number(), .pid = worker.pid(), .exited = exited};
  if (worker.zygote()->state() == Zygote::State::failed) death.zygote_died = worker.zygote()->error();
  if (worker.group) death.group = worker.group->use();
  death.max_task_memory = worker.max_task_memory;
  // Read only where it can mean something: /proc/vmstat is long.
  if (!exited || exited->signal == SIGKILL) death.host_oom_kills = os::oom_kills_of_host() - worker.host_oom_kills;
  return death;
}

void Pool::finish(const std::shared_ptr<Worker>& worker, const std::optional<Exited>& exited) {
  const auto death = death_of(*worker, exited);
  auto remains = worker->bury();  // first: its last words may be that it is ready, or why it is not
  const bool asked = worker->state == WorkerState::stopping;
  const bool was_starting = worker->state == WorkerState::starting;
  count_batch(*worker);
  advance(*worker, WorkerEvent::exited);
  worker->unwatch();
  if (std::exchange(worker->lent, 0) > 0) --services_.lent_workers;  // its task's session may end after it
  std::erase(workers_, worker);
  worker->group.reset();  // what its tasks left running there ends
  if (!asked) {
    ++services_.metrics.workers_died;
    ++metrics_.workers_died;
    log::warning("worker_exited",
                 {{"worker", worker->number()}, {"pid", worker->pid()}, {"pool", name()}, {"how", describe(death)}});
  }
  if (worker->recycled) {
    ++services_.metrics.workers_recycled;
    ++metrics_.workers_recycled;
  }
  requeue_remains(*worker, std::move(remains), death);
  if (was_starting) on_death_at_start(*worker, death);
  if (config_.once && workers_.empty() && forking_ == 0) give_up(Errc::pool_closed);
  top_up();
  tell_closed();
  services_.turn.end_later();
}

void Pool::requeue_remains(Worker& worker, Worker::Remains remains, const Death& death) {
  const auto& exited = death.exited;
  ErrorHead lost;
  lost.code = cause_of(death);
  lost.detail = describe(death);
  if (exited && exited->signal != 0) lost.signal = exited->signal;
  if (exited && exited->signal == 0) lost.exit_code = exited->exit_code;
  if (const auto position = worker.position(); position > 0) lost.position = position;
  // From the last to the first, so that pushing to the front keeps their order.
  for (auto assignment = remains.assignments.rbegin(); assignment != remains.assignments.rend(); ++assignment) {
    auto& job = *assignment->job;
    const auto position = remains.died_in ? *remains.died_in - assignment->first : assignment->range.count;
    if (position >= assignment->range.count) {
      return_range(job, std::move(assignment->range), assignment->cost_ns);
      continue;
    }
    auto after = assignment->range;
    after.drop_front(position + 1);
    auto fatal = assignment->range;
    fatal.drop_front(position);
    fatal.count = 1;
    auto before = assignment->range;
    before.count = position;
    const bool more = before.count > 0;
    if (after.count > 0) return_range(job, std::move(after), assignment->cost_ns);
    if (more) return_range(job, std::move(before), assignment->cost_ns);
    const auto count_run = [&] {
      const auto now = services_.turn.now();
      count_wait(*assignment, 1);
      metrics_.run.add(remains.since > worker.started && remains.since < now ? now - remains.since
                                                                             : std::chrono::nanoseconds{});
    };
    const bool killed_by_us = worker.stopping && worker.stopping->ticket == *remains.died_in;
    if (killed_by_us) {
      auto error = lost;
      error.code = worker.stopping->reason;
      error.detail =
          worker.stopping->detail.empty() ? "cancelled while it ran; its worker was killed" : worker.stopping->detail;
      count_run();
      fail_range(job, fatal, std::move(error));
      continue;
    }
    const bool again = runs_again(fatal, lost.code, death.zygote_died.has_value(), job.call->call);
    if (again && !job.cancelled) {
      const std::uint32_t deaths = fatal.deaths + fatal.memory_deaths + fatal.zygote_deaths;
      repeat_later(job, std::move(fatal), deaths > 0 ? deaths - 1u : 0u);
    } else {
      count_run();
      fail_range(job, fatal, lost);
    }
  }
}

void Pool::on_worker_batch(Worker& worker) {
  count_batch(worker);
  if (!worker.is_idle()) return;
  if (config_.max_worker_memory > 0 && worker.done_total > 0) check_memory(worker, services_.turn.now());
  if (config_.max_tasks_per_worker > 0 && worker.given_total >= config_.max_tasks_per_worker &&
      worker.state == WorkerState::working) {
    worker.recycled = true;
    advance(worker, WorkerEvent::retire_asked);
    top_up();
  }
  advance(worker, WorkerEvent::emptied);
  tell_closed();
}

void Pool::check_memory(Worker& worker, TimePoint now) {
  if (now < worker.memory_checked + kMemoryCheck || worker.state != WorkerState::working) return;
  worker.memory_checked = now;
  if (os::resident_bytes(worker.pid()) < config_.max_worker_memory) return;
  worker.recycled = true;
  advance(worker, WorkerEvent::retire_asked);
  top_up();
}

void Pool::detach(std::uint32_t session) {
  for (const auto& worker : workers_) worker->detach(session);
}

// Functions

queue::Function& Pool::function(const std::string& name) {
  auto& function = functions_[name];
  if (!function) {
    function = std::make_unique<queue::Function>();
    function->name = name;
  }
  return *function;
}

bool Pool::may_have(const queue::Function& function) const {
  return (current_ && function.generation == current_->generation()) || may_have(function.name);
}

bool Pool::may_have(const std::string& name) const {
  return !current_ || current_->state() != Zygote::State::ready || current_->find_function(name).has_value();
}

std::vector<std::string> Pool::function_names() const {
  std::vector<std::string> names;
  if (current_)
    for (const auto& function : current_->functions()) names.push_back(function.name);
  return names;
}

}  // namespace taskpool::pool
