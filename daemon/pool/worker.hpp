#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "daemon/os/cgroup.hpp"
#include "daemon/os/memory.hpp"
#include "daemon/os/unique_fd.hpp"
#include "daemon/pool/arena_source.hpp"
#include "daemon/pool/worker_state.hpp"
#include "daemon/pool/zygote.hpp"
#include "daemon/queue/job.hpp"
#include "daemon/queue/scheduler.hpp"
#include "daemon/wire/channel.hpp"
#include "proto/claim_page.hpp"
#include "proto/message.hpp"

namespace taskpool::pool {

class Worker;

/// Items that a worker holds: consecutive tickets of one range.
struct Assignment {
  Ticket first = 0;
  queue::Range range;
  queue::Job* job = nullptr;
  std::int64_t cost_ns = 0;        ///< Estimated, of one item: what its turn was charged.
  queue::TimePoint given{};        ///< When the worker got it.
  std::optional<ArenaRef> room{};  ///< Where an array's results go; not yet handed on.
  std::uint32_t session = 0;       ///< Whose arena the room is in.
  queue::Usage* usage = nullptr;   ///< Of whose they are; the worker keeps it. May be null.
};

/// Why the supervisor ends a running task, which decides the error that its caller gets.
struct Stopping {
  Ticket ticket = 0;
  Errc reason = Errc::cancelled;
  std::chrono::steady_clock::time_point kill_at{};  ///< When asking turns into killing.
  bool killed = false;
  std::string detail{};  ///< What its caller reads; empty: whatever goes with the reason.
};

/// The CPU time of the item that a worker runs, as far as it was looked at.
struct CpuWatch {
  Ticket ticket = 0;
  std::chrono::microseconds before{};            ///< What the worker had used when it was first looked at.
  std::chrono::steady_clock::time_point next{};  ///< When to look again.
};

/// What becomes of a worker's items. The pool implements it.
class WorkerOwner {
 public:
  virtual ~WorkerOwner() = default;
  virtual void on_worker_ready(Worker& worker) = 0;
  /// Its initializer failed; it will exit.
  virtual void on_worker_failed(Worker& worker, const WorkerFailed& failure) = 0;
  /// The first `count` items of `assignment` have results, which name the objects of the store with the ids `refs`.
  virtual void on_items_done(Worker& worker, Assignment& assignment, std::uint32_t count, const Prefix& form,
                             std::span<const std::byte> table, std::span<const std::byte> payload,
                             std::span<const std::string> refs) = 0;
  virtual void on_items_failed(Worker& worker, Assignment& assignment, std::uint32_t count, ErrorHead error) = 0;
  virtual void on_report(Worker& worker, const Assignment& assignment, const Report& report) = 0;
  /// Everything that had arrived was handled: `items` finished, which took `worked`.
  virtual void on_worker_batch(Worker& worker) = 0;
  /// The kernel says that it has exited; its zygote says more of it soon.
  virtual void on_worker_exit_seen(Worker& worker) = 0;
  /// Its channel ended or it broke the protocol; `why` is empty for a plain end.
  virtual void on_worker_broken(Worker& worker, const std::string& why) = 0;
};

/// One child as the supervisor sees it: its channel, its claim page, the items that it holds and what it says of them.
/// Everything that comes from the child is checked: it runs foreign code.
class Worker : public wire::FrameSink {
 public:
  /// `watched` is a second descriptor of `pidfd`.
  Worker(wire::Turn& turn, WorkerOwner& owner, ArenaSource& arenas, ZygotePtr zygote, std::uint32_t number, pid_t pid,
         os::UniqueFd channel, os::UniqueFd pidfd, os::UniqueFd watched, os::SharedMemory page);

  /// Begins to hear of it. It and `owner` live until unwatch().
  void watch(std::shared_ptr<Worker> self, std::shared_ptr<void> owner);
  void unwatch();

  // Names
  std::uint32_t number() const { return number_; }
  pid_t pid() const { return pid_; }
  const ZygotePtr& zygote() const { return zygote_; }
  const os::UniqueFd& pidfd() const { return pidfd_; }
  wire::Channel& channel() { return channel_; }

  // What it holds
  const std::deque<Assignment>& assignments() const { return assignments_; }
  queue::Load load() const;
  std::uint32_t items() const { return items_; }
  bool is_idle() const { return items_ == 0; }
  /// It has tasks of that user: further ones take no slot more of his.
  bool holds(const queue::Usage& of) const;
  std::uint32_t unclaimed();
  /// What runs here waits for other tasks, once more or once less. While it does, it takes no slot of its user's, who
  /// may have a further worker for them.
  void lend();
  void give_back();
  /// The assignment and the item in it that user code runs now, and since when.
  struct Running {
    const Assignment* assignment;
    std::uint32_t index;  ///< Of the item in its job.
    Ticket ticket;
    std::chrono::steady_clock::time_point since;
  };
  std::optional<Running> running() const;
  /// CPU time of it and of all that it started.
  std::chrono::microseconds cpu_time() const;
  /// Time in user code since it began.
  std::chrono::nanoseconds worked() const;
  /// Which element of the item that it runs, or ran when it died.
  std::uint32_t position() const { return page().position.load(std::memory_order_relaxed); }
  /// Gives it items. It may claim them once they are offered, at the latest at the end of the turn.
  void give(queue::Job& job, queue::Range range, std::int64_t cost_ns, std::uint32_t function);
  /// Lets it claim what it was given: once for many, as it shares the claim word's cache line with us.
  void offer();
  /// Takes back everything that it has not claimed; the caller queues it again, last first.
  std::vector<Assignment> take_back();
  /// Reads finished results out of the outbox while it runs a long task, or after its death.
  void drain_outbox();
  /// True while the owner is told of a frame: the items that it concerns are still held, so that the outbox, where they
  /// may be too, must not be read.
  bool is_handling() const { return handling_; }
  /// After its death: handles what it sent, then returns what it still held, oldest first, and the ticket that it died
  /// in if user code ran.
  struct Remains {
    std::vector<Assignment> assignments;
    std::optional<Ticket> died_in;
    queue::TimePoint since{};  ///< When it began to run that one.
  };
  Remains bury();

  /// Holds something until the results of what user code has begun by now were told: its last one may name it.
  void keep_for_results(std::shared_ptr<void> thing);

  /// Asks user code to stop what it runs. No effect on any other ticket.
  void interrupt(Ticket ticket, Interrupt reason);
  void kill();
  /// Tells it that a session's arenas are gone.
  void detach(std::uint32_t session);

  // State that the pool keeps here
  WorkerState state = WorkerState::starting;
  std::optional<Stopping> stopping;
  bool slow = false;       ///< Runs an item that takes longer than kSlowItem: gets nothing more.
  bool soft_told = false;  ///< The running item was told of its soft timeout.
  std::uint32_t lent = 0;  ///< Tasks on it that wait for tasks: its place is lent to another worker.
  std::uint64_t given_total = 0;
  std::uint64_t done_total = 0;
  std::string token;  ///< By which a client inside its task proves where it runs.
  std::chrono::steady_clock::time_point started{};
  std::chrono::steady_clock::time_point last_used{};
  std::chrono::steady_clock::time_point memory_checked{};
  std::optional<std::chrono::steady_clock::time_point> exit_seen;
  std::optional<os::Cgroup> group;    ///< Its own, if its pool has limits that need one.
  std::uint64_t max_task_memory = 0;  ///< Of that. Bytes; 0: none.
  std::uint64_t host_oom_kills = 0;   ///< Of the whole host, when it was asked for.
  std::optional<CpuWatch> cpu_watch;
  bool recycled = false;  ///< Retired for its age or size.

  // What finished since the last batch, for the estimates
  std::chrono::nanoseconds worked_before{0};
  std::uint32_t finished_in_batch = 0;
  queue::Function* batch_function = nullptr;
  queue::JobId batch_job{};
  bool batch_mixed = false;  ///< More than one function or job: it teaches nothing.

  // FrameSink
  Result<void> on_frame(const FrameView& frame, std::vector<os::UniqueFd> fds) override;
  void on_batch() override { owner_.on_worker_batch(*this); }

 private:
  struct Room {
    Ticket ticket;
    std::uint32_t session;
    ArenaRef region;
  };

  void watch_exit(std::shared_ptr<Worker> self, std::shared_ptr<void> owner);
  static boost::asio::awaitable<void> read(std::shared_ptr<Worker> self, std::shared_ptr<void> owner);
  Result<void> handle(const FrameView& frame);
  Result<void> on_results(const FrameView& frame);
  Result<void> on_failure(const FrameView& frame);
  Result<void> on_want_room(const FrameView& frame);
  Result<void> on_report(const FrameView& frame);
  /// The first of some tickets that the worker reports on, as far as they belong together.
  struct Expected {
    Assignment* assignment;  ///< The oldest unfinished one; null for tickets that are finished already.
    std::uint32_t count;
  };
  Result<Expected> expect(Ticket ticket, std::uint32_t count);
  void finish_items(std::uint32_t count);
  /// An assignment came, or went: a user whose first, or last, it is has one slot more, or less.
  void count_in(Assignment& assignment, const queue::UsagePtr& usage);
  void count_out(Assignment& assignment);
  /// Drops what is held for results that were told, or cannot come: a ticket that was taken back is never told.
  void let_go();
  void attach(std::uint32_t session, bool down, std::uint64_t segment);
  void attach_references(const queue::Range& range, std::uint32_t session);
  Result<void> take_rooms(const Assignment& assignment, std::span<const std::byte> references);
  ClaimPage& page() const { return *reinterpret_cast<ClaimPage*>(memory_.data()); }

  wire::Turn& turn_;
  WorkerOwner& owner_;
  ArenaSource& arenas_;
  ZygotePtr zygote_;
  std::uint32_t number_;
  pid_t pid_;
  os::UniqueFd pidfd_;
  os::SharedMemory memory_;
  wire::Channel channel_;
  boost::asio::posix::stream_descriptor exit_;  ///< Its pidfd, awaited.
  std::deque<Assignment> assignments_;
  struct Holding {
    queue::UsagePtr user;
    std::uint32_t assignments;
  };
  std::vector<Holding> holdings_;  ///< Whose assignments there are; most often one user's.
  std::uint32_t items_ = 0;
  std::int64_t estimated_ns_ = 0;
  std::uint32_t unoffered_ = 0;  ///< Given, and not to be claimed yet.
  Ticket next_ticket_ = 0;       ///< The next to be given. The page's own `end` may have been tampered with.
  Ticket reported_ = 0;  ///< Tickets before this one were reported as run: never taken back, whatever the page says.
  bool handling_ = false;
  std::vector<Room> rooms_;
  std::vector<std::pair<Ticket, std::shared_ptr<void>>> kept_;  ///< keep_for_results(): until that ticket was told.
  std::set<std::pair<std::uint32_t, std::pair<bool, std::uint64_t>>> attached_;
  std::set<std::uint32_t> defined_;
};

}  // namespace taskpool::pool
