#include <algorithm>

#include "client/cpp/connection.hpp"
#include "client/cpp/job.hpp"
#include "proto/codec.hpp"

namespace taskpool::client {
namespace {

/// Small frames are collected up to here before they are sent without anybody waiting. Bytes.
constexpr std::size_t kFlushBytes = 32 * 1024;
/// With so much unsent a caller waits for the socket. Bytes.
constexpr std::size_t kMaxUnsentBytes = std::size_t{1} << 20;
/// Written frames are dropped from the front of the buffer when they are so many. Bytes.
constexpr std::size_t kCompactBytes = std::size_t{1} << 20;
/// With more requests under way than this, what comes next is not far, but it has work to share the CPUs with: no
/// spinning.
constexpr std::size_t kSpinRequests = 4;
/// How long a writer waits before it looks whether somebody still reads.
constexpr std::chrono::milliseconds kWriteSlice{10};
/// References in one `arena_release` frame.
constexpr std::size_t kMaxReleases = 4096;
/// So many regions are given back without waiting for something else to send.
constexpr std::size_t kReleaseAtOnce = 64;

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

/// Sends what goes out without waiting.
void Connection::write_out() {
  if (state_ != State::connected || lost_) return;
  append_releases();
  while (sent_ < out_.size()) {
    const auto sent = socket_->send(out_.data().subspan(sent_));
    if (!sent) return lose(sent.error());
    if (*sent == 0) break;
    sent_ += *sent;
  }
  if (sent_ == out_.size()) {
    out_.clear();
    sent_ = 0;
    return;
  }
  if (sent_ < kCompactBytes) return;
  for (;;) {  // frames are kept whole: what was not sent may have to be sent again
    const auto prefix = decode_prefix(out_.data().first<kPrefixBytes>());
    const auto bytes = kPrefixBytes + prefix->head + prefix->body;
    if (bytes > sent_) return;
    out_.consume(bytes);
    sent_ -= bytes;
  }
}

void Connection::sent_some(Lock& lock) {
  if (unsent() < kFlushBytes) return;
  write_out();
  if (unsent() > kMaxUnsentBytes) drain(lock, kMaxUnsentBytes / 2);
}

void Connection::drain(Lock& lock, std::size_t keep) {
  for (;;) {
    write_out();
    if (unsent() <= keep || state_ != State::connected) return;
    if (!reading_) {
      read_once(lock, {});
      continue;
    }
    // Another thread reads. It may stop doing so, hence the slices: then it is for us to read.
    const auto socket = socket_;
    lock.unlock();
    socket->wait_writable(kWriteSlice);
    lock.lock();
  }
}

/// Sends the last frame of the buffer, which is all that it holds, with descriptors on its first byte.
void Connection::send_with_fds(Lock& lock, std::span<const int> fds) {
  while (state_ == State::connected && !lost_ && sent_ == 0) {
    const auto sent = socket_->send(out_.data(), fds);
    if (!sent) return lose(sent.error());
    if (*sent > 0) {
      sent_ = *sent;
      return write_out();
    }
    const auto socket = socket_;
    lock.unlock();
    socket->wait_writable(kWriteSlice);
    lock.lock();
  }
}

Result<void> Connection::flush() {
  if (is_inherited()) return inherited();
  Lock lock{mutex_};
  if (unsent() == 0 && releases_.empty()) return {};
  if (auto connected = ensure_connected(lock); !connected) return connected;
  drain(lock, 0);
  if (state_ != State::connected) return fail(Errc::daemon_gone, "the connection broke");
  return {};
}

bool Connection::wait(Pending& pending, const Deadline& deadline) {
  if (pending.ended()) return true;
  if (is_inherited()) return false;
  Lock lock{mutex_};
  return wait(lock, pending, deadline, [&pending] { return pending.ended(); });
}

bool Connection::wait(Lock& lock, Pending& pending, const Deadline& deadline, const std::function<bool()>& is_true) {
  if (is_true()) return true;
  bool holds = false;
  {
    const NestedWait nested{*this};
    while (!(holds = is_true()) && !passed(deadline)) {
      if (state_ != State::connected) {
        (void)ensure_connected(lock, deadline);  // its failure ends every request, this one included
        continue;
      }
      write_out();
      if (!reading_) {
        read_once(lock, deadline);  // also where the writing failed: that shows after the last reply
      } else if (unsent() > 0) {
        const auto socket = socket_;
        lock.unlock();
        socket->wait_writable(kWriteSlice);
        lock.lock();
      } else {
        follow(lock, pending, deadline);
      }
    }
  }
  wake_next_leader();
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

void Connection::wait_passively(Lock& lock, Pending& pending, const std::function<bool()>& is_true) {
  drain(lock, 0);
  Follower self{&pending, false, {}};
  followers_.push_back(&self);
  self.wake.wait(lock, is_true);
  std::erase(followers_, &self);
}

void Connection::wake_next_leader() {
  if (reading_) return;
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
  pump_jobs();
  run_callbacks(lock);
}

/// Without the lock.
Result<Socket::Event> Connection::receive(Socket& socket, const Deadline& deadline, bool for_write, bool spin) {
  if (spin) {
    const auto until = Clock::now() + SpinPolicy::kLongest;
    do {
      const auto event =
          socket.receive(decoder_, incoming_fds_, {.deadline = {}, .for_write = false, .may_block = false});
      if (!event || *event == Socket::Event::data) {
        spin_.spun(true);
        return event;
      }
    } while (Clock::now() < until);
    spin_.spun(false);
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
    return {};
  }
  const auto last = pending->accept(*this, frame, fds);
  if (!last) return last.error();
  if (*last) {
    end(*pending);
  } else {
    notify(*pending);
  }
  return {};
}

void Connection::run_callbacks(Lock& lock) {
  if (callbacks_.empty() && ended_.empty()) return;
  const auto callbacks = std::exchange(callbacks_, {});
  auto ended = std::exchange(ended_, {});
  lock.unlock();
  for (const auto& callback : callbacks) callback();
  ended.clear();
  lock.lock();
  if (ended_.empty()) ended_ = std::move(ended);  // its memory is used again
}

void Connection::append_releases() {
  for (std::size_t at = 0; at < releases_.size(); at += kMaxReleases) {
    const auto part = std::span{releases_}.subspan(at, std::min(kMaxReleases, releases_.size() - at));
    Prefix prefix;
    prefix.op = Op::arena_release;
    prefix.flags = kInArena;
    prefix.count = static_cast<std::uint32_t>(part.size());
    append(prefix, {}, std::as_bytes(part));
  }
  releases_.clear();
}

void Connection::release(const Mapping& mapping, std::span<const std::byte> bytes) {
  if (is_inherited()) return;
  const Lock lock{mutex_};
  if (mapping.epoch() != epoch_) return;
  releases_.push_back(mapping.reference_to(bytes));
  // Whoever reads now may be waiting for just this room.
  if (reading_ || releases_.size() >= kReleaseAtOnce) write_out();
}

void Connection::release_locked(Body body) {
  const auto mapping = std::exchange(body.mapping_, nullptr);
  if (!mapping || mapping->epoch() != epoch_) return;
  releases_.push_back(mapping->reference_to(body.bytes_));
}

void Connection::release_all(const FrameView& frame) {
  const bool results = frame.prefix.op == Op::result || frame.prefix.op == Op::results;
  if (!results || (frame.prefix.flags & kInArena) == 0) return;
  for (std::size_t at = 0; at + sizeof(ArenaRef) <= frame.body.size(); at += sizeof(ArenaRef)) {
    const auto ref = load<ArenaRef>(frame.body.data() + at);
    if (ref.bytes > 0) releases_.push_back(ref);
  }
}

void Connection::pump_jobs() {
  // Each job gets its turn; one that still waits goes to the back.
  for (auto turns = hungry_.size(); turns > 0; --turns) {
    const auto job = hungry_.front().lock();
    hungry_.pop_front();
    if (job && job->pump(*this)) hungry_.push_back(job);
  }
}

}  // namespace taskpool::client
