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

/// Most items that are claimed at once: what a slow one among them delays.
constexpr std::uint32_t kMostItems = 64;
/// The same for the numbers of an array. With 8 bytes each they fit an inline body.
constexpr std::uint32_t kMostNumbers = kMaxInlineItemBytes / 8;
/// Fewer results than this are sent inline although there is room in the arena: it is handed out in aligned pieces.
constexpr std::uint32_t kLeastInRoom = kArenaAlignment;
/// The outbox is sent when it has more than this, or when its oldest result has waited this long and another item begins.
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
    call.set_error(Errc::task_failed, type != nullptr ? readable_name(type->name()) : std::string{}, "not an std::exception");
  }
  return thrown;
}

class Worker {
 public:
  Worker(const Modules& modules, Link& link, Interrupts interrupts, std::uint32_t number, std::string spool)
      : modules_{modules}, link_{link}, page_{link.page()}, interrupts_{interrupts},
        call_{link, interrupts_, number, std::move(spool)}, paces_(modules.size()) {}

  /// Calls the initializer. Error: `start_failed`; detail says why.
  Result<void> initialize(const std::string& name, const std::string& arguments);
  void run();

 private:
  /// Consecutive tickets that were claimed together.
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
  void end_block(const Block& block, Ticket ticket, Pace& pace);
  bool continue_block(Block& block, Ticket ticket);
  void finish(Ticket ticket);

  std::span<const std::byte> number_as_json(const Chunk& chunk, const Chunk::Numbers& numbers, std::uint32_t offset);
  std::span<const std::byte> readable_numbers(const Chunk& chunk, const Chunk::Numbers& numbers, Encoding wanted,
                                              std::uint32_t offset, std::uint32_t& count);
  std::byte* number_place(const Chunk& chunk, std::uint32_t count, std::size_t bytes);
  void publish_numbers(const Chunk& chunk, Encoding encoding, std::uint32_t count, const std::byte* place);

  const Modules& modules_;
  Link& link_;
  ClaimPage& page_;
  Interrupts interrupts_;
  Call call_;
  std::vector<Pace> paces_;
  std::uint64_t oldest_ns_ = 0;  ///< When the oldest result in the outbox was begun.

  std::size_t room_used_ = 0;             ///< Bytes at the beginning of the chunk's room that have results.
  bool in_room_ = false;                  ///< number_place() chose the room.
  std::string number_text_;               ///< A number as JSON.
  std::vector<std::byte> numbers_;        ///< Numbers copied or converted for a function.
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
  if (function == nullptr)
    return fail_chunk(chunk, fail(Errc::unknown_function, "function number " + std::to_string(number)));
  call_.begin_run(chunk.header(), chunk.command());
  if (chunk.is_numbers() && function->call_array != nullptr)
    run_numbers(*function, paces_[number], chunk);
  else
    run_items(*function, paces_[number], chunk);
}

// Blocks. At every instant a ticket below `finished` has its result in the outbox or the channel (or was skipped),
// `running` is the one that user code works on, and every other claimed ticket has not been begun, but for the numbers of
// a block between `finished` and `running`, which have run and left nothing: they may be run again.

/// Claims tickets and marks the worker busy with the first. An empty block: they were taken back, or are not ours to run.
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

void Worker::end_block(const Block& block, Ticket ticket, Pace& pace) {
  page_.busy.store(0, std::memory_order_release);
  const auto took = monotonic_ns() - block.began_ns;
  page_.worked_ns.store(page_.worked_ns.load(std::memory_order_relaxed) + took, std::memory_order_relaxed);
  pace.ran(ticket - block.first, std::chrono::nanoseconds{took});
}

/// To be asked before each item of a block but the first. False: the block turned out slow, and what is left of it
/// was given back, so that other workers can have it.
bool Worker::continue_block(Block& block, Ticket ticket) {
  const auto tick = coarse_tick();
  if (tick == block.tick) return true;
  if (return_tickets(page_, ticket, block.end)) return false;
  block.tick = tick;
  link_.flush();
  page_.started_ns.store(monotonic_ns(), std::memory_order_relaxed);  // time limits count from here for this item
  return true;
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
    auto block = claim_block(ticket, pace.block(std::min(end - ticket, kMostItems)));
    if (block.end == block.first) {
      page_.finished.store(++ticket, std::memory_order_release);
      continue;
    }
    do {
      page_.running.store(ticket, std::memory_order_release);
      run_item(function, chunk, ticket);
      finish(ticket++);
    } while (ticket != block.end && continue_block(block, ticket));
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
  room_used_ = 0;
  const Ticket end = chunk.first() + chunk.tickets();
  for (Ticket ticket = chunk.first(); ticket != end;) {
    const auto block = claim_block(ticket, pace.block(std::min(end - ticket, kMostNumbers)));
    if (block.end == block.first) {
      page_.finished.store(++ticket, std::memory_order_release);
      continue;
    }
    run_block(function, chunk, *numbers, block);
    end_block(block, block.end, pace);
    ticket = block.end;
  }
}

/// Runs the numbers of a block: in one call, unless some fail.
void Worker::run_block(const taskpool_function& function, const Chunk& chunk, const Chunk::Numbers& numbers,
                       const Block& block) {
  const auto out_type = static_cast<Encoding>(function.array_out);
  auto* const running = reinterpret_cast<std::uint32_t*>(&page_.running);
  static_assert(sizeof page_.running == sizeof *running && std::atomic<std::uint32_t>::is_always_lock_free);
  for (Ticket ticket = block.first; ticket != block.end;) {
    const std::uint32_t offset = ticket - chunk.first();
    std::uint32_t count = block.end - ticket;
    call_.begin_item(ticket, offset, Encoding::none, 1, {});
    const auto in = readable_numbers(chunk, numbers, static_cast<Encoding>(function.array_in), offset, count);
    std::byte* const out = number_place(chunk, count, count * element_bytes(out_type));
    // What was done when an exception left the function is told by `running`.
    const auto call = [&] { return function.call_array(&call_, function.user, in.data(), out, count, ticket, running); };
    std::uint32_t done = count == 0 ? 0 : guarded(call_, count + 1, call);
    link_.leave_if_copy();
    if (done > count) done = std::min(page_.running.load(std::memory_order_relaxed) - ticket, count - 1);
    publish_numbers(chunk, out_type, done, out);
    ticket += done;
    if (ticket != block.end) {  // this one failed: in the function, or because it is none of its numbers
      const auto error = call_.has_error() ? std::optional{call_.error_head()} : std::nullopt;
      call_.begin_item(ticket, ticket - chunk.first(), Encoding::none, 1, {});
      if (error)
        call_.set_error(error->code, error->type, error->detail, error->traceback);
      else if (done == count)
        call_.set_error(Errc::bad_argument, {},
                        "argument 1: does not fit " + std::string{name(static_cast<Encoding>(function.array_in))});
      call_.publish_failure();
      ++ticket;
    }
    finish(ticket - 1);
  }
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

/// Where the results of `count` numbers go: into the chunk's room if it has one and they are worth a piece of it, else
/// into the outbox.
std::byte* Worker::number_place(const Chunk& chunk, std::uint32_t count, std::size_t bytes) {
  const auto& ref = chunk.header().room;
  const std::size_t begin = (room_used_ + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment;
  in_room_ = false;
  if (ref != ArenaRef{} && count >= kLeastInRoom && begin + bytes <= ref.bytes) {
    if (const auto room = link_.arenas().room(chunk.header().session, ref); room) {
      in_room_ = true;
      room_used_ = begin;
      return room->data() + begin;
    }
  }
  return link_.outbox().reserve(bytes);
}

void Worker::publish_numbers(const Chunk& chunk, Encoding encoding, std::uint32_t count, const std::byte* place) {
  if (count == 0) return;
  const std::size_t bytes = count * element_bytes(encoding);
  if (!in_room_) return link_.outbox().add_array(call_.origin(encoding), count, {place, bytes});
  const auto& room = chunk.header().room;
  link_.outbox().add_reference(call_.origin(encoding), count, {room.segment, room.offset + room_used_, bytes});
  room_used_ += bytes;
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
  Worker worker{modules, link, *interrupts, start.fork.worker, std::move(start.spool)};
  if (const auto ready = worker.initialize(start.fork.initializer, start.fork.initializer_arguments); !ready) {
    send_start_failure(link, ready.error().detail);
    std::fflush(nullptr);
    return kExitStartFailed;
  }
  link.send({.op = Op::worker_ready}, encode(WorkerReady{.pid = static_cast<std::uint64_t>(::getpid())}));
  worker.run();
  std::fflush(nullptr);  // what tasks printed; the process ends without the exit handlers that the zygote's modules set up
  return 0;
}

}  // namespace taskpool::runtime
