#include "client/cpp/job.hpp"

#include <algorithm>

#include "proto/codec.hpp"

namespace taskpool::client {
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
    case Op::progress: return accept_progress(connection, frame);
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
      set_error(connection, judge(*error), *error);
      return true;
    }
    case Op::result: {  // a fetch of a task that is no job
      if (!fetching_ || completed() > 0) break;
      auto body = connection.read_single(frame);
      if (!body) return body.error();
      auto refs = connection.refs_of(frame);
      if (!refs) return refs.error();
      if (*refs) keep_refs(std::move(*refs));
      completed_.store(1, std::memory_order_release);
      pushed_.store(1, std::memory_order_release);
      deliver_one(connection, 0, std::move(*body));
      done_ = Done{1, 1, 0, 0};
      return true;
    }
    default: break;
  }
  return fail(Errc::bad_message, "unexpected " + std::string{name(frame.prefix.op)} + " for a job");
}

Result<void> Job::accept_results(Connection& connection, const FrameView& frame) {
  const auto& prefix = frame.prefix;
  if (auto checked = check_items(prefix.flags, prefix.encoding, prefix.count, frame.body); !checked) return checked;
  if (prefix.count == 0) return {};
  const auto due = settle_due(connection, prefix, prefix.count);
  if (!due) return due.error();
  auto refs = connection.refs_of(frame);
  if (!refs) return refs.error();
  if (*refs) {
    if (!due->empty())
      keep_refs(std::move(*refs));
    else
      connection.drop_later(std::move(*refs));  // it came before
  }
  if ((prefix.flags & kInArena) != 0) return accept_from_arena(connection, frame, *due);
  const std::uint64_t first = prefix.target;
  const auto size = element_bytes(prefix.encoding);
  for (const auto& [begin, end] : *due) {
    const auto count = static_cast<std::uint32_t>(end - begin);
    if (count == prefix.count) {
      deliver(connection, begin, count, prefix.encoding, frame.body);
    } else if (size > 0) {
      deliver(connection, begin, count, prefix.encoding, frame.body.subspan((begin - first) * size, count * size));
    } else {
      Bytes some;
      std::vector<std::span<const std::byte>> items;
      for (PackedItems all{prefix.count, frame.body}; !all.done();) {
        const auto index = first + all.index();
        const auto item = all.next();
        if (index < begin || index >= end) continue;
        const auto length = static_cast<std::uint32_t>(item.size());
        some.resize(some.size() + sizeof length);
        store_le(some.data() + some.size() - sizeof length, length);
        items.push_back(item);
      }
      for (const auto item : items) some.insert(some.end(), item.begin(), item.end());
      deliver(connection, begin, count, prefix.encoding, some);
    }
  }
  return {};
}

Result<void> Job::accept_from_arena(Connection& connection, const FrameView& frame, const std::vector<Run>& due) {
  const auto& prefix = frame.prefix;
  const std::uint64_t first = prefix.target;
  const bool array = is_array(prefix.encoding);
  const std::uint32_t references = array ? 1 : prefix.count;
  const auto is_due = [&due](std::uint64_t index) {
    return std::any_of(due.begin(), due.end(),
                       [&](const Run& run) { return run.first <= index && index < run.second; });
  };
  for (std::uint32_t i = 0; i < references; ++i) {
    const auto ref = load<ArenaRef>(frame.body.data() + i * sizeof(ArenaRef));
    auto body = connection.body_at(ref, prefix.encoding, array ? prefix.count : 1);
    if (!body) return body.error();
    if (!array) {
      if (is_due(first + i)) {
        deliver_one(connection, first + i, std::move(*body));
        continue;
      }
    } else if (due.size() == 1 && due[0].second - due[0].first == prefix.count) {
      deliver_array(connection, first, std::move(*body));
      continue;
    } else {
      const auto size = element_bytes(prefix.encoding);
      for (const auto& [begin, end] : due)
        deliver(connection, begin, static_cast<std::uint32_t>(end - begin), prefix.encoding,
                body->bytes().subspan((begin - first) * size, (end - begin) * size));
    }
    connection.release_locked(std::move(*body));
  }
  return {};
}

Result<void> Job::accept_failed(Connection& connection, const FrameView& frame) {
  const auto error = decode<ErrorHead>(frame.head);
  if (!error) return error.error();
  const auto due = settle_due(connection, frame.prefix, std::max<std::uint32_t>(frame.prefix.count, 1));
  if (!due) return due.error();
  for (const auto& [begin, end] : *due) deliver_failure(connection, begin, end - begin, *error);
  return {};
}

/// Marks the items of a reply as having their outcome, and returns those that had none. Error: `bad_message`, some had
/// one already, and no connection broke that could be why; or they do not exist.
Result<std::vector<Job::Run>> Job::settle_due(Connection& connection, const Prefix& prefix, std::uint64_t count) {
  const std::uint64_t first = prefix.target;
  const auto wrong = [&] {
    return fail(Errc::bad_message,
                std::string{name(prefix.op)} + ": item " + std::to_string(first) + " has no outcome due");
  };
  if (resends == 0) {
    if (!settle(connection, first, count)) return wrong();
    return std::vector<Run>{{first, first + count}};
  }
  if (first + count > numbered_) return wrong();
  auto due = outstanding_.within(first, first + count);
  for (const auto& [begin, end] : due) settle(connection, begin, end - begin);
  return due;
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
      if (piece->second.sent) connection.unqueued(piece->second.bytes, outcomes_ == Outcomes::at_the_end);
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
  drop_frames(connection);
  const std::vector<Run> ranges(outstanding_.ranges().begin(), outstanding_.ranges().end());
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
  fail_rest(connection, error, unsent_error, reached_);
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

Result<bool> DetachedJob::accept(Connection& connection, const FrameView& frame, std::span<Fd> fds) {
  if (frame.prefix.op != Op::ok) return Job::accept(connection, frame, fds);
  accepted_ = Body{Encoding::json, 1, Bytes(frame.body.begin(), frame.body.end())};
  return read_;
}

void DetachedJob::all_read(Connection& connection) {
  read_ = true;
  if (accepted_ && !ended()) connection.end(*this);
}

bool DetachedJob::rewind(Connection& connection) {
  if (!Job::rewind(connection)) return false;
  accepted_.reset();
  read_ = false;
  return true;
}

Result<Body> DetachedJob::take() {
  if (accepted_ && read_) return std::move(*accepted_);
  if (!done()) return done().error();
  return fail(Errc::bad_message, "the daemon ended a detached job");
}

}  // namespace taskpool::client
