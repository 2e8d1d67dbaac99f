#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "daemon/queue/job.hpp"
#include "daemon/queue/transition.hpp"

namespace taskpool::queue {

class UidTurn;

/// One session's place in the order of one priority: its ready jobs, first come first served, and the worker time it
/// has had.
class SessionTurn {
 public:
  std::uint32_t session() const { return session_; }
  std::uint32_t uid() const;
  int priority() const;
  /// Items of this session and priority that are with workers.
  std::uint32_t running() const { return running_; }

 private:
  friend class Queue;
  friend struct LessUsed;
  std::uint32_t session_ = 0;
  std::uint32_t running_ = 0;
  std::int64_t used_ns_ = 0;
  UidTurn* uid_ = nullptr;
  ReadyList ready_;
  bool paused_ = false;
  bool in_order_ = false;  ///< In its uid's set of turns.
};

struct LessUsed {
  template <class T>
  bool operator()(const T* a, const T* b) const {
    return a->used_ns_ != b->used_ns_ ? a->used_ns_ < b->used_ns_ : a < b;
  }
};

/// The users of one priority; each has its sessions.
class UidTurn {
  friend class Queue;
  friend struct LessUsed;
  friend class SessionTurn;
  std::uint32_t uid_ = 0;
  int priority_ = 0;
  std::int64_t used_ns_ = 0;
  std::set<SessionTurn*, LessUsed> order_;
  std::map<std::uint32_t, std::unique_ptr<SessionTurn>> sessions_;
  bool held_ = false;  ///< Not in its priority's order, whatever is ready.
};

/// The waiting work of one pool. Strict priorities; inside a priority the next turn goes to the user who has had the
/// least worker time, and of his sessions to the one that has had the least. Decides nothing about workers. All costs
/// are logarithmic in the number of users and sessions with ready work, and independent of the number of jobs.
class Queue {
 public:
  /// The place of a session in the order; made on first use and kept until forget_session(). Session 0 is for detached
  /// jobs.
  SessionTurn& turn_of(std::uint32_t uid, std::uint32_t session, int priority);
  /// Ends a session's places. Its jobs are gone or have been moved by then.
  void forget_session(std::uint32_t uid, std::uint32_t session);
  /// While paused, none of the session's work is offered: it does not take its results.
  void pause_session(std::uint32_t uid, std::uint32_t session, bool paused);

  /// Offers none of the user's work, at any priority, until release_held(): he has as many workers as he may have.
  void hold(std::uint32_t uid);
  void release_held();

  /// Whose turn it is, or null if nothing is ready.
  SessionTurn* next() const;
  /// The job that `turn` has in front.
  static Job& front(SessionTurn& turn) { return turn.ready_.front(); }

  // What happens to a job. Each is one Transition.
  void accept(Job& job);
  void add_input(Job& job, BlockPtr block);
  /// Items came that cannot be taken: they fail without ever waiting. The caller tells the listener.
  void refuse(Job& job, std::uint32_t count);
  void end_input(Job& job);
  /// Takes up to `most` waiting items off the front, and charges `cost_ns` an item to its turn.
  Range start(Job& job, std::uint32_t most, std::size_t max_bytes, std::int64_t cost_ns);
  /// Undoes start() for items that did not run.
  void give_back(Job& job, Range range, std::int64_t cost_ns);
  void delay(Job& job, Range range);
  void resume(Job& job, Range range);
  void succeed(Job& job, std::uint32_t count);
  void fail(Job& job, std::uint32_t count);
  void cancel_running(Job& job, std::uint32_t count);
  void cancel_delayed(Job& job, std::uint32_t count);
  /// Nothing of the job starts any more. Returns what waited; the caller tells the listener.
  std::vector<Range> stop(Job& job);
  void end(Job& job);
  /// Moves a job of which nothing waits to another turn, when its session ends before its running tasks.
  static void move(Job& job, SessionTurn& turn);

  std::uint64_t waiting() const { return waiting_; }
  /// When the task arrived that has waited longest, of sessions that are not paused; nothing if none waits. Looks at
  /// each such session.
  std::optional<TimePoint> oldest() const;
  std::uint64_t running() const { return running_; }

  /// Hears of every transition after it was applied.
  std::function<void(const Transition&)> on_transition;

 private:
  using From = Transition::From;
  struct Level {
    std::set<UidTurn*, LessUsed> order;
    std::map<std::uint32_t, std::unique_ptr<UidTurn>> uids;
  };

  void apply(Transition transition);
  /// Counts items that begin to wait, or with `waits` false end to.
  void count_waiting(Job& job, std::uint32_t items, bool waits);
  /// Gives the user his place among those of his priority, if he has ready work and is not held.
  void enter(UidTurn& user);
  void enter(SessionTurn& turn);
  void leave(SessionTurn& turn);
  void charge(SessionTurn& turn, std::int64_t ns);
  void make_ready(Job& job, bool front);

  std::map<int, Level, std::greater<>> levels_;
  std::uint64_t waiting_ = 0;
  std::uint64_t running_ = 0;
  std::vector<std::uint32_t> held_;  ///< Uids.
};

}  // namespace taskpool::queue
