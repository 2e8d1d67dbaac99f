#include "client/cpp/job.hpp"

#include <algorithm>

#include "proto/codec.hpp"

namespace taskpool::client {
namespace {

/// How much of an array goes through the arena as one piece, whose place is free again when all of it is done. Bytes.
constexpr std::size_t kArrayPieceBytes = std::size_t{32} << 20;

}  // namespace

Result<void> Job::add(Connection& connection, const Item& item) {
  const std::lock_guard input{input_mutex_};
  if (finished()) return fail(Errc::bad_argument, "input: it has been finished");
  if (pushed() > 0 && item.encoding != encoding_)
    return fail(Errc::bad_argument, "input: an item of encoding " + std::string{name(item.encoding)} +
                                        " in a map of " + std::string{name(encoding_)});
  if (is_array(item.encoding) && item.bytes.size() != item.count * element_bytes(item.encoding))
    return fail(Errc::bad_argument, "input: not an array of its count");
  const std::uint64_t count = is_array(item.encoding) ? item.count : 1;
  if (count > kMaxJobItems - pushed())
    return fail(Errc::limit_reached, "input: more than " + std::to_string(kMaxJobItems) + " items in one job");
  if (ended()) {
    const auto lock = connection.lock();
    if (error_) return to_error(*error_);
    return fail(Errc::cancelled, "the job has ended");
  }
  encoding_ = item.encoding;
  if (count == 0) return {};
  if (item.bytes.size() > kMaxInlineItemBytes) return add_through_arena(connection, item);

  if (is_array(item.encoding)) {
    auto lock = connection.lock();
    pushed_.fetch_add(count, std::memory_order_release);
    Prefix prefix;
    prefix.count = item.count;
    under_way_bytes_.fetch_add(item.bytes.size(), std::memory_order_relaxed);
    send(connection, lock, prefix, item.bytes, {});
    return {};
  }
  packer_.add(item.bytes);
  under_way_bytes_.fetch_add(item.bytes.size() + sizeof(std::uint32_t), std::memory_order_relaxed);
  pushed_.fetch_add(1, std::memory_order_release);
  if (packer_.bytes() < kPackBytes) return {};
  auto lock = connection.lock();
  send_packed(connection, lock, 0);
  return {};
}

Result<void> Job::add_through_arena(Connection& connection, const Item& item) {
  const std::size_t element = element_bytes(item.encoding);
  const std::size_t step = element == 0 ? item.bytes.size() : kArrayPieceBytes;
  auto lock = connection.lock();
  if (!packer_.empty()) send_packed(connection, lock, 0);  // a frame is inline or in the arena, and items keep their order
  for (std::size_t at = 0; at < item.bytes.size(); at += step) {
    const auto part = item.bytes.subspan(at, std::min(step, item.bytes.size() - at));
    const auto place = connection.allocate(lock, part.size());
    if (!place) return place.error();
    connection.fill(lock, *place, part);
    Prefix prefix;
    prefix.flags = kInArena;
    prefix.count = element == 0 ? 1 : static_cast<std::uint32_t>(part.size() / element);
    under_way_bytes_.fetch_add(part.size(), std::memory_order_relaxed);
    pushed_.fetch_add(prefix.count, std::memory_order_release);
    const ArenaRef ref{place->ref.segment, place->ref.offset, part.size()};
    send(connection, lock, prefix, std::as_bytes(std::span{&ref, 1}), {}, *place, part.size());
  }
  return {};
}

void Job::flush(Connection& connection) {
  const std::lock_guard input{input_mutex_};
  auto lock = connection.lock();
  if (!packer_.empty()) send_packed(connection, lock, 0);
  connection.drain(lock, 0);  // now: a thread that reads already does not come round to writing
}

void Job::finish(Connection& connection) {
  const std::lock_guard input{input_mutex_};
  if (finished_.exchange(true)) return;
  auto lock = connection.lock();
  send_packed(connection, lock, kLast);
  connection.drain(lock, 0);
}

void Job::give_up(Connection& connection) {
  if (ended() || connection.is_inherited()) return;
  const std::lock_guard input{input_mutex_};
  finished_ = true;
  auto lock = connection.lock();
  if (ended()) return;
  waiting_.clear();
  packer_.clear();
  if (!opened_) {
    refuse(connection, error_head(Errc::cancelled, "given up"));
    return connection.end(*this);
  }
  Prefix prefix;
  prefix.flags = kLast;
  send(connection, lock, prefix, {}, {});
  lock.unlock();
  connection.give_up(*this);
}

void Job::send_packed(Connection& connection, Lock& lock, std::uint8_t flags) {
  Prefix prefix;
  prefix.flags = flags;
  prefix.count = packer_.count();
  send(connection, lock, prefix, packer_.table(), packer_.payload());
  packer_.clear();
}

/// Numbers the items of a frame and sends it, or keeps it until the daemon's queue has room.
void Job::send(Connection& connection, Lock& lock, Prefix prefix, std::span<const std::byte> body,
               std::span<const std::byte> more, std::optional<UpPlace> place, std::size_t place_bytes) {
  const std::uint64_t first = numbered_;
  const std::size_t item_bytes = place ? place_bytes : body.size() + more.size();
  if (ended()) {
    numbered_ += prefix.count;
    under_way_bytes_.fetch_sub(item_bytes, std::memory_order_relaxed);
    if (place) connection.free_locked(*place);
    if (prefix.count > 0) {
      const auto error = error_.value_or(error_head(Errc::cancelled, "the job has ended"));
      completed_.fetch_add(prefix.count, std::memory_order_release);
      deliver_failure(connection, first, prefix.count, error);
      connection.notify(*this);
    }
    return;
  }
  prefix.encoding = encoding_;
  const std::size_t bytes = body.size() + more.size();  // what goes through the arena is bounded by the arena
  if (place) bound = true;
  numbered_ += prefix.count;
  outstanding_.append(first, numbered_);
  if (prefix.count > 0) pieces_.emplace(first, Piece{prefix.count, bytes, item_bytes, false, place});
  if (waiting_.empty() && connection.may_queue(bytes)) {
    emit(connection, prefix, first, body, more);
    connection.sent_some(lock);
    return;
  }
  Bytes joined(body.begin(), body.end());
  joined.insert(joined.end(), more.begin(), more.end());
  waiting_.push_back({prefix, std::move(joined), first});
  if (waiting_.size() == 1) connection.want_room(std::static_pointer_cast<Job>(connection.find(request)));
}

void Job::emit(Connection& connection, Prefix prefix, std::uint64_t first, std::span<const std::byte> body,
               std::span<const std::byte> more) {
  if (prefix.count > 0) {
    auto& piece = pieces_.at(first);
    piece.sent = true;
    connection.queued(piece.bytes);
  }
  std::string_view head;
  prefix.request = request;
  prefix.op = opened_ ? Op::input : Op::map;
  if (!opened_) {
    if (to_.prepared) prefix.target = connection.number_of(to_.prepared);
    if (prefix.target == 0) head = to_.prepared ? to_.prepared->head : to_.head;
    opened_ = true;
  }
  connection.append(prefix, head, body, more);
}

bool Job::pump(Connection& connection) {
  while (!waiting_.empty()) {
    const auto& next = waiting_.front();
    if (next.prefix.count > 0 && !connection.may_queue(pieces_.at(next.first).bytes)) return true;
    emit(connection, next.prefix, next.first, next.body, {});
    waiting_.pop_front();
  }
  return false;
}

Result<bool> Job::accept(Connection& connection, const FrameView& frame, std::span<Fd>) {
  switch (frame.prefix.op) {
    case Op::results: {
      const auto accepted = accept_results(connection, frame);
      if (!accepted) return accepted.error();
      return false;
    }
    case Op::failed: {
      const auto accepted = accept_failed(connection, frame);
      if (!accepted) return accepted.error();
      return false;
    }
    case Op::progress:
      return accept_progress(connection, frame);
    case Op::done: {
      const auto done = decode<Done>(frame.head);
      if (!done) return done.error();
      done_ = *done;
      const auto lost = error_head(Errc::internal, "the daemon ended the job without this item's outcome");
      const auto late = error_head(Errc::cancelled, "the job had ended before this item came");
      fail_rest(connection, lost, late, done->total);
      return true;
    }
    case Op::error: {
      auto error = decode<ErrorHead>(frame.head);
      if (!error) return error.error();
      set_error(connection, *error, *error);
      return true;
    }
    case Op::result: {  // a fetch of a task that is no job
      if (!fetching_ || completed() > 0) break;
      auto body = connection.read_single(frame);
      if (!body) return body.error();
      completed_.store(1, std::memory_order_release);
      pushed_.store(1, std::memory_order_release);
      deliver_one(connection, 0, std::move(*body));
      done_ = Done{1, 1, 0, 0};
      return true;
    }
    default:
      break;
  }
  return fail(Errc::bad_message, "unexpected " + std::string{name(frame.prefix.op)} + " for a job");
}

Result<void> Job::accept_results(Connection& connection, const FrameView& frame) {
  const auto& prefix = frame.prefix;
  if (auto checked = check_items(prefix.flags, prefix.encoding, prefix.count, frame.body); !checked) return checked;
  if (prefix.count == 0) return {};
  if (!settle(connection, prefix.target, prefix.count))
    return fail(Errc::bad_message, "results: item " + std::to_string(prefix.target) + " has no outcome due");
  if ((prefix.flags & kInArena) == 0) {
    deliver(connection, prefix.target, prefix.count, prefix.encoding, frame.body);
    return {};
  }
  const bool array = is_array(prefix.encoding);
  const std::uint32_t references = array ? 1 : prefix.count;
  for (std::uint32_t i = 0; i < references; ++i) {
    const auto ref = load<ArenaRef>(frame.body.data() + i * sizeof(ArenaRef));
    auto body = connection.body_at(ref, prefix.encoding, array ? prefix.count : 1);
    if (!body) return body.error();
    if (array) {
      deliver_array(connection, prefix.target, std::move(*body));
    } else {
      deliver_one(connection, std::uint64_t{prefix.target} + i, std::move(*body));
    }
  }
  return {};
}

Result<void> Job::accept_failed(Connection& connection, const FrameView& frame) {
  const auto error = decode<ErrorHead>(frame.head);
  if (!error) return error.error();
  const auto count = std::max<std::uint32_t>(frame.prefix.count, 1);
  if (!settle(connection, frame.prefix.target, count))
    return fail(Errc::bad_message, "failed: item " + std::to_string(frame.prefix.target) + " has no outcome due");
  deliver_failure(connection, frame.prefix.target, count, *error);
  return {};
}

/// Marks items as having their outcome. False: some have one already, or do not exist.
bool Job::settle(Connection& connection, std::uint64_t first, std::uint64_t count) {
  if (fetching_) {
    completed_.fetch_add(count, std::memory_order_release);
    pushed_.fetch_add(count, std::memory_order_release);
    return true;
  }
  if (!outstanding_.remove(first, first + count)) return false;
  completed_.fetch_add(count, std::memory_order_release);
  for (auto piece = std::prev(pieces_.upper_bound(first)); count > 0;) {
    const auto next = std::next(piece);
    // All of these items are outstanding, so their pieces are there, one behind the other.
    const auto end = next == pieces_.end() ? numbered_.load() : next->first;
    const auto here = std::min(count, end - first);
    piece->second.remaining -= static_cast<std::uint32_t>(here);
    first += here;
    count -= here;
    if (piece->second.remaining == 0) {
      if (piece->second.sent) connection.unqueued(piece->second.bytes);
      under_way_bytes_.fetch_sub(piece->second.item_bytes, std::memory_order_relaxed);
      if (piece->second.place) connection.free_locked(*piece->second.place);
      pieces_.erase(piece);
    }
    piece = next;
  }
  return true;
}

/// Gives every item without an outcome this error, those from `unsent_from` on the other one.
void Job::fail_rest(Connection& connection, const ErrorHead& error, const ErrorHead& unsent_error,
                    std::uint64_t unsent_from) {
  waiting_.clear();
  std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges(outstanding_.ranges().begin(), outstanding_.ranges().end());
  for (const auto& [first, end] : ranges) {
    settle(connection, first, end - first);
    const auto middle = std::clamp(unsent_from, first, end);
    if (middle > first) deliver_failure(connection, first, middle - first, error);
    if (end > middle) deliver_failure(connection, middle, end - middle, unsent_error);
  }
}

void Job::abandon(Connection& connection, const ErrorHead& error, bool unsent) {
  const auto gone = error_head(Errc::daemon_gone, error.detail);
  set_error(connection, unsent ? gone : error, gone);
}

void Job::set_error(Connection& connection, const ErrorHead& error, const ErrorHead& unsent_error) {
  fail_rest(connection, error, unsent_error, waiting_.empty() ? numbered_.load() : waiting_.front().first);
  error_ = error;
  done_ = to_error(error);
}

namespace {

std::uint32_t narrow(std::uint64_t index) { return static_cast<std::uint32_t>(index); }

}  // namespace

void CollectJob::deliver(Connection&, std::uint64_t first, std::uint32_t count, Encoding encoding,
                         std::span<const std::byte> body) {
  sink_->results(narrow(first), count, encoding, body);
}

void CollectJob::deliver_one(Connection& connection, std::uint64_t index, Body body) {
  sink_->result(narrow(index), {body.encoding(), body.bytes(), body.count()});
  connection.release_locked(std::move(body));
}

void CollectJob::deliver_array(Connection& connection, std::uint64_t first, Body body) {
  sink_->results(narrow(first), body.count(), body.encoding(), body.bytes());
  connection.release_locked(std::move(body));
}

void CollectJob::deliver_failure(Connection&, std::uint64_t first, std::uint64_t count, const ErrorHead& error) {
  sink_->failed(narrow(first), narrow(count), error);
}

}  // namespace taskpool::client
