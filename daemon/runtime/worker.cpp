#include "daemon/runtime/worker.hpp"

#include <cxxabi.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <typeinfo>
#include <utility>
#include <vector>

#include "daemon/runtime/call.hpp"
#include "daemon/runtime/chunk.hpp"
#include "daemon/runtime/link.hpp"
#include "daemon/runtime/numbers.hpp"
#include "daemon/runtime/pace.hpp"
#include "proto/codec.hpp"
#include "proto/fields.hpp"

namespace taskpool::runtime {
namespace {

/// Most items that share one reading of the clock.
constexpr std::uint32_t kMostItems = 64;
/// Most numbers of an array that are claimed at once, for one call: what a slow one among them delays. With 8 bytes
/// each they fit an inline body.
constexpr std::uint32_t kMostNumbers = kMaxInlineItemBytes / 8;
/// The outbox is sent when it has more than this, or when its oldest result has waited this long and another item
/// begins.
constexpr std::size_t kFlushBytes = 32 * 1024;
constexpr std::uint64_t kFlushNs = 1'000'000;

/// Changes every few milliseconds, and costs a quarter of a real clock.
std::uint64_t coarse_tick() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(now.tv_nsec);
}

std::string readable_name(const char* mangled) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> name{abi::__cxa_demangle(mangled, nullptr, nullptr, &status),
                                                         &std::free};
  return status == 0 ? name.get() : mangled;
}

/// Calls `function` and makes an exception that leaves it the task's error. Returns what the function did, or `thrown`.
template <class T, class Function>
T guarded(Call& call, T thrown, const Function& function) {
  try {
    return function();
  } catch (const std::exception& error) {
    call.set_error(Errc::task_failed, readable_name(typeid(error).name()), error.what());
  } catch (...) {
    const auto* const type = abi::__cxa_current_exception_type();
    call.set_error(Errc::task_failed, type != nullptr ? readable_name(type->name()) : std::string{},
                   "not an std::exception");
  }
  return thrown;
}

class Worker {
 public:
  Worker(const Modules& modules, Link& link, Interrupts interrupts, Call::Place place)
      : modules_{modules},
        link_{link},
        page_{link.page()},
        interrupts_{interrupts},
        call_{link, interrupts_, std::move(place)},
        paces_(modules.size()) {}

  /// Calls the initializer. Error: `start_failed`; detail says why.
  Result<void> initialize(const std::string& name, const std::string& arguments);
  void run();

 private:
  /// Consecutive tickets that began together: claimed together, or, items that are run one by one, timed together.
  struct Block {
    Ticket first = 0;
    Ticket end = 0;
    std::uint64_t began_ns = 0;
    std::uint64_t tick = 0;
  };

  void run_chunk(const FrameView& frame);
  void run_items(const taskpool_function& function, Pace& pace, Chunk& chunk);
  void run_item(const taskpool_function& function, Chunk& chunk, Ticket ticket);
  void run_numbers(const taskpool_function& function, Pace& pace, const Chunk& chunk);
  void run_block(const taskpool_function& function, const Chunk& chunk, const Chunk::Numbers& numbers,
                 const Block& block);
  void fail_chunk(const Chunk& chunk, const Error& error);

  Block claim_block(Ticket ticket, std::uint32_t want);
  Ticket skip_taken_back(Ticket ticket, Ticket end);
  void end_block(const Block& block, Ticket ticket, Pace& pace);
  void finish(Ticket ticket);

  std::span<const std::byte> number_as_json(const Chunk& chunk, const Chunk::Numbers& numbers, std::uint32_t offset);
  std::span<const std::byte> readable_numbers(const Chunk& chunk, const Chunk::Numbers& numbers, Encoding wanted,
                                              std::uint32_t offset, std::uint32_t& count);
  void find_room(const Chunk& chunk, Encoding result);
  void close_room(const Chunk& chunk, Ticket end);

  const Modules& modules_;
  Link& link_;
  ClaimPage& page_;
  Interrupts interrupts_;
  Call call_;
  std::vector<Pace> paces_;
  std::uint64_t oldest_ns_ = 0;   ///< When the oldest result in the outbox was begun.
  bool answered_single_ = false;  ///< The last chunk was one item of its own, whose result may be in the outbox.

  std::span<std::byte> room_;  ///< Of the chunk that runs, while its results go there.
  Encoding room_type_ = Encoding::none;
  std::string number_text_;         ///< A number as JSON.
  std::vector<std::byte> numbers_;  ///< Numbers copied or converted for a function.
};

Result<void> Worker::initialize(const std::string& name, const std::string& arguments) {
  if (name.empty()) return {};
  const auto* const function = modules_.find(name);
  if (function == nullptr) return fail(Errc::start_failed, "initializer " + name + ": no such function");
  // As for any call: the one argument of a function of one parameter is the item itself.
  const auto list = Json::parse(arguments.empty() ? "[]" : arguments, nullptr, false);
  if (!list.is_array()) return fail(Errc::start_failed, "initializer " + name + ": its arguments are not a list");
  const std::string item = list.size() == 1 ? list[0].dump() : list.dump();
  call_.begin_run({.flags = kRunSingle}, {});
  call_.begin_item(0, 0, Encoding::json, 1, as_bytes(item));
  call_.drop_result();
  const int status = guarded(call_, 1, [&] { return function->call(&call_, function->user); });
  link_.leave_if_copy();
  if (status == 0 && !call_.has_error()) return {};
  if (!call_.has_error()) return fail(Errc::start_failed, "initializer " + name + " failed");
  const auto& error = call_.error_head();
  const std::string type = error.type.empty() ? std::string{} : error.type + ": ";
  return fail(Errc::start_failed, "initializer " + name + ": " + type + error.detail);
}

void Worker::run() {
  while (const auto frame = link_.next_frame()) {
    if (frame->view.prefix.op == Op::run) run_chunk(frame->view);
    // Anything else is an answer that came too late, or news for runtimes with open names: not for us.
  }
}

void Worker::run_chunk(const FrameView& frame) {
  Chunk chunk;
  if (const auto read = chunk.read(frame); !read) return fail_chunk(chunk, read.error());
  const auto number = frame.prefix.target;
  const auto* const function = modules_.at(number);
  // Somebody waits for an apply's result, and items of a map may take as long as they like.
  if (!chunk.is_single() && answered_single_) link_.flush();
  answered_single_ = chunk.is_single();
  if (function == nullptr)
    return fail_chunk(chunk, fail(Errc::unknown_function, "function number " + std::to_string(number)));
  call_.begin_run(chunk.header(), chunk.command());
  if (chunk.is_numbers() && function->call_array != nullptr)
    run_numbers(*function, paces_[number], chunk);
  else
    run_items(*function, paces_[number], chunk);
}

// Blocks. At every instant a ticket below `finished` has its result in the channel, the outbox or its chunk's room (or
// was skipped), `running` is the one that user code works on, and every other claimed ticket has not been begun, but
// for the numbers of a block between `finished` and `running`, which have run and left nothing: they may be run again.

/// Claims tickets and marks the worker busy with the first. An empty block: they were taken back, or are not ours to
/// run.
Worker::Block Worker::claim_block(Ticket ticket, std::uint32_t want) {
  const auto claimed = claim_tickets(page_, ticket, want);
  if (claimed == 0) return {ticket, ticket, 0, 0};
  const Block block{ticket, ticket + claimed, monotonic_ns(), coarse_tick()};
  if (link_.outbox().empty())
    oldest_ns_ = block.began_ns;
  else if (block.began_ns - oldest_ns_ > kFlushNs)
    link_.flush();
  page_.started_ns.store(block.began_ns, std::memory_order_relaxed);
  page_.running.store(ticket, std::memory_order_release);
  page_.busy.store(1, std::memory_order_release);
  return block;
}

/// `ticket` could not be claimed. Returns the next that perhaps can, at most `end`: what is taken back is taken back up
/// to the word's `next`, all at once, and there may be hundreds.
Ticket Worker::skip_taken_back(Ticket ticket, Ticket end) {
  const auto next = Claim::unpack(page_.claim.load(std::memory_order_acquire)).next;
  auto to = ticket + 1;
  if (ticket_before(to, next)) to = ticket_before(next, end) ? next : end;
  page_.finished.store(to, std::memory_order_release);
  return to;
}

void Worker::end_block(const Block& block, Ticket ticket, Pace& pace) {
  page_.busy.store(0, std::memory_order_release);
  const auto took = monotonic_ns() - block.began_ns;
  page_.worked_ns.store(page_.worked_ns.load(std::memory_order_relaxed) + took, std::memory_order_relaxed);
  pace.ran(ticket - block.first, std::chrono::nanoseconds{took});
}

/// `ticket` has its result in the outbox.
void Worker::finish(Ticket ticket) {
  page_.finished.store(ticket + 1, std::memory_order_release);
  interrupts_.forget();
  if (link_.outbox().bytes() > kFlushBytes) link_.flush();
}

void Worker::run_items(const taskpool_function& function, Pace& pace, Chunk& chunk) {
  const Ticket end = chunk.first() + chunk.tickets();
  for (Ticket ticket = chunk.first(); ticket != end;) {
    // Each item is claimed alone, so that nothing waits behind one that turns out long; only the clock is read for
    // many.
    const auto block = claim_block(ticket, 1);
    if (block.end == block.first) {
      ticket = skip_taken_back(ticket, end);
      continue;
    }
    const Ticket last = ticket + pace.block(std::min(end - ticket, kMostItems));
    do {
      page_.running.store(ticket, std::memory_order_release);
      run_item(function, chunk, ticket);
      finish(ticket++);
    } while (ticket != last && coarse_tick() == block.tick && claim_tickets(page_, ticket, 1) == 1);
    end_block(block, ticket, pace);
  }
}

void Worker::run_item(const taskpool_function& function, Chunk& chunk, Ticket ticket) {
  const std::uint32_t offset = ticket - chunk.first();
  const bool is_number = chunk.is_numbers();  // of a function that takes items alone
  auto item = Result<std::span<const std::byte>>{std::span<const std::byte>{}};
  if (!is_number) {
    item = chunk.item(link_.arenas(), offset);
  } else if (const auto numbers = chunk.numbers(link_.arenas()); numbers) {
    item = number_as_json(chunk, *numbers, offset);
  } else {
    item = numbers.error();
  }
  call_.begin_item(ticket, offset, is_number ? Encoding::json : chunk.encoding(), chunk.elements(),
                   item ? *item : std::span<const std::byte>{});
  if (!item) {
    call_.set_error(item.error().errc(), {}, item.error().detail);
    return call_.publish(false);
  }
  const int status = guarded(call_, 1, [&] { return function.call(&call_, function.user); });
  call_.publish(status == 0);
}

std::span<const std::byte> Worker::number_as_json(const Chunk& chunk, const Chunk::Numbers& numbers,
                                                  std::uint32_t offset) {
  const auto* const number = numbers.bytes.data() + std::size_t{offset} * element_bytes(chunk.encoding());
  if (!number_to_json(chunk.encoding(), number, number_text_)) number_text_ = "null";  // JSON has no other word for it
  return as_bytes(number_text_);
}

void Worker::run_numbers(const taskpool_function& function, Pace& pace, const Chunk& chunk) {
  const auto numbers = chunk.numbers(link_.arenas());
  if (!numbers) return fail_chunk(chunk, numbers.error());
  find_room(chunk, static_cast<Encoding>(function.array_out));
  const Ticket end = chunk.first() + chunk.tickets();
  for (Ticket ticket = chunk.first(); ticket != end;) {
    const auto block = claim_block(ticket, pace.block(std::min(end - ticket, kMostNumbers)));
    if (block.end == block.first) {
      close_room(chunk, ticket);  // what follows was taken back
      ticket = skip_taken_back(ticket, end);
      continue;
    }
    run_block(function, chunk, *numbers, block);
    end_block(block, block.end, pace);
    ticket = block.end;
  }
  close_room(chunk, end);
}

/// Runs the numbers of a block: in one call, unless some fail.
void Worker::run_block(const taskpool_function& function, const Chunk& chunk, const Chunk::Numbers& numbers,
                       const Block& block) {
  const auto out_type = static_cast<Encoding>(function.array_out);
  const auto width = element_bytes(out_type);
  auto* const running = reinterpret_cast<std::uint32_t*>(&page_.running);
  static_assert(sizeof page_.running == sizeof *running && std::atomic<std::uint32_t>::is_always_lock_free);
  for (Ticket ticket = block.first; ticket != block.end;) {
    const std::uint32_t offset = ticket - chunk.first();
    std::uint32_t count = block.end - ticket;
    call_.begin_item(ticket, offset, Encoding::none, 1, {});
    const auto in = readable_numbers(chunk, numbers, static_cast<Encoding>(function.array_in), offset, count);
    std::byte* const out = room_.empty() ? link_.outbox().reserve(count * width) : room_.data() + offset * width;
    const auto call = [&] {
      return function.call_array(&call_, function.user, in.data(), out, count, ticket, running);
    };
    std::uint32_t done = count == 0 ? 0 : guarded(call_, count + 1, call);
    link_.leave_if_copy();
    // An exception left the function, which had told in `running` how far it was.
    if (done > count) done = std::min(page_.running.load(std::memory_order_relaxed) - ticket, count - 1);
    if (room_.empty() && done > 0) link_.outbox().add_array(call_.origin(out_type), done, {out, done * width});
    ticket += done;
    if (ticket != block.end) {  // this one failed: in the function, or because it is none of its numbers
      auto error = done < count && call_.has_error() ? call_.error_head() : unexplained_failure();
      if (done == count)
        error = {.code = Errc::bad_argument,
                 .detail = "argument 1: does not fit " + std::string{name(static_cast<Encoding>(function.array_in))}};
      close_room(chunk, ticket);
      page_.running.store(ticket, std::memory_order_release);
      link_.outbox().add_failed(ticket, 1, error);
      ++ticket;
    }
    finish(ticket - 1);
  }
}

// A chunk's room holds the results of its numbers, each at its own place, and `finished` publishes them. One frame says
// so when the chunk ends, or before its first failure: what follows that goes inline.

/// Results of `chunk` go into its room, if it has one that fits.
void Worker::find_room(const Chunk& chunk, Encoding result) {
  room_ = {};
  room_type_ = result;
  const auto& ref = chunk.header().room;
  // The supervisor made it for the results that the caller expects; these may be others.
  const std::uint64_t bytes = std::uint64_t{chunk.tickets()} * element_bytes(result);
  if (ref.bytes < bytes || ref.bytes >= bytes + kArenaAlignment) return;
  const auto room = link_.arenas().room(chunk.header().session, ref);
  if (!room) return;
  room_ = *room;
  page_.room_element.store(static_cast<std::uint32_t>(result), std::memory_order_relaxed);  // `finished` publishes it
}

/// Announces the results that the room holds, which are those of the tickets before `end`.
void Worker::close_room(const Chunk& chunk, Ticket end) {
  if (room_.empty()) return;
  room_ = {};
  const std::uint32_t count = end - chunk.first();
  if (count == 0) return;
  const auto& ref = chunk.header().room;
  link_.outbox().add_reference({chunk.first(), room_type_, false}, count,
                               {ref.segment, ref.offset, count * element_bytes(room_type_)});
}

/// Numbers from `offset` on as the function wants them. Lowers `count` to how many of them are of its type.
std::span<const std::byte> Worker::readable_numbers(const Chunk& chunk, const Chunk::Numbers& numbers, Encoding wanted,
                                                    std::uint32_t offset, std::uint32_t& count) {
  const auto width = element_bytes(chunk.encoding());
  const auto raw = numbers.bytes.subspan(offset * width, count * width);
  if (numbers.in_place && chunk.encoding() == wanted) return raw;
  numbers_.resize(count * element_bytes(wanted));
  count = convert_numbers(chunk.encoding(), raw.data(), wanted, numbers_.data(), count);
  return numbers_;
}

/// Every ticket of the chunk that is still ours fails with `error`.
void Worker::fail_chunk(const Chunk& chunk, const Error& error) {
  call_.begin_run(chunk.header(), {});
  const Ticket end = chunk.first() + chunk.tickets();
  for (Ticket ticket = chunk.first(); ticket != end;) {
    const auto claimed = claim_tickets(page_, ticket, end - ticket);
    if (claimed > 0) {
      call_.begin_item(ticket, ticket - chunk.first(), Encoding::none, 1, {});
      call_.set_error(error.errc(), {}, error.detail);
      call_.publish_failure(claimed);
    }
    ticket += std::max(claimed, 1u);
    finish(ticket - 1);
  }
}

void send_start_failure(Link& link, const std::string& detail) {
  link.send({.op = Op::worker_failed}, encode(WorkerFailed{.detail = detail}));
}

}  // namespace

int run_worker(const Modules& modules, WorkerStart start) {
  auto mark = ForkMark::create();
  if (!mark) return kExitStartFailed;
  Link link{std::move(start.channel), std::move(start.shared), *mark};
  const auto interrupts = Interrupts::install(link.page());
  if (!interrupts) {
    send_start_failure(link, interrupts.error().detail);
    return kExitStartFailed;
  }
  Worker worker{modules, link, *interrupts, {start.fork.worker, start.fork.task_prefix, std::move(start.spool)}};
  if (const auto ready = worker.initialize(start.fork.initializer, start.fork.initializer_arguments); !ready) {
    send_start_failure(link, ready.error().detail);
    std::fflush(nullptr);
    return kExitStartFailed;
  }
  // By hand: a new worker that touches the JSON library takes half as long again to be ready.
  link.send({.op = Op::worker_ready}, "{\"pid\":" + std::to_string(::getpid()) + "}");
  worker.run();
  std::fflush(
      nullptr);  // what tasks printed; the process ends without the exit handlers that the zygote's modules set up
  return 0;
}

}  // namespace taskpool::runtime
