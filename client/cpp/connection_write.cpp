#include <algorithm>

#include "client/cpp/connection.hpp"
#include "proto/codec.hpp"

/// What goes out: frames are collected, and written without ever blocking under the lock.
namespace taskpool::client {
namespace {

/// Small frames are collected up to here before they are sent without anybody waiting. Bytes.
constexpr std::size_t kFlushBytes = 32 * 1024;
/// With so much unsent a caller waits for the socket. Bytes.
constexpr std::size_t kMaxUnsentBytes = std::size_t{1} << 20;
/// Written frames are dropped from the front of the buffer when they are so many. Bytes.
constexpr std::size_t kCompactBytes = std::size_t{1} << 20;
/// References in one `arena_release` frame.
constexpr std::size_t kMaxReleases = 4096;
/// So many regions are given back without waiting for something else to send.
constexpr std::size_t kReleaseAtOnce = 64;
/// Ids in one `release_refs` frame: they fit its head.
constexpr std::size_t kMaxReleasedRefs = kMaxFrameHeadBytes / (kMaxNameBytes + 8);

/// What a result names, for as long as somebody here has the result.
class ResultRefsHold {
 public:
  ResultRefsHold(std::vector<std::string> refs, std::weak_ptr<Connection> connection, std::uint64_t epoch)
      : refs_{std::move(refs)}, connection_{std::move(connection)}, epoch_{epoch} {}
  ResultRefsHold(const ResultRefsHold&) = delete;
  ResultRefsHold& operator=(const ResultRefsHold&) = delete;
  ~ResultRefsHold() {
    if (const auto connection = connection_.lock()) connection->release_refs(refs_, epoch_);
  }

 private:
  const std::vector<std::string> refs_;
  const std::weak_ptr<Connection> connection_;
  const std::uint64_t epoch_;
};

}  // namespace

/// Sends what goes out without waiting.
void Connection::write_out() {
  if (state_ != State::connected || lost_) return;
  append_releases();
  const auto before = sent_;
  while (sent_ < out_.size()) {
    // Descriptors ride on the first byte of their frame.
    const bool rides = !riding_.empty() && riding_.front().at == sent_;
    const auto next = std::size_t{rides ? 1u : 0u};
    const auto end = riding_.size() > next ? riding_[next].at : out_.size();
    const auto part = out_.data().subspan(sent_, end - sent_);
    const auto sent = socket_->send(part, rides ? riding_.front().fds : std::span<const int>{});
    if (!sent) return lose(sent.error());
    if (*sent == 0) break;
    sent_ += *sent;
    if (rides) riding_.pop_front();
  }
  if (sent_ > before) notify(written_);
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
    for (auto& each : riding_) each.at -= bytes;
  }
}

void Connection::sent_some(Lock& lock) {
  if (unsent() < kFlushBytes) return;
  write_out();
  if (unsent() > kMaxUnsentBytes) drain(lock, kMaxUnsentBytes / 2);
}

void Connection::drain(Lock& lock, std::size_t keep) {
  write_out();
  if (unsent() <= keep || state_ != State::connected) return;
  do {
    if (!reading_) {
      read_once(lock, {});
    } else if (!writing_) {
      wait_writable(lock, {});
    } else {
      follow(lock, written_, {});
    }
    write_out();
  } while (unsent() > keep && state_ == State::connected);
  pass_on();
}

/// Waits until the socket takes bytes, or whoever reads it has stopped: then that is for the caller to do. For one
/// thread at a time, while another reads.
void Connection::wait_writable(Lock& lock, const Deadline& deadline) {
  writing_ = true;
  const auto socket = socket_;
  lock.unlock();
  socket->wait_writable(deadline);
  lock.lock();
  writing_ = false;
}

Result<void> Connection::flush() {
  if (is_inherited()) return inherited();
  Lock lock{mutex_};
  if (unsent() == 0 && releases_.empty() && released_refs_.empty()) return {};
  if (auto connected = ensure_connected(lock); !connected) return connected;
  drain(lock, 0);
  if (state_ != State::connected) return fail(Errc::daemon_gone, "the connection broke");
  return {};
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
  for (std::size_t at = 0; at < released_refs_.size(); at += kMaxReleasedRefs) {
    const auto part = std::span{released_refs_}.subspan(at, std::min(kMaxReleasedRefs, released_refs_.size() - at));
    Prefix prefix;
    prefix.op = Op::release_refs;
    append(prefix, encode(ReleaseRefs{{part.begin(), part.end()}}), {});
  }
  released_refs_.clear();
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

Result<std::shared_ptr<void>> Connection::refs_of(const FrameView& frame) {
  if (frame.head.empty()) return std::shared_ptr<void>{};
  auto head = decode<ResultRefs>(frame.head);
  if (!head) return head.error();
  if (head->refs.empty()) return std::shared_ptr<void>{};
  return std::shared_ptr<void>{std::make_shared<ResultRefsHold>(std::move(head->refs), weak_from_this(), epoch_)};
}

void Connection::release_refs(const std::vector<std::string>& refs, std::uint64_t epoch) {
  if (is_inherited()) return;
  const Lock lock{mutex_};
  if (epoch != epoch_) return;
  released_refs_.insert(released_refs_.end(), refs.begin(), refs.end());
  write_out();  // what only this result kept alive may go now
}

void Connection::release_all(const FrameView& frame) {
  const bool results = frame.prefix.op == Op::result || frame.prefix.op == Op::results;
  if (!results) return;
  if (!frame.head.empty())
    if (const auto head = decode<ResultRefs>(frame.head); head)
      released_refs_.insert(released_refs_.end(), head->refs.begin(), head->refs.end());
  if ((frame.prefix.flags & kInArena) == 0) return;
  for (std::size_t at = 0; at + sizeof(ArenaRef) <= frame.body.size(); at += sizeof(ArenaRef)) {
    const auto ref = load<ArenaRef>(frame.body.data() + at);
    if (ref.bytes > 0) releases_.push_back(ref);
  }
}

}  // namespace taskpool::client
