#include "client/cpp/stream_job.hpp"

#include "client/cpp/waiting.hpp"

namespace taskpool::client {

bool StreamJob::has_room(const Item& item) const {
  const auto ahead = pushed() - taken();
  if (ahead == 0 || outcomes() == Outcomes::at_the_end) return true;
  const auto bytes = under_way_bytes();
  return ahead < options_.window_items && (bytes == 0 || bytes + item.bytes.size() <= options_.window_bytes) &&
         ready_bytes_.load(std::memory_order_relaxed) < options_.window_bytes;
}

Result<bool> StreamJob::try_push(Connection& connection, const Item& item) {
  if (!ended() && !has_room(item)) return false;
  if (auto added = add(connection, item); !added) return added.error();
  // Whoever takes has sent everything and waits; if nothing is under way, only this item can end that.
  if (is_waiting(waits_.load(std::memory_order_acquire)) && is_quiet()) flush(connection);
  return true;
}

Result<void> StreamJob::push(Connection& connection, const Item& item, std::chrono::milliseconds patience) {
  for (;;) {
    const auto pushed = try_push(connection, item);
    if (!pushed) return pushed.error();
    if (*pushed) return {};
    flush(connection);
    const auto taken_before = taken();
    const auto waits_before = waits_.load(std::memory_order_acquire);
    auto lock = connection.lock();
    if (connection.wait_passively(lock, *this, deadline_after(patience), [&] { return ended() || has_room(item); }))
      continue;
    // A wait that has ended since leaves the taker as long again to take what it waited for.
    if (taken() == taken_before && waits_.load(std::memory_order_acquire) == waits_before && !is_waiting(waits_before))
      return fail(Errc::timed_out, "the window is full, and nobody has taken an outcome for " +
                                       std::to_string(patience.count()) + " ms");
  }
}

bool StreamJob::has_next() const {
  return !ready_.empty() && (!options_.ordered || ready_.begin()->first == first_index_ + taken());
}

bool StreamJob::is_idle() const { return pushed() == taken() && (!finished() || ended()); }

std::optional<Outcome> StreamJob::try_next(Connection& connection) {
  if (at_ == current_.count) {
    Chunk last;  // dropped without the lock: its body's destructor takes it
    const auto lock = connection.lock();
    connection.notify(*this);  // who pushes may wait for the room of what was taken
    if (!has_next()) return std::nullopt;
    last = std::exchange(current_, std::move(ready_.begin()->second));
    ready_.erase(ready_.begin());
    ready_bytes_.fetch_sub(current_.bytes(), std::memory_order_relaxed);
    at_ = 0;
    offset_ = current_.count * sizeof(std::uint32_t);
  }
  const auto outcome = next_of_current();
  taken_.fetch_add(1, std::memory_order_release);
  return outcome;
}

Outcome StreamJob::next_of_current() {
  const auto here = at_++;
  Outcome outcome{current_.first + here, current_.error.get(), {}};
  if (outcome.error != nullptr) return outcome;
  const auto bytes = current_.body.bytes();
  const auto encoding = current_.body.encoding();
  outcome.value.encoding = encoding;
  if (current_.single) {
    outcome.value.bytes = bytes;
    outcome.value.count = current_.body.count();
  } else if (const auto size = element_bytes(encoding); size > 0) {
    outcome.value.bytes = bytes.subspan(here * size, size);
  } else {
    const auto length = load<std::uint32_t>(bytes.data() + here * sizeof(std::uint32_t));
    outcome.value.bytes = bytes.subspan(offset_, length);
    offset_ += length;
  }
  return outcome;
}

MapStream::State StreamJob::wait_for(Connection& connection, const Deadline& deadline) {
  if (at_ < current_.count) return MapStream::State::ready;
  waits_.fetch_add(1, std::memory_order_release);  // before the flush: what is pushed after it sees this
  flush(connection);
  auto lock = connection.lock();
  connection.notify(*this);
  const bool something = connection.wait(lock, *this, deadline, [&] { return has_next() || is_idle(); });
  waits_.fetch_add(1, std::memory_order_release);
  if (!something) return MapStream::State::timed_out;
  return has_next() ? MapStream::State::ready : MapStream::State::idle;
}

void StreamJob::keep(Chunk chunk) {
  ready_bytes_.fetch_add(chunk.bytes(), std::memory_order_relaxed);
  const auto first = chunk.first;
  chunk.refs = std::exchange(refs_, nullptr);  // such results come in a frame of their own
  ready_.emplace(first, std::move(chunk));
}

void StreamJob::deliver(Connection&, std::uint64_t first, std::uint32_t count, Encoding encoding,
                        std::span<const std::byte> body) {
  Chunk chunk;
  chunk.first = first;
  chunk.count = count;
  chunk.body = Body{encoding, count, Bytes(body.begin(), body.end())};
  keep(std::move(chunk));
}

void StreamJob::deliver_one(Connection&, std::uint64_t index, Body body) {
  Chunk chunk;
  chunk.first = index;
  chunk.count = 1;
  chunk.body = std::move(body);
  chunk.single = true;
  keep(std::move(chunk));
}

void StreamJob::deliver_array(Connection&, std::uint64_t first, Body body) {
  Chunk chunk;
  chunk.first = first;
  chunk.count = body.count();
  chunk.body = std::move(body);
  keep(std::move(chunk));
}

void StreamJob::deliver_failure(Connection&, std::uint64_t first, std::uint64_t count, const ErrorHead& error) {
  Chunk chunk;
  chunk.first = first;
  chunk.count = count;
  chunk.error = std::make_unique<ErrorHead>(error);
  keep(std::move(chunk));
}

}  // namespace taskpool::client
