#include <algorithm>

#include "client/cpp/job.hpp"

/// The input of a job: how items become frames, wait, are sent, and are sent again.
namespace taskpool::client {
namespace {

/// How much of an array goes through the arena as one piece, whose place is free again when all of it is done. Bytes.
constexpr std::size_t kArrayPieceBytes = std::size_t{32} << 20;

}  // namespace

Result<void> Job::add(Connection& connection, const Item& item) {
  const std::lock_guard input{input_mutex_};
  if (finished()) return fail(Errc::bad_argument, "input: it has been finished");
  if (pushed() > 0 && item.encoding != encoding_)
    return fail(Errc::bad_argument, "input: an item of encoding " + std::string{name(item.encoding)} + " in a map of " +
                                        std::string{name(encoding_)});
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
    under_way_bytes_.fetch_add(item.bytes.size(), std::memory_order_relaxed);
    Input all;
    all.prefix.count = item.count;
    all.body = item.bytes;
    all.item_bytes = item.bytes.size();
    send(connection, lock, all);
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
  auto lock = connection.lock();
  std::size_t step = element == 0 ? item.bytes.size() : kArrayPieceBytes;
  // What outlives the session is copied by the daemon, in pieces that it bounds. One that bounds nothing sensible says
  // so.
  if (const auto most = connection.detached_body_bytes();
      element > 0 && outcomes_ != Outcomes::as_they_come && most >= kMaxInlineItemBytes)
    step = std::min(step, most / element * element);
  // A frame is inline or in the arena, and items keep their order.
  if (!packer_.empty()) send_packed(connection, lock, 0);
  for (std::size_t at = 0; at < item.bytes.size(); at += step) {
    const auto part = item.bytes.subspan(at, std::min(step, item.bytes.size() - at));
    Input input;
    input.prefix.flags = kInArena;
    input.prefix.count = element == 0 ? 1 : static_cast<std::uint32_t>(part.size() / element);
    input.item_bytes = part.size();
    input.loose = keep(connection, part.size());  // it gets a place each time that it is sent
    ArenaRef ref;
    if (input.loose) {
      input.body = part;
    } else {
      const auto place = connection.allocate(lock, part.size());
      if (!place) return place.error();
      connection.fill(lock, *place, part);
      input.place = *place;
      ref = {place->ref.segment, place->ref.offset, part.size()};
      input.body = std::as_bytes(std::span{&ref, 1});
    }
    under_way_bytes_.fetch_add(part.size(), std::memory_order_relaxed);
    pushed_.fetch_add(input.prefix.count, std::memory_order_release);
    send(connection, lock, input);
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
  drop_frames(connection);
  packer_.clear();
  if (!opened_) {
    refuse(connection, error_head(Errc::cancelled, "given up"));
    return connection.end(*this);
  }
  Input last;
  last.prefix.flags = kLast;
  send(connection, lock, last);
  lock.unlock();
  connection.give_up(*this);
}

void Job::send_packed(Connection& connection, Lock& lock, std::uint8_t flags) {
  Input input;
  input.prefix.flags = flags;
  input.prefix.count = packer_.count();
  input.body = packer_.table();
  input.more = packer_.payload();
  input.item_bytes = packer_.bytes();
  send(connection, lock, input);
  packer_.clear();
}

/// Numbers the items of a frame and sends it, or keeps it until the daemon's queue has room.
void Job::send(Connection& connection, Lock& lock, const Input& input) {
  auto prefix = input.prefix;
  prefix.encoding = encoding_;
  const std::uint64_t first = numbered_;
  numbered_ += prefix.count;
  if (ended()) {
    under_way_bytes_.fetch_sub(input.item_bytes, std::memory_order_relaxed);
    if (input.place) connection.free_locked(*input.place);
    if (prefix.count > 0) {
      const auto error = error_.value_or(error_head(Errc::cancelled, "the job has ended"));
      completed_.fetch_add(prefix.count, std::memory_order_release);
      deliver_failure(connection, first, prefix.count, error);
      connection.notify(*this);
    }
    return;
  }
  const std::size_t bytes = input.loose ? sizeof(ArenaRef) : input.body.size() + input.more.size();
  if (outcomes_ != Outcomes::never && prefix.count > 0) {
    outstanding_.append(first, numbered_);
    const auto place = outcomes_ == Outcomes::as_they_come ? input.place : std::nullopt;
    pieces_.emplace(first, Piece{prefix.count, bytes, input.item_bytes, false, place});
  }
  // What was given a place is not kept: there was no room for it.
  const bool kept = input.loose || (!input.place && keep(connection, bytes));
  const bool is_next = next_ == frames_.size();
  if (!kept && is_next && may_send(connection, prefix, bytes)) {
    emit(connection, prefix, first, input.body, input.more, input.place);
  } else {
    Frame frame{prefix, first, Bytes(input.body.begin(), input.body.end()), input.place, input.loose};
    frame.body.insert(frame.body.end(), input.more.begin(), input.more.end());
    frames_.push_back(std::move(frame));
    if (is_next && pump(connection)) connection.want_pump(*this);
  }
  connection.sent_some(lock);
}

/// Makes room for input that is to be sent again if the connection breaks. False: the job is none of those, or not any
/// more.
bool Job::keep(Connection& connection, std::size_t bytes) {
  if (!keeps_) return false;
  if (connection.keep(*this, bytes)) return true;
  keeps_ = false;
  connection.let_go(*this);
  frames_.erase(frames_.begin(), frames_.begin() + static_cast<std::ptrdiff_t>(next_));
  next_ = 0;
  return false;
}

void Job::drop_frames(Connection& connection) {
  for (auto at = next_; at < frames_.size(); ++at)
    if (frames_[at].place && outcomes_ != Outcomes::as_they_come) connection.free_locked(*frames_[at].place);
  frames_.clear();
  next_ = 0;
  keeps_ = false;
  connection.let_go(*this);
}

bool Job::rewind(Connection& connection) {
  if (!keeps_) return false;
  for (auto& [first, piece] : pieces_)
    if (std::exchange(piece.sent, false)) connection.unqueued(piece.bytes, outcomes_ == Outcomes::at_the_end);
  next_ = 0;
  opened_ = false;
  return true;
}

/// What the daemon tells nothing about until the job's end is not waited for: the daemon says itself if it is too much.
bool Job::may_send(Connection& connection, const Prefix& prefix, std::size_t bytes) const {
  if (prefix.count == 0 || outcomes_ == Outcomes::never || connection.may_queue(bytes)) return true;
  return outcomes_ == Outcomes::at_the_end && connection.is_queue_silent();
}

bool Job::pump(Connection& connection) {
  while (next_ < frames_.size()) {
    const auto& frame = frames_[next_];
    if (!may_send(connection, frame.prefix, frame.loose ? sizeof(ArenaRef) : frame.body.size())) return true;
    if (frame.loose) {
      const auto place = connection.try_allocate(frame.body.size());
      if (!place) {
        refuse(connection, error_head(place.error()));
        connection.end(*this);
        return false;
      }
      if (!*place) return true;
      connection.copy_to(**place, frame.body);
      const ArenaRef ref{(*place)->ref.segment, (*place)->ref.offset, frame.body.size()};
      emit(connection, frame.prefix, frame.first, std::as_bytes(std::span{&ref, 1}), {}, **place);
    } else {
      emit(connection, frame.prefix, frame.first, frame.body, {}, frame.place);
    }
    if (keeps_) {
      ++next_;
    } else {
      frames_.pop_front();
    }
  }
  return false;
}

void Job::emit(Connection& connection, Prefix prefix, std::uint64_t first, std::span<const std::byte> body,
               std::span<const std::byte> more, const std::optional<UpPlace>& place) {
  if (const auto piece = pieces_.find(first); prefix.count > 0 && piece != pieces_.end()) {
    piece->second.sent = true;
    connection.queued(piece->second.bytes, outcomes_ == Outcomes::at_the_end);
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
  reached_ = std::max(reached_, first + prefix.count);
  if (place) bound = true;
  // The daemon copies what belongs to a job that outlives the session as it reads it.
  if (place && outcomes_ != Outcomes::as_they_come) connection.mark(nullptr, {*place});
  if (outcomes_ != Outcomes::never || (prefix.flags & kLast) == 0) return;
  if (prefix.op == Op::map) {
    all_read(connection);  // its acceptance says it
  } else {
    connection.mark(std::static_pointer_cast<Job>(connection.find(request)), {});
  }
}

}  // namespace taskpool::client
