#pragma once

#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <functional>
#include <optional>
#include <unordered_map>
#include <vector>

#include "daemon/queue/job.hpp"
#include "daemon/wire/turn.hpp"

namespace taskpool::server {

/// Sessions that wait for jobs to end. One timer for all of their deadlines.
class Waiters {
 public:
  explicit Waiters(wire::Turn& turn) : turn_{turn}, timer_{turn.io()} {}

  /// `call` hears of the job's end, or gets null at the deadline; once. `session` is for forget().
  void add(queue::JobId job, std::uint32_t session, std::optional<queue::TimePoint> deadline,
           std::function<void(queue::Job*)> call);
  void on_ended(queue::Job& job);
  void forget(std::uint32_t session);
  /// Waits for nothing any more: the daemon ends.
  void stop() { timer_.cancel(); }

 private:
  struct Waiter {
    std::uint32_t session;
    std::optional<queue::TimePoint> deadline;
    std::function<void(queue::Job*)> call;
  };
  void arm();
  void expire();

  wire::Turn& turn_;
  boost::asio::steady_timer timer_;
  std::unordered_map<std::uint64_t, std::vector<Waiter>> waiting_;
};

}  // namespace taskpool::server
