#include "daemon/server/waiters.hpp"

#include <algorithm>

namespace taskpool::server {

void Waiters::add(queue::JobId job, std::uint32_t session, std::optional<queue::TimePoint> deadline,
                  std::function<void(queue::Job*)> call) {
  waiting_[static_cast<std::uint64_t>(job)].push_back({session, deadline, std::move(call)});
  if (deadline) arm();
}

void Waiters::on_ended(queue::Job& job) {
  if (waiting_.empty()) return;
  auto node = waiting_.extract(static_cast<std::uint64_t>(job.id));
  if (node.empty()) return;
  for (const auto& waiter : node.mapped()) waiter.call(&job);
}

void Waiters::forget(std::uint32_t session) {
  for (auto& [job, waiters] : waiting_)
    std::erase_if(waiters, [&](const Waiter& waiter) { return waiter.session == session; });
  std::erase_if(waiting_, [](const auto& entry) { return entry.second.empty(); });
}

void Waiters::arm() {
  std::optional<queue::TimePoint> next;
  for (const auto& [job, waiters] : waiting_)
    for (const auto& waiter : waiters)
      if (waiter.deadline) next = next ? std::min(*next, *waiter.deadline) : *waiter.deadline;
  if (!next) return;
  timer_.expires_at(*next);
  timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error) expire();
  });
}

void Waiters::expire() {
  const auto now = std::chrono::steady_clock::now();
  std::vector<Waiter> late;
  for (auto& [job, waiters] : waiting_)
    std::erase_if(waiters, [&](Waiter& waiter) {
      if (!waiter.deadline || *waiter.deadline > now) return false;
      late.push_back(std::move(waiter));
      return true;
    });
  std::erase_if(waiting_, [](const auto& entry) { return entry.second.empty(); });
  for (const auto& waiter : late) waiter.call(nullptr);
  arm();
}

}  // namespace taskpool::server
