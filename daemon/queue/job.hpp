#pragma once

#include <boost/intrusive/list.hpp>
#include <boost/smart_ptr/intrusive_ref_counter.hpp>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "daemon/queue/block.hpp"
#include "daemon/queue/estimate.hpp"
#include "daemon/queue/usage.hpp"
#include "proto/message.hpp"

namespace taskpool::pool {
class Pool;
}

namespace taskpool::queue {

class Job;
class SessionTurn;

/// A job's number: unique in this daemon's life, and never 0. Outside the daemon it is opaque text.
enum class JobId : std::uint64_t {};

/// A function of a pool, by name, with what the pool has learned of it.
struct Function {
  std::string name;
  Estimate run_time;
  std::uint64_t generation = 0;  ///< Of the zygote that `number` belongs to; 0: not looked up yet.
  std::uint32_t number = 0;      ///< What workers of that generation call it.
};

/// A call's options with the pool's defaults filled in; shared by all jobs of one prepared call.
struct PreparedCall : boost::intrusive_ref_counter<PreparedCall, boost::thread_unsafe_counter> {
  Call call;
  Function* function = nullptr;  ///< Owned by the pool, which outlives its jobs.
  std::chrono::milliseconds timeout{0};
  std::chrono::milliseconds soft_timeout{0};
  std::chrono::milliseconds cpu_timeout{0};
  int priority = 0;
  std::shared_ptr<void> pins;  ///< Keeps the store's objects that the arguments name.
};
using PreparedCallPtr = boost::intrusive_ptr<const PreparedCall>;

/// Who is told what becomes of a job's tasks: a session, or the keeper of results. Calls come in any order of indexes,
/// each index once; on_done() is the last. None of them may end the job or call the pool.
class Listener {
 public:
  virtual ~Listener() = default;
  /// Results of `count` consecutive items, encoded as `form` says: a table of lengths and the items, or an empty table
  /// and the elements of an array or the references to an arena, whose regions become the listener's. `refs`: ids of
  /// the store's objects that they name.
  virtual void on_results(Job& job, std::uint32_t index, std::uint32_t count, const Prefix& form,
                          std::span<const std::byte> table, std::span<const std::byte> payload,
                          std::span<const std::string> refs) = 0;
  virtual void on_failed(Job& job, std::uint32_t index, std::uint32_t count, const ErrorHead& error) = 0;
  virtual void on_progress(Job& job, std::uint32_t index, const Report& report) = 0;
  /// All items have their outcomes. Returns whether to keep the job: then the listener releases it some time.
  virtual bool on_done(Job& job) = 0;
};

/// What a client asked to be run: one task (`apply`), or many (`map`), of which ranges wait, run or wait to be
/// repeated. Only Queue changes it.
class Job {
 public:
  JobId id{};
  PreparedCallPtr call;
  /// Whose job it is; for those above the queue, which knows nothing of pools. Kept by it, for its name: a kept job
  /// outlives its pool's workers.
  std::shared_ptr<pool::Pool> pool;
  Listener* listener = nullptr;
  SessionTurn* turn = nullptr;  ///< Whose turn this takes; owned by the queue.
  UsagePtr usage;               ///< Of whose it is. May be null.
  std::uint64_t request = 0;
  std::uint32_t session = 0;  ///< Whose arenas its references name; 0 for the daemon's own.
  std::uint32_t uid = 0;
  std::uint32_t depth = 0;  ///< 0 for a task that no task submitted.
  bool is_map = false;
  TimePoint accepted{};
  TimePoint first_started{};
  TimePoint ended_at{};

  bool input_ended = false;
  bool cancelled = false;              ///< Nothing of it starts any more.
  bool running_goes_on = false;        ///< But what had begun when it was cancelled runs to its end.
  Errc cancel_code = Errc::cancelled;  ///< What it ends with then.
  TimePoint kill_at{};                 ///< When its running tasks are killed that did not stop when asked.
  bool ended = false;
  std::uint32_t total = 0;  ///< Items so far.
  std::uint32_t waiting = 0;
  std::uint32_t running = 0;  ///< With a worker, claimed or not.
  std::uint32_t delayed = 0;  ///< Waiting to be repeated.
  std::uint32_t succeeded = 0;
  std::uint32_t failed = 0;
  std::uint32_t cancelled_items = 0;
  Estimate run_time;  ///< Of its own items; a map's may differ from the function's usual ones.

  /// What runs is to stop.
  bool is_stopping() const { return cancelled && !running_goes_on; }
  bool finished() const { return input_ended && waiting == 0 && running == 0 && delayed == 0; }
  const Estimate& estimate() const { return run_time.known() ? run_time : call->function->run_time; }

  boost::intrusive::list_member_hook<boost::intrusive::link_mode<boost::intrusive::auto_unlink>> ready_hook;
  boost::intrusive::list_member_hook<boost::intrusive::link_mode<boost::intrusive::auto_unlink>> owner_hook;
  boost::intrusive::list_member_hook<boost::intrusive::link_mode<boost::intrusive::auto_unlink>> table_hook;

 private:
  friend class Queue;
  void push_back(Range range);
  void push_front(Range range);
  Range pop_front(std::uint32_t most, std::size_t max_bytes);

  // The first waiting range is stored here, so that an apply needs no list.
  Range front_;
  std::unique_ptr<std::deque<Range>> more_;
};

using ReadyList =
    boost::intrusive::list<Job, boost::intrusive::member_hook<Job, decltype(Job::ready_hook), &Job::ready_hook>,
                           boost::intrusive::constant_time_size<false>>;
using OwnerList =
    boost::intrusive::list<Job, boost::intrusive::member_hook<Job, decltype(Job::owner_hook), &Job::owner_hook>,
                           boost::intrusive::constant_time_size<false>>;
using TableList =
    boost::intrusive::list<Job, boost::intrusive::member_hook<Job, decltype(Job::table_hook), &Job::table_hook>,
                           boost::intrusive::constant_time_size<false>>;

}  // namespace taskpool::queue
