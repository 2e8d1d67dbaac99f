#pragma once

#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "daemon/config.hpp"
#include "daemon/metrics.hpp"
#include "daemon/os/unique_fd.hpp"
#include "daemon/pool/arena_source.hpp"
#include "daemon/pool/death.hpp"
#include "daemon/pool/limits.hpp"
#include "daemon/pool/worker.hpp"
#include "daemon/pool/zygote.hpp"
#include "daemon/queue/job_table.hpp"
#include "daemon/queue/queue.hpp"

namespace taskpool::pool {

/// What every pool of the daemon shares. Owned by the app, which outlives the pools.
struct Services {
  wire::Turn& turn;
  ArenaSource& arenas;
  queue::JobTable& jobs;
  Metrics& metrics;
  const Config& config;
  std::uint32_t last_worker = 0;  ///< Workers are numbered over all pools.
  std::uint32_t lent_workers = 0;
  PoolMetrics closed_pools{};  ///< Of the pools that sessions had opened and that are gone.
  Children children{};
  Means means{};                      ///< To enforce limits with.
  os::CgroupTree* cgroups = nullptr;  ///< Of the workers; null: there can be none.
  /// Somebody failed and nobody is there to be told.
  std::function<void(const queue::Job&, std::uint32_t index, const ErrorHead&)> on_uncollected{};
  /// A job has ended and its listener knows; it may be released right after.
  std::function<void(queue::Job&)> on_ended{};
  /// A secret that nobody can guess.
  std::function<std::string()> make_token{};
};

/// Whose a pool is: of a session, which it ends with, or of the configuration and so of the daemon's user.
struct PoolOwner {
  std::uint32_t session = 0;  ///< 0: the configuration.
  std::uint32_t uid = 0;
};

/// Descriptors that each worker of a session's pool begins with.
struct WorkerFds {
  std::vector<os::UniqueFd> stdio;  ///< Up to three.
  os::UniqueFd setup;               ///< For the runtime to make what it wants of; may be empty.
};

/// A queue of work and the workers that run it. Keeps as many workers as it should have, gives them work, tells the
/// jobs' listeners what came of it, and ends what has to end. pool.cpp: workers come and go; dispatch.cpp: work is
/// given out and watched; outcomes.cpp: what becomes of it.
class Pool : public WorkerOwner, public ZygoteUser, public std::enable_shared_from_this<Pool> {
 public:
  /// `owner`: the session that opened it, if any, and whose it is.
  Pool(Services& services, PoolConfig config, const PoolOwner& owner, WorkerFds fds);
  ~Pool() override;

  const PoolConfig& config() const { return config_; }
  const std::string& name() const { return config_.name; }
  std::uint32_t owner_session() const { return owner_.session; }
  std::uint32_t owner_uid() const { return owner_.uid; }
  queue::Queue& queue() { return queue_; }
  const queue::Queue& queue() const { return queue_; }
  const std::vector<std::shared_ptr<Worker>>& workers() const { return workers_; }
  const ZygotePtr& zygote() const { return current_; }
  std::uint32_t target() const { return target_; }
  std::uint32_t starting() const { return forking_; }
  bool is_paused() const { return paused_; }
  bool is_closing() const { return closing_; }
  const std::string& last_error() const { return last_error_; }
  const std::vector<Limit>& limits() const { return plan_.limits; }
  const PoolMetrics& metrics() const { return metrics_; }
  /// False if workers should be there and fail to start.
  bool is_up() const;

  // Life
  /// Uses this zygote for new workers as soon as it is ready; those of others finish what they hold and go.
  void use(ZygotePtr zygote);
  /// Called when the state of a zygote in use has changed.
  void on_zygote_changed(Zygote& zygote);
  /// No zygote could be started; tries again after a while.
  void on_zygote_unavailable(const std::string& why) {
    back_off(why);
    tell_started(why);
    sleep_again();
  }
  /// Set by whoever gives this pool its zygotes: asks for one more try, now or later.
  std::function<void(Pool&)> on_zygote_wanted;
  /// Called once for each start of a zygote: "" when a first worker is ready, else why there is none.
  std::function<void(const std::string&)> on_started;
  /// Takes effect with the next zygote.
  void update(PoolConfig config);
  void resize(std::uint32_t workers);
  void set_paused(bool paused);
  /// Takes no new work; ends when none is left. `closed` is called when its workers are gone.
  void close(bool terminate, std::function<void()> closed);
  bool is_closed() const { return closing_ && workers_.empty() && forking_ == 0 && !has_work(); }
  /// A closed pool, which kept jobs may keep, lets go of its descriptors, and of its zygote, which it returns.
  ZygotePtr let_go();
  /// True for one that waits for its first call before anything of it is started.
  bool is_dormant() const { return config_.on_demand && !called_; }
  bool has_work() const { return queue_.waiting() + queue_.running() + delayed_.size() > 0; }

  // Work
  /// The function of that name: made on first use. Whether workers have it is known when it is started.
  queue::Function& function(const std::string& name);
  /// True if the current generation has it, or might have it, or is not known yet.
  bool may_have(const queue::Function& function) const;
  bool may_have(const std::string& name) const;
  std::vector<std::string> function_names() const;
  std::size_t known_functions() const { return functions_.size(); }
  /// Nothing of the job starts any more, and what runs is asked to stop, and killed after the grace. The job may be
  /// gone when this returns. `code` is what its unfinished tasks end with.
  void cancel(queue::Job& job, bool force, Errc code = Errc::cancelled);
  /// Nothing of the job starts any more; what has begun goes on. Returns how many tasks that keeps from running. The
  /// job may be gone when this returns.
  std::uint32_t cancel_waiting(queue::Job& job);
  /// Ends a job's life if all its items have their outcomes. It may be gone when this returns.
  void settle(queue::Job& job);
  /// Gives out work. Called at the end of each turn in which something changed.
  void dispatch();
  /// What runs on `worker` waits for other tasks, or does not any more: its place is lent meanwhile. Error:
  /// `nesting_too_deep`, when too many are.
  Result<void> lend(Worker& worker);
  void give_back(Worker& worker);
  /// A session's arenas are gone.
  void detach(std::uint32_t session);

  // WorkerOwner
  void on_worker_ready(Worker& worker) override;
  void on_worker_failed(Worker& worker, const WorkerFailed& failure) override;
  void on_items_done(Worker& worker, Assignment& assignment, std::uint32_t count, const Prefix& form,
                     std::span<const std::byte> table, std::span<const std::byte> payload,
                     std::span<const std::string> refs) override;
  void on_items_failed(Worker& worker, Assignment& assignment, std::uint32_t count, ErrorHead error) override;
  void on_report(Worker& worker, const Assignment& assignment, const Report& report) override;
  void on_worker_batch(Worker& worker) override;
  void on_worker_exit_seen(Worker& worker) override;
  void on_worker_broken(Worker& worker, const std::string& why) override;

  // ZygoteUser
  void on_forked(const ZygotePtr& zygote, const Forked& forked, os::UniqueFd channel, os::UniqueFd pidfd,
                 os::UniqueFd page) override;
  void on_fork_failed(const ForkFailed& failure) override;
  void on_exited(const Exited& exited) override;

 private:
  using TimePoint = queue::TimePoint;
  struct Repeat {
    TimePoint due;
    queue::Job* job;
    queue::Range range;
  };
  /// Orders the heap of repeats: the soonest is its front.
  static bool is_later(const Repeat& a, const Repeat& b) { return a.due > b.due; }

  // pool.cpp
  void top_up();
  void fork_one();
  void back_off(const std::string& why);
  /// A worker died before it was ready. It may have been bad luck, so nobody is told before several have.
  void on_death_at_start(const Worker& worker, const Death& death);
  /// A session's pool that cannot start workers any more: what waits in it ends with `code`, and so does the pool.
  void give_up(Errc code);
  /// One that starts on demand and cannot: what waits in it ends with `start_failed`, and it waits for another call.
  void sleep_again();
  std::vector<queue::Job*> open_jobs();
  /// True for a worker that counts as one of those that the pool is to have: it begins or works, for itself.
  bool fills_place(const Worker& worker) const;
  std::uint32_t filled_places() const;
  /// Those, and those that are being forked.
  std::uint32_t serving() const;
  void advance(Worker& worker, WorkerEvent event);
  /// True for a worker that takes new work: not one that begins, goes, has lent its place, or is of an old generation.
  bool serves(const Worker& worker) const;
  /// Lets a worker finish what it has claimed, and then go.
  void retire(Worker& worker);
  /// The newest of them, where there are more than should be.
  void retire_surplus();
  void finish(const std::shared_ptr<Worker>& worker, const std::optional<Exited>& exited);
  Death death_of(const Worker& worker, const std::optional<Exited>& exited) const;
  void requeue_remains(Worker& worker, Worker::Remains remains, const Death& death);
  std::shared_ptr<Worker> find_worker(std::uint32_t number) const;
  void check_memory(Worker& worker, TimePoint now);
  void zygote_died(Zygote& zygote);
  void tell_started(const std::string& error);
  /// True for a worker of the generation that whoever waits for a start has asked for.
  bool is_newest(const Worker& worker) const { return !next_ && worker.zygote() == current_; }
  void tell_closed();

  // dispatch.cpp
  std::optional<std::uint32_t> resolve(queue::Function& function);
  /// What an open runtime runs without listing it is for root and the daemon's user: it may be anything.
  bool trusts(const queue::Job& job, std::uint32_t function) const;
  struct Choice {
    Worker* worker = nullptr;
    std::uint32_t items = 0;
  };
  Choice choose(const queue::Job& job) const;
  /// Whose it is has tasks on as many workers as he may: only those take more of his.
  static bool is_full(const queue::Job& job);
  void give_all();
  /// How many items `worker` has not claimed that should make room for `turn`: for a session with nothing running that
  /// waits behind what others have queued up, and for a priority above theirs. 0: they stay.
  static std::uint32_t room_for(const queue::SessionTurn& turn, Worker& worker);
  /// Takes such work back, where there is most of it. False if there is none.
  bool preempt(const queue::SessionTurn& turn);
  bool rebalance();
  void take_back(Worker& worker);
  void check(Worker& worker, TimePoint now);
  void check_running(Worker& worker, const Worker::Running& running, TimePoint now);
  void check_cpu(Worker& worker, const Worker::Running& running, TimePoint now);
  void stop_running(Worker& worker, Ticket ticket, Errc reason, TimePoint kill_at, TimePoint now,
                    std::string detail = {});
  std::optional<TimePoint> next_check(Worker& worker, TimePoint now) const;
  void arm_timer();
  void on_timer();
  void resume_due(TimePoint now);

  // outcomes.cpp
  /// The first `count` tasks of an assignment have ended: counts how long they had waited for this worker.
  void count_wait(const Assignment& assignment, std::uint32_t count);
  /// Counts, and learns, what the tasks took that the worker has reported since the last time.
  void count_batch(Worker& worker);
  void fail_range(queue::Job& job, const queue::Range& range, ErrorHead error);
  void cancel_range(queue::Job& job, const queue::Range& range);
  /// What waits, or waits to be repeated, ends as cancelled.
  void drop_waiting(queue::Job& job);
  void return_range(queue::Job& job, queue::Range range, std::int64_t cost_ns);
  void repeat_later(queue::Job& job, queue::Range range, std::uint32_t runs_before);
  void tell_failed(queue::Job& job, const queue::Range& range, const ErrorHead& error);

  Services& services_;
  PoolConfig config_;
  PoolMetrics metrics_;
  PoolOwner owner_;
  WorkerFds fds_;
  std::uint32_t target_;
  LimitPlan plan_;
  int cpus_;  ///< That one task can keep busy at a time.
  queue::Queue queue_;
  std::unordered_map<std::string, std::unique_ptr<queue::Function>> functions_;
  std::vector<std::shared_ptr<Worker>> workers_;
  /// What is kept for a worker that is being forked.
  struct Forking {
    std::string token;
    std::optional<os::Cgroup> group;
    std::uint64_t max_task_memory;
    std::uint64_t host_oom_kills;
  };
  std::unordered_map<std::uint32_t, Forking> forks_;  ///< By the worker's number.
  ZygotePtr current_;                                 ///< Forks new workers.
  ZygotePtr next_;                                    ///< Is starting, to replace it.
  std::uint32_t forking_ = 0;
  std::uint32_t failures_ = 0;  ///< In a row: to start a worker or a zygote.
  std::optional<TimePoint> retry_at_;
  const queue::SessionTurn* last_turn_ = nullptr;  ///< Whose work was given out last; only ever compared.
  TimePoint shared_until_{};                       ///< Until then sessions count as at work together.
  bool paused_ = false;
  bool closing_ = false;
  bool forked_once_ = false;
  bool called_ = false;  ///< It has had work.
  std::string last_error_;
  std::function<void()> closed_;
  std::vector<Repeat> delayed_;  ///< A heap, soonest first.
  boost::asio::steady_timer timer_;
  std::optional<TimePoint> armed_for_;
};

}  // namespace taskpool::pool
