#include "client/cpp/connection.hpp"

#include <sched.h>
#include <unistd.h>

#include <algorithm>

#include "client/cpp/environment.hpp"
#include "client/cpp/fork_generation.hpp"
#include "client/cpp/request_number.hpp"
#include "client/cpp/store_reply.hpp"

namespace taskpool::client {
namespace {

/// What may be queued with a daemon that does not say. Bytes.
constexpr std::size_t kDefaultQueueBytes = std::size_t{8} << 20;

/// Spinning helps only where the other side can run meanwhile.
bool spinning_can_help(const ClientOptions& options) {
  cpu_set_t cpus;
  if (!options.spin || environment("TASKPOOL_SPIN") == "0") return false;
  return ::sched_getaffinity(0, sizeof cpus, &cpus) == 0 && CPU_COUNT(&cpus) > 1;
}

}  // namespace

Connection::Connection(ClientOptions options, std::optional<Link> link)
    : options_{std::move(options)},
      reconnects_{!link},
      fork_generation_{fork_generation()},
      may_spin_{spinning_can_help(options_)},
      worker_token_{environment("TASKPOOL_WORKER_TOKEN")},
      queue_limit_{kDefaultQueueBytes} {
  if (link) install(std::move(*link));
}

Connection::~Connection() = default;

bool Connection::is_inherited() const { return fork_generation_ != fork_generation(); }

Error Connection::inherited() { return fail(Errc::daemon_gone, "it belongs to the process that forked this one"); }

void Connection::close_inherited() {
  if (const int fd = socket_fd_.exchange(-1); fd >= 0) ::close(fd);
}

Result<void> Connection::connect() {
  Lock lock{mutex_};
  return ensure_connected(lock);
}

ServerInfo Connection::server() {
  const Lock lock{mutex_};
  return server_;
}

std::uint64_t Connection::epoch() {
  const Lock lock{mutex_};
  return epoch_;
}

std::uint32_t Connection::take_slot(const std::shared_ptr<Pending>& pending) {
  std::uint32_t index;
  if (free_slots_.empty()) {
    index = static_cast<std::uint32_t>(slots_.size());
    slots_.emplace_back();
  } else {
    index = free_slots_.back();
    free_slots_.pop_back();
  }
  slots_[index].pending = pending;
  return index;
}

void Connection::register_request(const std::shared_ptr<Pending>& pending) {
  const auto index = take_slot(pending);
  auto& slot = slots_[index];
  slot.generation = slot.generation % kMaxGeneration + 1;  // request 0 means the connection
  slot.request = pending->request = std::uint64_t{slot.generation} << 32 | index;
}

bool Connection::register_store_request(const std::shared_ptr<StoreReply>& reply) {
  if (free_slots_.empty() ? slots_.size() >= kNobody : free_slots_.back() >= kNobody) return false;
  const auto index = take_slot(reply);
  slots_[index].request = reply->request = store_request(++store_requests_, index);
  return true;
}

std::shared_ptr<Pending> Connection::find(std::uint64_t request) const {
  const auto index = slot_of(request);
  if (index >= slots_.size() || slots_[index].request != request) return nullptr;
  return slots_[index].pending;
}

void Connection::end(Pending& pending) {
  for (const auto& place : pending.places) free_locked(place);
  pending.places.clear();
  let_go(pending);
  if (pending.request != 0) {
    auto& slot = slots_[slot_of(pending.request)];
    if (slot.pending.use_count() > 0) ended_.push_back(std::move(slot.pending));
    slot.pending.reset();
    free_slots_.push_back(slot_of(pending.request));
  }
  pending.ended_.store(true, std::memory_order_release);
  notify(pending);
}

void Connection::notify(Pending& pending) {
  for (auto* follower : followers_)
    if (follower->pending == &pending) follower->wake.notify_one();
}

bool Connection::keep(Pending& pending, std::size_t bytes) {
  if (bytes > options_.resend_bytes - std::min(kept_bytes_, options_.resend_bytes)) return false;
  kept_bytes_ += bytes;
  pending.kept_bytes += bytes;
  return true;
}

void Connection::let_go(Pending& pending) { kept_bytes_ -= std::exchange(pending.kept_bytes, 0); }

void Connection::want_pump(Pending& pending) {
  if (std::exchange(pending.is_waiting, true)) return;
  waiting_.push_back(pending.request);
}

void Connection::pump_all() {
  // Each gets its turn; one that still waits goes to the back.
  for (auto turns = waiting_.size(); turns > 0 && state_ == State::connected; --turns) {
    const auto request = waiting_.front();
    waiting_.pop_front();
    const auto pending = find(request);
    if (!pending) continue;
    pending->is_waiting = false;
    if (pending->pump(*this)) want_pump(*pending);
  }
}

void Connection::refuse(Reply& reply, const Error& why) {
  reply.failure = std::make_unique<ErrorHead>(error_head(why));
  end(reply);
}

void Connection::end_with(Reply& reply, const Error& why) {
  const Lock lock{mutex_};
  refuse(reply, why);
}

}  // namespace taskpool::client
