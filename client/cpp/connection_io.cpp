#include <algorithm>

#include "client/cpp/connection.hpp"
#include "client/cpp/opened.hpp"
#include "client/cpp/request_number.hpp"
#include "proto/codec.hpp"

namespace taskpool::client {
namespace {

/// With more requests under way than this, what comes next is not far, but it has work to share the CPUs with: no
/// spinning.
constexpr std::size_t kSpinRequests = 4;

}  // namespace

/// While a task waits, its worker lends its slot: PROTOCOL.md, `nested_wait`. Locked at both ends.
class Connection::NestedWait {
 public:
  explicit NestedWait(Connection& connection) : connection_{connection} {
    if (!connection_.worker_token_.empty() && connection_.nested_waits_++ == 0) say(1);
  }
  NestedWait(const NestedWait&) = delete;
  NestedWait& operator=(const NestedWait&) = delete;
  ~NestedWait() {
    if (connection_.worker_token_.empty() || --connection_.nested_waits_ > 0) return;
    say(0);
    connection_.write_out();
  }

 private:
  void say(std::uint32_t begins) {
    Prefix prefix;
    prefix.op = Op::nested_wait;
    prefix.target = begins;
    if (connection_.state_ == State::connected) connection_.append(prefix, {}, {});
  }
  Connection& connection_;
};

bool Connection::wait(Pending& pending, const Deadline& deadline) {
  if (pending.ended()) return true;
  if (is_inherited()) return false;
  Lock lock{mutex_};
  return wait(lock, pending, deadline, [&pending] { return pending.ended(); });
}

bool Connection::wait(Lock& lock, Pending& pending, const Deadline& deadline, const std::function<bool()>& is_true,
                      Lending lending) {
  if (is_true()) return true;
  bool holds = false;
  {
    std::optional<NestedWait> nested;
    if (lending == Lending::yes) nested.emplace(*this);
    while (!(holds = is_true()) && !passed(deadline)) {
      if (state_ != State::connected) {
        (void)ensure_connected(lock, deadline);  // its failure ends every request, this one included
        continue;
      }
      write_out();
      if (!reading_) {
        read_once(lock, deadline);  // also where the writing failed: that shows after the last reply
      } else if (unsent() > 0 && !writing_) {
        wait_writable(lock, deadline);
      } else {
        follow(lock, pending, deadline);
      }
    }
  }
  pass_on();
  return holds;
}

void Connection::follow(Lock& lock, Pending& pending, const Deadline& deadline) {
  Follower self{&pending, true, {}};
  followers_.push_back(&self);
  if (deadline) {
    self.wake.wait_until(lock, *deadline);
  } else {
    self.wake.wait(lock);
  }
  std::erase(followers_, &self);
}

bool Connection::wait_passively(Lock& lock, Pending& pending, const Deadline& deadline,
                                const std::function<bool()>& is_true) {
  Follower self{&pending, false, {}};
  followers_.push_back(&self);
  const bool holds = self.wake.wait_until(lock, *deadline, is_true);
  std::erase(followers_, &self);
  return holds;
}

/// At the end of a wait: sees to it that among those who still wait somebody reads, and writes what is left.
void Connection::pass_on() {
  if (!reading_ && writing_) {  // who waits for the socket reads then, too
    if (socket_) socket_->wake_writer();
    return;
  }
  if (reading_ && (writing_ || unsent() == 0)) return;
  const auto next = std::find_if(followers_.begin(), followers_.end(), [](auto* each) { return each->may_lead; });
  if (next != followers_.end()) (*next)->wake.notify_one();
}

/// Reads once, as the leader, and hands out what came.
void Connection::read_once(Lock& lock, const Deadline& deadline) {
  reading_ = true;
  const auto socket = socket_;
  const bool for_write = unsent() > 0;
  const bool few = slots_.size() - free_slots_.size() <= kSpinRequests;
  const bool spin = may_spin_ && few && !for_write && spin_.should_spin();
  lock.unlock();
  const auto event = receive(*socket, deadline, for_write, spin);
  lock.lock();
  reading_ = false;
  if (!event) {
    break_link(lost_.value_or(event.error()));
  } else if (*event == Socket::Event::data) {
    if (auto dispatched = dispatch_all(); !dispatched) break_link(dispatched.error());
  }
  pump_all();
  run_callbacks(lock);
}

/// Without the lock.
Result<Socket::Event> Connection::receive(Socket& socket, const Deadline& deadline, bool for_write, bool spin) {
  if (spin) {
    Spin looks{Clock::now()};
    bool came = false;
    do {
      const auto event =
          socket.receive(decoder_, incoming_fds_, {.deadline = {}, .for_write = false, .may_block = false});
      if (!event) return event;
      came = *event == Socket::Event::data;
    } while (looks.looked(Clock::now(), came ? decoder_.rest().size() : 0));
    if (const auto has_paid = looks.has_paid()) spin_.spun(*has_paid);
    if (came) return Socket::Event::data;
  }
  return socket.receive(decoder_, incoming_fds_, {.deadline = deadline, .for_write = for_write});
}

Result<void> Connection::dispatch_all() {
  for (;;) {
    const auto frame = decoder_.next();
    if (!frame) return frame.error();
    if (!*frame) return {};
    if (auto done = dispatch(**frame); !done) return done;
  }
}

Result<void> Connection::dispatch(const FrameView& frame) {
  std::vector<Fd> fds;
  if (frame.prefix.fds > 0) {
    if (incoming_fds_.size() < frame.prefix.fds) return fail(Errc::bad_message, "fds: they did not arrive");
    for (unsigned i = 0; i < frame.prefix.fds; ++i) {
      fds.push_back(std::move(incoming_fds_.front()));
      incoming_fds_.pop_front();
    }
  }
  if (frame.prefix.op == Op::arena_segment) return add_down_segment(frame, fds);
  if (frame.prefix.op == Op::error && frame.prefix.request == 0) {
    const auto error = decode<ErrorHead>(frame.head);
    return error ? to_error(*error) : error.error();
  }
  const auto pending = find(frame.prefix.request);
  if (!pending) {
    release_all(frame);  // of a request that was given up
  } else {
    const auto last = pending->accept(*this, frame, fds);
    if (!last) return last.error();
    if (*last) {
      end(*pending);
    } else {
      notify(*pending);
    }
  }
  if (is_store_request(frame.prefix.request)) trim_unanswered(frame.prefix.request);
  return {};
}

void Connection::run_callbacks(Lock& lock) {
  if (callbacks_.empty() && ended_.empty() && dropped_.empty()) return;
  const auto callbacks = std::exchange(callbacks_, {});
  auto ended = std::exchange(ended_, {});
  auto dropped = std::exchange(dropped_, {});
  lock.unlock();
  for (const auto& callback : callbacks) callback();
  ended.clear();
  dropped.clear();
  lock.lock();
  if (ended_.empty()) ended_ = std::move(ended);  // its memory is used again
}

}  // namespace taskpool::client
