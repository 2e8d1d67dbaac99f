#include <algorithm>
#include <atomic>

#include "client/cpp/connection.hpp"
#include "client/cpp/job.hpp"
#include "client/cpp/opened.hpp"
#include "client/cpp/request_number.hpp"
#include "proto/codec.hpp"

namespace taskpool::client {
namespace {

/// How much of what the daemon queues for a session this side uses: the daemon counts more than the items' bytes.
constexpr std::size_t used_share(std::uint64_t limit) { return static_cast<std::size_t>(limit / 2); }

/// A request under which so many connections have broken is not sent again: it may be what breaks them.
constexpr unsigned kMaxResends = 8;

/// What a daemon says that keeps a store.
constexpr std::string_view kStoreCapability = "store";

/// How long a call tries to reach a daemon that has been away for longer than calls wait.
constexpr std::chrono::milliseconds kLastTry{100};

std::uint64_t next_epoch() {
  static std::atomic<std::uint64_t> last{
      0};  // over all connections, as prepared calls outlive theirs in a forked child
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

}  // namespace

/// Connects if that is not so, or waits for the thread that does. Error: the daemon cannot be reached, and every
/// request has ended with that; or `timed_out`: the deadline passed first, and they have not.
Result<void> Connection::ensure_connected(Lock& lock, const Deadline& deadline) {
  for (;;) {
    switch (state_) {
      case State::connected: return {};
      case State::closed: return fail(Errc::daemon_gone, "the connection was closed");
      case State::connecting:
        if (passed(deadline)) return fail(Errc::timed_out, "still connecting");
        if (deadline) {
          state_changed_.wait_until(lock, *deadline);
        } else {
          state_changed_.wait(lock);
        }
        break;
      case State::broken: {
        state_ = State::connecting;
        const bool known = !place_.socket.empty();
        // Counted from the break: whoever waits in small steps learns of the end too. After it each call tries a
        // moment.
        const auto patience_ends = lost_at_ + options_.reconnect_timeout;
        const auto give_up =
            known ? std::max(patience_ends, Clock::now() + kLastTry) : Clock::now() + options_.connect_timeout;
        const auto until = deadline ? std::min(give_up, *deadline) : give_up;
        const auto place = known ? std::optional{place_} : std::nullopt;
        const auto token = token_;
        lock.unlock();
        auto link = establish(options_, place, token, until);
        lock.lock();
        state_ = State::broken;
        state_changed_.notify_all();
        if (link) {
          install(std::move(*link));
          return {};
        }
        const bool over = until == give_up || (known && Clock::now() >= patience_ends);
        if (!over) return fail(Errc::timed_out, link.error().detail);
        abandon_all(link.error());
        return link.error();
      }
    }
  }
}

/// Takes a greeted socket into use: what was prepared is prepared again, then what was kept follows.
void Connection::install(Link link) {
  socket_ = std::move(link.socket);
  socket_fd_ = socket_->fd();
  decoder_ = std::move(link.decoder);
  incoming_fds_ = std::move(link.fds);
  place_ = std::move(link.place);
  const auto& welcome = link.welcome;
  server_ = {place_.socket, welcome.daemon_version, welcome.build, welcome.pid,
             welcome.uid,   welcome.session,        welcome.limits};
  if (welcome.limits.session_queued_bytes > 0) queue_limit_ = used_share(welcome.limits.session_queued_bytes);
  has_store_ = std::find(welcome.capabilities.begin(), welcome.capabilities.end(), kStoreCapability) !=
               welcome.capabilities.end();
  token_ = welcome.token;
  epoch_ = next_epoch();
  lost_.reset();
  state_ = State::connected;

  auto kept = std::exchange(out_, {});
  sent_ = 0;
  if (nested_waits_ > 0) {
    Prefix prefix;
    prefix.op = Op::nested_wait;
    prefix.target = 1;
    append(prefix, {}, {});
  }
  for (const auto& each : numbers_)
    if (const auto prepared = each.lock()) append_prepare(prepared);
  resend_store(welcome.resumed);
  out_.append(kept.data());
  pump_all();
  state_changed_.notify_all();
}

/// Notes that the socket is broken. Whoever reads finds out too, after what had come before: only then is this the end.
void Connection::lose(const Error& why) {
  lost_ = why;
  socket_->shut_down();
}

/// Ends every request that may have begun, and keeps the others to be sent again.
void Connection::break_link(const Error& why) {
  if (state_ != State::connected) return;
  state_ = reconnects_ ? State::broken : State::closed;
  ByteBuffer kept;
  const auto unsent_requests = keep_unsent(kept);
  const auto is_unsent = [&](std::uint64_t request) {
    return std::binary_search(unsent_requests.begin(), unsent_requests.end(), request);
  };
  const auto unknown = error_head(Errc::outcome_unknown, "the connection broke (" + why.detail + "); it may have run");
  const auto gone = error_head(Errc::daemon_gone, "the connection broke (" + why.detail + ") before it was sent");
  const auto closed = error_head(Errc::pool_closed, "the pool ended with the connection that opened it");

  for (std::size_t i = 0; i < slots_.size(); ++i) {
    const auto pending = slots_[i].pending;  // a copy: end() empties the slot
    if (!pending) continue;
    const bool unsent = is_unsent(pending->request);
    const bool again = reconnects_ && pending->pool_epoch == 0;
    if (again && !pending->bound && is_store_request(pending->request) && pending->resends < kMaxResends) {
      ++pending->resends;  // resend_store() knows what becomes of it
      pending->begun = pending->begun || !unsent;
      continue;
    }
    if (unsent && again && !pending->bound) continue;  // among what was kept
    if (again && pending->resends < kMaxResends && pending->rewind(*this)) {
      ++pending->resends;
      pending->begun = pending->begun || !unsent;
      pending->bound = false;
      pending->places.clear();
      want_pump(*pending);
      continue;
    }
    pending->abandon(*this, !unsent ? unknown : pending->pool_epoch != 0 ? closed : gone, unsent);
    end(*pending);
  }
  // What follows belonged to the daemon's side of the session.
  lost_at_ = Clock::now();
  socket_fd_ = -1;
  socket_.reset();
  decoder_ = {};
  incoming_fds_.clear();
  epoch_ = 0;
  out_ = std::move(kept);
  sent_ = 0;
  riding_.clear();
  notify(written_);
  up_ = {};
  up_segments_.clear();
  down_segments_.clear();
  store_segments_.clear();
  releases_.clear();
  released_refs_.clear();
  places_in_flight_ = 0;
  refused_.reset();
  up_changed();
}

/// Collects the frames that were not wholly written and may be sent over another connection, and returns the requests
/// of which nothing was written, sorted.
std::vector<std::uint64_t> Connection::keep_unsent(ByteBuffer& kept) {
  std::vector<std::uint64_t> begun, unsent;
  const auto bytes = out_.data();
  for (std::size_t at = 0; at < bytes.size();) {
    const auto prefix = decode_prefix(bytes.subspan(at).first<kPrefixBytes>());
    const auto size = kPrefixBytes + prefix->head + prefix->body;
    const auto pending = prefix->request == 0 ? nullptr : find(prefix->request);
    if (at + size <= sent_) {
      begun.push_back(prefix->request);
    } else if (pending && prefix->op != Op::prepare) {
      // Input of a job whose beginning was written is of no use alone.
      const bool continues =
          prefix->op == Op::input && std::find(unsent.begin(), unsent.end(), prefix->request) == unsent.end();
      if (!continues) {
        if (prefix->op != Op::input) unsent.push_back(prefix->request);
        const bool again = reconnects_ && !pending->bound && pending->pool_epoch == 0;
        if (again && prefix->op != Op::store) kept.append(bytes.subspan(at, size));
      }
    }
    at += size;
  }
  std::sort(unsent.begin(), unsent.end());
  return unsent;
}

/// Ends every request: the daemon cannot be reached.
void Connection::abandon_all(const Error& why) {
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    const auto pending = slots_[i].pending;
    if (!pending) continue;
    const bool known = why.errc() == Errc::no_daemon || why.errc() == Errc::system || why.errc() == Errc::timed_out;
    const auto code = pending->begun ? Errc::outcome_unknown : known ? Errc::daemon_gone : why.errc();
    pending->abandon(*this, error_head(code, why.detail), !pending->begun);
    end(*pending);
  }
  forget_store();
  out_.clear();
  sent_ = 0;
}

}  // namespace taskpool::client
