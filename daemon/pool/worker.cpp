#include "daemon/pool/worker.hpp"

#include <fmt/core.h>
#include <signal.h>

#include <algorithm>
#include <utility>

#include "daemon/log.hpp"
#include "daemon/os/process.hpp"
#include "daemon/os/usage.hpp"
#include "daemon/wire/spawn.hpp"
#include "proto/codec.hpp"

namespace taskpool::pool {

namespace {
/// Results of an array smaller than this come back inside a frame. Bytes.
constexpr std::uint64_t kSmallestRoom = 16 * 1024;

bool contains(const ArenaRef& region, const ArenaRef& part) {
  return part.segment == region.segment && part.offset >= region.offset && part.bytes <= region.bytes &&
         part.offset - region.offset <= region.bytes - part.bytes;
}
}  // namespace

Worker::Worker(wire::Turn& turn, WorkerOwner& owner, ArenaSource& arenas, ZygotePtr zygote, std::uint32_t number,
               pid_t pid, os::UniqueFd channel, os::UniqueFd pidfd, os::UniqueFd watched, os::SharedMemory page)
    : started{turn.now()},
      turn_{turn},
      owner_{owner},
      arenas_{arenas},
      zygote_{std::move(zygote)},
      number_{number},
      pid_{pid},
      pidfd_{std::move(pidfd)},
      memory_{std::move(page)},
      channel_{turn, std::move(channel)},
      exit_{turn.io(), watched.release()} {}

void Worker::watch(std::shared_ptr<Worker> self, std::shared_ptr<void> owner) {
  wire::spawn(turn_.io(), read(self, owner), [self, owner](const std::string& error) {
    if (error.empty()) return;
    log::error("bug", {{"what", "worker"}, {"worker", self->number_}, {"error", error}});
    if (self->state != WorkerState::dead) self->owner_.on_worker_broken(*self, error);
  });
  watch_exit(std::move(self), std::move(owner));
}

void Worker::watch_exit(std::shared_ptr<Worker> self, std::shared_ptr<void> owner) {
  exit_.async_wait(boost::asio::posix::descriptor_base::wait_read,
                   [self, owner](const boost::system::error_code& error) {
                     if (error || self->state == WorkerState::dead) return;
                     if (!os::has_ended(self->pidfd_.get())) return self->watch_exit(self, owner);
                     self->owner_.on_worker_exit_seen(*self);
                   });
}

boost::asio::awaitable<void> Worker::read(std::shared_ptr<Worker> self, std::shared_ptr<void>) {
  const auto ended = co_await self->channel_.read(*self);
  if (self->state != WorkerState::dead) self->owner_.on_worker_broken(*self, ended ? "" : ended.error().detail);
}

void Worker::unwatch() {
  channel_.close();
  boost::system::error_code ignored;
  exit_.cancel(ignored);
}

queue::Load Worker::load() const { return {items_, std::chrono::nanoseconds{estimated_ns_}, slow && items_ > 0}; }

void Worker::offer() {
  if (unoffered_ == 0) return;
  offer_tickets(page(), std::exchange(unoffered_, 0));
  if (!zygote_->claims()) take_back_tickets(page());  // it does not claim: what it was given is its own at once
}

std::uint32_t Worker::unclaimed() {
  offer();
  const auto claim = Claim::unpack(page().claim.load(std::memory_order_acquire));
  const auto count = next_ticket_ - claim.next;
  return std::min(count, items_);
}

std::optional<Worker::Running> Worker::running() const {
  if (page().busy.load(std::memory_order_acquire) == 0) return std::nullopt;
  const Ticket ticket = page().running.load(std::memory_order_relaxed);
  for (const auto& assignment : assignments_) {
    const auto position = ticket - assignment.first;
    if (position >= assignment.range.count) continue;
    const auto since = std::chrono::nanoseconds{page().started_ns.load(std::memory_order_relaxed)};
    return Running{&assignment, assignment.range.index + position, ticket,
                   std::chrono::steady_clock::time_point{since}};
  }
  return std::nullopt;
}

std::chrono::microseconds Worker::cpu_time() const {
  if (group)
    if (const auto used = group->cpu_time()) return *used;
  return os::cpu_time_of_tree(pid_);
}

std::chrono::nanoseconds Worker::worked() const {
  return std::chrono::nanoseconds{page().worked_ns.load(std::memory_order_relaxed)};
}

void Worker::attach(std::uint32_t session, bool down, std::uint64_t segment) {
  if (!attached_.insert({session, {down, segment}}).second) return;
  const auto view = arenas_.find_segment(session, down, segment);
  if (!view) return;  // the session is gone, and its task is about to be cancelled
  const Attach message{session, down, static_cast<std::uint32_t>(segment), view->bytes, arenas_.is_same_uid(session)};
  const Prefix prefix{.op = Op::attach};
  if (!channel_.send_with(prefix, encode(message), {}, std::span{&view->fd, 1}))
    attached_.erase({session, {down, segment}});
}

void Worker::attach_references(const queue::Range& range, std::uint32_t session) {
  ArenaRef scratch;
  const auto [table, references] = range.body(scratch);
  for (std::size_t at = 0; at + sizeof(ArenaRef) <= references.size(); at += sizeof(ArenaRef))
    if (const auto reference = taskpool::load<ArenaRef>(references.data() + at); reference.bytes > 0)
      attach(session, false, reference.segment);
}

void Worker::detach(std::uint32_t session) {
  const auto first = attached_.lower_bound({session, {false, 0}});
  const auto last = attached_.lower_bound({session + 1, {false, 0}});
  if (first == last) return;
  attached_.erase(first, last);
  channel_.send(Prefix{.op = Op::detach}, encode(Detach{session}));
}

bool Worker::holds(const queue::Usage& of) const {
  return std::any_of(holdings_.begin(), holdings_.end(),
                     [&](const Holding& holding) { return holding.user.get() == &of; });
}

void Worker::lend() {
  if (lent++ > 0) return;
  for (const auto& holding : holdings_) --holding.user->slots;
}

void Worker::give_back() {
  if (--lent > 0) return;
  for (const auto& holding : holdings_) ++holding.user->slots;
}

void Worker::count_in(Assignment& assignment, const queue::UsagePtr& usage) {
  assignment.usage = usage.get();
  if (!usage) return;
  for (auto& holding : holdings_)
    if (holding.user == usage) {
      ++holding.assignments;
      return;
    }
  holdings_.push_back({usage, 1});
  if (lent == 0) ++usage->slots;
}

void Worker::count_out(Assignment& assignment) {
  const auto* const usage = std::exchange(assignment.usage, nullptr);
  for (auto holding = holdings_.begin(); holding != holdings_.end(); ++holding) {
    if (holding->user.get() != usage) continue;
    if (--holding->assignments > 0) return;
    if (lent == 0) --holding->user->slots;
    holdings_.erase(holding);
    return;
  }
}

void Worker::give(queue::Job& job, queue::Range range, std::int64_t cost_ns, std::uint32_t function) {
  const auto& call = *job.call;
  const auto& block = *range.block;
  if (function >= zygote_->listed_functions() && defined_.insert(function).second)
    channel_.send(Prefix{.op = Op::define, .target = function}, encode(Define{call.function->name}));

  RunHeader header;
  header.job = static_cast<std::uint64_t>(job.id);
  header.index = range.index;
  header.attempt = range.runs();
  header.timeout_ms = static_cast<std::uint32_t>(call.timeout.count());
  header.soft_timeout_ms = static_cast<std::uint32_t>(call.soft_timeout.count());
  header.session = job.session;
  header.depth = job.depth;
  if (!job.is_map) header.flags |= kRunSingle;
  if (call.call.announce) header.flags |= kRunReport;

  Assignment assignment{next_ticket_, std::move(range), &job, cost_ns, turn_.now(), std::nullopt, job.session};
  const auto& given = assignment.range;
  if (block.in_arena()) attach_references(given, job.session);
  const auto width = element_bytes(call.call.result_element);
  if (block.is_numbers() && width > 0 && width * given.count >= kSmallestRoom) {
    if (auto room = arenas_.allocate(job.session, width * given.count)) {
      attach(job.session, true, room->segment);
      header.room = *room;
      assignment.room = *room;
    }  // else the worker asks again when it has the results, and says that there is no space
  }
  std::string head;
  if (!call.call.command.empty()) {
    head = R"({"command":)" + call.call.command + "}";
    header.flags |= kRunCommand;
  }

  ArenaRef scratch;
  const auto [table, payload] = given.body(scratch);
  const Prefix prefix{.op = Op::run,
                      .flags = block.in_arena() ? kInArena : std::uint8_t{0},
                      .encoding = block.encoding(),
                      .target = function,
                      .count = given.frame_count(),
                      .request = next_ticket_};
  const auto count = given.count;
  if (items_ == 0) slow = soft_told = false;  // that was about what it held before
  unoffered_ += count;
  channel_.send(prefix, head, std::as_bytes(std::span{&header, 1}), table, payload);

  next_ticket_ += count;
  items_ += count;
  estimated_ns_ += cost_ns * count;
  given_total += count;
  last_used = assignment.given;
  count_in(assignment, job.usage);
  assignments_.push_back(std::move(assignment));
}

std::vector<Assignment> Worker::take_back() {
  std::vector<Assignment> taken;
  if (assignments_.empty()) return taken;
  offer();
  auto next = take_back_tickets(page()).next;
  const Ticket first = assignments_.front().first;
  if (next - first > next_ticket_ - first) next = next_ticket_;  // nonsense in the page: take nothing
  if (ticket_before(next, reported_)) next = reported_;
  while (!assignments_.empty()) {
    auto& last = assignments_.back();
    const auto claimed = ticket_before(last.first, next) ? std::min(next - last.first, last.range.count) : 0;
    const auto unclaimed = last.range.count - claimed;
    if (unclaimed == 0) break;
    items_ -= unclaimed;
    estimated_ns_ -= last.cost_ns * unclaimed;
    given_total -= unclaimed;
    if (claimed == 0) {
      if (last.room) arenas_.release(last.session, *last.room);
      last.room.reset();
      count_out(last);
      taken.push_back(std::move(last));
      assignments_.pop_back();
      continue;
    }
    Assignment back{last.first + claimed, last.range, last.job, last.cost_ns, last.given, std::nullopt, last.session};
    back.range.drop_front(claimed);
    last.range.count = claimed;
    taken.push_back(std::move(back));
    break;
  }
  let_go();
  return taken;
}

Result<void> Worker::on_frame(const FrameView& frame, std::vector<os::UniqueFd>) {
  handling_ = true;
  auto handled = handle(frame);
  handling_ = false;
  return handled;
}

Result<void> Worker::handle(const FrameView& frame) {
  switch (frame.prefix.op) {
    case Op::run_results: return on_results(frame);
    case Op::run_failed: return on_failure(frame);
    case Op::want_room: return on_want_room(frame);
    case Op::report: return on_report(frame);
    case Op::worker_ready: owner_.on_worker_ready(*this); return boost::system::in_place_value;
    case Op::worker_failed: {
      auto failure = decode<WorkerFailed>(frame.head);
      if (!failure) return failure.error();
      owner_.on_worker_failed(*this, *failure);
      return boost::system::in_place_value;
    }
    default: return fail(Errc::bad_message, fmt::format("op {}: not for a worker to send", name(frame.prefix.op)));
  }
}

Result<Worker::Expected> Worker::expect(Ticket ticket, std::uint32_t count) {
  if (assignments_.empty()) {
    if (ticket_before(ticket + count - 1, next_ticket_)) return Expected{nullptr, count};
    return fail(Errc::bad_message, fmt::format("ticket {}: was never given", ticket));
  }
  auto& oldest = assignments_.front();
  if (ticket_before(ticket, oldest.first)) return Expected{nullptr, std::min(count, oldest.first - ticket)};
  if (ticket != oldest.first)
    return fail(Errc::bad_message, fmt::format("ticket {}: comes before {}", ticket, oldest.first));
  return Expected{&oldest, std::min(count, oldest.range.count)};
}

void Worker::keep_for_results(std::shared_ptr<void> thing) {
  if (items_ == 0) return;
  const bool is_busy = page().busy.load(std::memory_order_acquire) != 0;
  auto last =
      is_busy ? page().running.load(std::memory_order_relaxed) : page().finished.load(std::memory_order_acquire) - 1;
  if (!ticket_before(last, next_ticket_)) last = next_ticket_ - 1;  // nonsense in the page
  if (!ticket_before(last, assignments_.front().first)) kept_.emplace_back(last, std::move(thing));
}

void Worker::let_go() {
  if (assignments_.empty()) return kept_.clear();
  std::erase_if(kept_, [&](const auto& kept) { return ticket_before(kept.first, assignments_.front().first); });
}

void Worker::finish_items(std::uint32_t count) {
  auto& oldest = assignments_.front();
  items_ -= count;
  estimated_ns_ -= oldest.cost_ns * count;
  done_total += count;
  finished_in_batch += count;
  slow = false;
  soft_told = false;
  if (stopping && stopping->ticket - oldest.first < count && !stopping->killed) stopping.reset();
  std::erase_if(rooms_, [&](const Room& room) {  // asked for and not used
    if (room.ticket - oldest.first >= count) return false;
    arenas_.release(room.session, room.region);
    return true;
  });
  oldest.first += count;
  if (oldest.range.count > count) {
    oldest.range.drop_front(count);
    return let_go();
  }
  if (oldest.room) arenas_.release(oldest.session, *oldest.room);
  count_out(oldest);
  assignments_.pop_front();
  let_go();
}

Result<void> Worker::take_rooms(const Assignment& assignment, std::span<const std::byte> references) {
  for (std::size_t at = 0; at < references.size(); at += sizeof(ArenaRef)) {
    const auto reference = taskpool::load<ArenaRef>(references.data() + at);
    if (reference.bytes == 0) continue;
    if (assignment.room && contains(*assignment.room, reference) && reference.offset == assignment.room->offset) {
      assignments_.front().room.reset();
      continue;
    }
    const auto room = std::find_if(rooms_.begin(), rooms_.end(), [&](const Room& candidate) {
      return candidate.session == assignment.session && candidate.region.offset == reference.offset &&
             contains(candidate.region, reference);
    });
    if (room == rooms_.end()) return fail(Errc::bad_message, "a result in a place that was not given");
    rooms_.erase(room);
  }
  return boost::system::in_place_value;
}

Result<void> Worker::on_results(const FrameView& frame) {
  const auto& prefix = frame.prefix;
  const bool in_arena = (prefix.flags & kInArena) != 0;
  if (const auto good = check_items(prefix.flags, prefix.encoding, prefix.count, frame.body); !good)
    return good.error();
  const bool single_array = is_array(prefix.encoding) && prefix.target == 1;
  const std::uint32_t items = single_array ? 1 : prefix.count;
  if (items == 0) return fail(Errc::bad_message, "run_results: no items");
  ResultRefs named;
  if (!frame.head.empty()) {
    auto head = decode<ResultRefs>(frame.head);
    if (!head) return head.error();
    named = std::move(*head);
  }
  const bool packed = !in_arena && !is_array(prefix.encoding);
  const std::size_t width = single_array ? 0 : element_bytes(prefix.encoding);
  const std::size_t table_bytes = packed ? std::size_t{items} * sizeof(std::uint32_t) : 0;

  auto ticket = static_cast<Ticket>(prefix.request);
  std::size_t offset = table_bytes;
  for (std::uint32_t at = 0; at < items;) {
    const auto expected = expect(ticket, items - at);
    if (!expected) return expected.error();
    const auto [assignment, count] = *expected;

    std::span<const std::byte> table;
    std::span<const std::byte> payload = frame.body;
    if (packed) {
      table = frame.body.subspan(std::size_t{at} * sizeof(std::uint32_t), std::size_t{count} * sizeof(std::uint32_t));
      std::size_t bytes = 0;
      for (std::uint32_t item = 0; item < count; ++item)
        bytes += taskpool::load<std::uint32_t>(table.data() + item * sizeof(std::uint32_t));
      payload = frame.body.subspan(offset, bytes);
      offset += bytes;
    } else if (in_arena && !is_array(prefix.encoding)) {
      payload = frame.body.subspan(std::size_t{at} * sizeof(ArenaRef), std::size_t{count} * sizeof(ArenaRef));
    } else if (count != items) {
      if (in_arena) return fail(Errc::bad_message, "run_results: an array in the arena across two runs");
      payload = frame.body.subspan(at * width, count * width);
    }
    if (assignment != nullptr) {
      reported_ = ticket + count;
      if (in_arena)
        if (const auto taken = take_rooms(*assignment, payload); !taken) return taken.error();
      Prefix form = prefix;
      form.count = single_array ? prefix.count : count;
      owner_.on_items_done(*this, *assignment, count, form, table, payload, named.refs);
      finish_items(count);
    }
    at += count;
    ticket += count;
  }
  return boost::system::in_place_value;
}

Result<void> Worker::on_failure(const FrameView& frame) {
  auto error = decode<ErrorHead>(frame.head);
  if (!error) return error.error();
  auto ticket = static_cast<Ticket>(frame.prefix.request);
  for (std::uint32_t left = std::max<std::uint32_t>(frame.prefix.count, 1); left > 0;) {
    const auto expected = expect(ticket, left);
    if (!expected) return expected.error();
    const auto [assignment, count] = *expected;
    if (assignment != nullptr) {
      reported_ = ticket + count;
      owner_.on_items_failed(*this, *assignment, count, *error);
      finish_items(count);
    }
    left -= count;
    ticket += count;
  }
  return boost::system::in_place_value;
}

Result<void> Worker::on_want_room(const FrameView& frame) {
  const auto ticket = static_cast<Ticket>(frame.prefix.request);
  if (frame.body.size() != sizeof(std::uint64_t)) return fail(Errc::bad_message, "want_room: the body is one u64");
  const auto bytes = taskpool::load<std::uint64_t>(frame.body.data());
  const auto holder = std::find_if(assignments_.begin(), assignments_.end(), [&](const Assignment& candidate) {
    return ticket - candidate.first < candidate.range.count;
  });
  if (holder == assignments_.end()) return fail(Errc::bad_message, "want_room: for a ticket it does not hold");
  const Prefix prefix{.op = Op::room, .count = 1, .request = ticket};
  const auto room = arenas_.allocate(holder->session, bytes);
  ArenaRef region;
  std::string refusal;
  if (room) {
    region = *room;
    attach(holder->session, true, region.segment);
    rooms_.push_back({ticket, holder->session, region});
  } else {
    ErrorHead error;
    error.code = room.error().errc();
    error.detail = room.error().detail;
    refusal = encode(error);
  }
  channel_.send(prefix, refusal, std::as_bytes(std::span{&region, 1}));
  return boost::system::in_place_value;
}

Result<void> Worker::on_report(const FrameView& frame) {
  auto report = decode<Report>(frame.head);
  if (!report) return report.error();
  const auto ticket = static_cast<Ticket>(frame.prefix.request);
  for (const auto& assignment : assignments_)
    if (ticket - assignment.first < assignment.range.count) {
      auto one = assignment;
      one.range.drop_front(ticket - assignment.first);
      owner_.on_report(*this, one, *report);
      break;
    }
  return boost::system::in_place_value;
}

void Worker::drain_outbox() {
  const auto resets = page().outbox_resets.load(std::memory_order_acquire);
  const std::size_t bytes = page().outbox_bytes.load(std::memory_order_acquire);
  if (bytes == 0 || bytes > memory_.size() - kOutboxOffset) return;
  FrameDecoder decoder;
  decoder.feed(memory_.bytes().subspan(kOutboxOffset, bytes));
  std::atomic_thread_fence(std::memory_order_acquire);
  if (page().outbox_resets.load(std::memory_order_relaxed) != resets) return;  // it was being reused: it is not stuck
  for (;;) {
    auto frame = decoder.next();
    if (!frame || !*frame) return;
    const auto op = (*frame)->prefix.op;
    // Only what is safe to hear twice; it comes over the channel too.
    if (op != Op::run_results && op != Op::run_failed) continue;
    if (!on_frame(**frame, {})) return;
  }
}

Worker::Remains Worker::bury() {
  (void)channel_.read_rest(*this);  // whatever is wrong with it, it is dead
  drain_outbox();
  if (!assignments_.empty() && assignments_.front().room) {
    // An array's results are in its room already.
    auto& oldest = assignments_.front();
    const Ticket finished = page().finished.load(std::memory_order_acquire);
    const auto done = finished - oldest.first;
    // The worker says of what type they are, which need not be what the caller expected; the room was made for that
    // width.
    const auto encoding = static_cast<Encoding>(page().room_element.load(std::memory_order_relaxed));
    const bool fits =
        is_array(encoding) && element_bytes(encoding) == element_bytes(oldest.job->call->call.result_element);
    if (fits && done > 0 && done <= oldest.range.count) {
      const auto room = *std::exchange(oldest.room, std::nullopt);
      const ArenaRef filled{room.segment, room.offset, done * element_bytes(encoding)};
      const Prefix form{.op = Op::run_results, .flags = kInArena, .encoding = encoding, .count = done};
      owner_.on_items_done(*this, oldest, done, form, {}, std::as_bytes(std::span{&filled, 1}), {});
      finish_items(done);
    }
  }
  Remains remains;
  if (!assignments_.empty()) {
    const Ticket first = assignments_.front().first;
    const Ticket ticket = page().running.load(std::memory_order_acquire);
    const bool was_busy = page().busy.load(std::memory_order_acquire) != 0;
    if (was_busy && ticket - first < next_ticket_ - first) remains.died_in = ticket;
    remains.since = queue::TimePoint{std::chrono::nanoseconds{page().started_ns.load(std::memory_order_relaxed)}};
  }
  for (auto& assignment : assignments_)
    if (assignment.room) arenas_.release(assignment.session, *std::exchange(assignment.room, std::nullopt));
  for (const auto& room : rooms_) arenas_.release(room.session, room.region);
  rooms_.clear();
  for (auto& assignment : assignments_) count_out(assignment);
  remains.assignments.assign(std::make_move_iterator(assignments_.begin()),
                             std::make_move_iterator(assignments_.end()));
  assignments_.clear();
  items_ = 0;
  estimated_ns_ = 0;
  kept_.clear();
  return remains;
}

void Worker::interrupt(Ticket ticket, Interrupt reason) {
  const auto word = (std::uint64_t{ticket} + 1) & 0xffffffffu;
  page().interrupt.store(word | (static_cast<std::uint64_t>(reason) << 32), std::memory_order_release);
  (void)os::signal(pidfd_, SIGUSR1);  // it may have exited: then there is nothing to interrupt
}

void Worker::kill() { os::kill_group(pidfd_, pid_); }

}  // namespace taskpool::pool
