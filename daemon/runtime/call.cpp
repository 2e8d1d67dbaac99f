#include "daemon/runtime/call.hpp"

#include <time.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "proto/codec.hpp"

namespace taskpool::runtime {
namespace {

constexpr std::uint64_t kProgressPauseNs = 50'000'000;
constexpr std::size_t kMaxReportBytes = 4096;

/// Mixes a number well (the finalizer of splitmix64).
constexpr std::uint64_t mix(std::uint64_t value) {
  value += 0x9e3779b97f4a7c15u;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
  return value ^ (value >> 31);
}

Errc code_of(int abi_code) {
  switch (abi_code) {
    case TASKPOOL_BAD_ARGUMENT: return Errc::bad_argument;
    case TASKPOOL_NOT_ENCODABLE: return Errc::not_encodable;
    case TASKPOOL_CANCELLED: return Errc::cancelled;
    case TASKPOOL_OUT_OF_SPACE: return Errc::out_of_space;
    default: return Errc::task_failed;
  }
}

const char* level_name(int level) {
  constexpr std::array names{"debug", "info", "warning", "error"};
  return names[static_cast<std::size_t>(std::clamp(level, 0, 3))];
}

std::string short_text(const char* text, std::size_t max = kMaxReportBytes) {
  return text == nullptr ? std::string{} : std::string{text, ::strnlen(text, max)};
}

}  // namespace

ErrorHead unexplained_failure() {
  return {.code = Errc::task_failed, .detail = "the function failed without saying why"};
}

std::uint64_t monotonic_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(now.tv_nsec);
}

struct Call::Services {
  static Call& self(const taskpool_call* call) {
    return static_cast<Call&>(const_cast<taskpool_call&>(*call));  // functions see it const; it is ours
  }

  static int result(const taskpool_call* call, std::uint8_t encoding, const void* data, std::uint64_t bytes) {
    auto& me = self(call);
    std::byte* const place = me.reserve_result(static_cast<Encoding>(encoding), bytes);
    if (place == nullptr) return -1;
    if (bytes > 0) std::memcpy(place, data, bytes);
    me.commit_result(bytes);
    return 0;
  }
  static void* reserve(const taskpool_call* call, std::uint8_t encoding, std::uint64_t bytes) {
    return self(call).reserve_result(static_cast<Encoding>(encoding), bytes);
  }
  static void commit(const taskpool_call* call, std::uint64_t bytes) { self(call).commit_result(bytes); }

  static void error(const taskpool_call* call, int code, const char* type, const char* message, const char* traceback) {
    constexpr std::size_t max = kMaxFrameHeadBytes;
    self(call).set_error(code_of(code), short_text(type, kMaxNameBytes), short_text(message, max),
                         short_text(traceback, max));
  }
  static void error_status(const taskpool_call* call, int exit_code, int signal_number) {
    auto& error = self(call).error_;
    if (!error) error.emplace(ErrorHead{.code = Errc::task_failed});
    if (exit_code >= 0) error->exit_code = exit_code;
    if (signal_number >= 0) error->signal = signal_number;
  }

  static int cancelled(const taskpool_call* call) {
    return static_cast<int>(pending_interrupt(self(call).link_.page()));
  }
  static int interrupt_fd(const taskpool_call* call) { return self(call).interrupts_.fd(); }
  static std::int64_t remaining_ns(const taskpool_call* call) {
    auto& me = self(call);
    const std::uint64_t limit_ms = me.run_.soft_timeout_ms != 0 ? me.run_.soft_timeout_ms : me.run_.timeout_ms;
    if (limit_ms == 0) return std::numeric_limits<std::int64_t>::max();
    const std::uint64_t end = me.link_.page().started_ns.load(std::memory_order_relaxed) + limit_ms * 1'000'000u;
    return static_cast<std::int64_t>(end - monotonic_ns());
  }

  static void progress(const taskpool_call* call, double done, double total, const char* message) {
    self(call).report_progress(done, total, message);
  }
  static void log(const taskpool_call* call, int level, const char* text) {
    auto& me = self(call);
    const auto report = Report{.level = level_name(level), .log = short_text(text)};
    me.link_.send({.op = Op::report, .request = me.ticket_}, encode(report));
  }

  static std::uint64_t seed(const taskpool_call* call) { return mix(mix(call->job) ^ call->index); }
  static const char* command_options(const taskpool_call* call) { return self(call).command_.c_str(); }
  static const char* spool_path(const taskpool_call* call) { return self(call).place_.spool.c_str(); }
  static const char* task(const taskpool_call* call) { return self(call).task_name(); }
  static int refer(const taskpool_call* call, const char* object) {
    auto& refs = self(call).refs_.refs;
    const auto id = short_text(object, kMaxNameBytes + 1);
    if (id.empty() || id.size() > kMaxNameBytes || refs.size() >= kMaxResultRefs) return -1;
    if (std::find(refs.begin(), refs.end(), id) == refs.end()) refs.push_back(id);
    return 0;
  }
};

const taskpool_host Call::kHost{
    .size = sizeof(taskpool_host),
    .reserved = 0,
    .result = Services::result,
    .reserve = Services::reserve,
    .commit = Services::commit,
    .error = Services::error,
    .error_status = Services::error_status,
    .cancelled = Services::cancelled,
    .interrupt_fd = Services::interrupt_fd,
    .remaining_ns = Services::remaining_ns,
    .progress = Services::progress,
    .log = Services::log,
    .seed = Services::seed,
    .command_options = Services::command_options,
    .spool_path = Services::spool_path,
    .task = Services::task,
    .refer = Services::refer,
};

Call::Call(Link& link, const Interrupts& interrupts, Place where)
    : taskpool_call{}, link_{link}, interrupts_{interrupts}, place_{std::move(where)} {
  host = &kHost;
  worker = place_.worker;
  input = "";
}

void Call::begin_run(const RunHeader& header, std::string command) {
  run_ = header;
  command_ = std::move(command);
  single_ = (header.flags & kRunSingle) != 0;
  job = header.job;
  attempt = header.attempt;
  depth = header.depth;
}

void Call::begin_item(Ticket ticket, std::uint32_t offset, Encoding item_encoding, std::uint32_t elements,
                      std::span<const std::byte> item) {
  input = item.empty() ? static_cast<const void*>("") : item.data();
  input_bytes = item.size();
  input_count = elements;
  encoding = static_cast<std::uint8_t>(item_encoding);
  index = run_.index + offset;
  ticket_ = ticket;
  task_name_.clear();
  reported_ns_ = 0;
  result_encoding_ = Encoding::none;
  reserved_bytes_ = result_bytes_ = 0;
  result_place_ = nullptr;
  room_ = {};
  is_dropped_ = false;
  refs_.refs.clear();
  error_.reset();
}

void Call::set_error(Errc code, std::string type, std::string message, std::string traceback) {
  error_ =
      ErrorHead{.code = code, .detail = std::move(message), .type = std::move(type), .traceback = std::move(traceback)};
}

std::byte* Call::reserve_result(Encoding wanted, std::uint64_t bytes) {
  link_.leave_if_copy();
  // A pickle too: a function may return what it was given without being able to read it.
  if (name(wanted).empty() || (wanted == Encoding::none && bytes > 0)) {
    set_error(Errc::not_encodable, {}, "the function made a result of unknown encoding");
    return nullptr;
  }
  if (is_array(wanted) && !single_) {
    set_error(Errc::not_encodable, {}, "an item of a map cannot have an array as its result");
    return nullptr;
  }
  result_bytes_ = 0;
  if (is_dropped_) {
    dropped_.resize(bytes + 1);
    result_place_ = dropped_.data();
  } else if (bytes <= kMaxInlineItemBytes) {
    room_ = {};
    result_place_ = link_.outbox().reserve(bytes);
  } else if (room_.bytes < bytes) {
    const auto room = link_.ask_room(run_.session, ticket_, bytes);
    if (!room) {
      set_error(room.error().errc(), {}, "result of " + std::to_string(bytes) + " bytes: " + room.error().detail);
      return nullptr;
    }
    room_ = *room;
    result_place_ = link_.arenas().room(run_.session, room_)->data();
  }
  result_encoding_ = wanted;
  reserved_bytes_ = bytes;
  return result_place_;
}

const char* Call::task_name() {
  if (task_name_.empty()) {
    std::array<char, 16> digits{};
    const auto end = std::to_chars(digits.begin(), digits.end(), job, 16).ptr;
    task_name_ = place_.task_prefix + std::string{digits.begin(), end};
    if (!single_) task_name_ += "/" + std::to_string(index);
  }
  return task_name_.c_str();
}

void Call::commit_result(std::uint64_t bytes) { result_bytes_ = std::min(bytes, reserved_bytes_); }

void Call::publish(bool succeeded) {
  link_.leave_if_copy();
  if (!succeeded || error_) return publish_failure();
  auto& outbox = link_.outbox();
  const auto place = origin(result_encoding_);
  const auto head = refs_.refs.empty() ? std::string{} : encode(refs_);
  const auto width = element_bytes(result_encoding_);
  const auto elements = width == 0 ? 1u : static_cast<std::uint32_t>(result_bytes_ / width);
  if (room_ != ArenaRef{} && result_bytes_ > 0) {
    outbox.add_reference(place, elements, {room_.segment, room_.offset, result_bytes_}, head);
  } else if (width != 0) {
    outbox.add_array(place, elements, {result_place_, result_bytes_ / width * width}, head);
  } else {
    outbox.add_item(place, {result_place_, result_bytes_}, head);
  }
}

void Call::publish_failure(std::uint32_t tickets) {
  link_.leave_if_copy();
  if (!error_) error_ = unexplained_failure();
  link_.outbox().add_failed(ticket_, tickets, *error_);
}

void Call::report_progress(double done, double total, const char* message) {
  if ((run_.flags & kRunReport) == 0) return;
  const auto now = monotonic_ns();
  const bool is_end = total >= 0 && done >= total;
  if (reported_ns_ != 0 && now - reported_ns_ < kProgressPauseNs && !is_end) return;
  reported_ns_ = now;
  Report report{.message = short_text(message)};
  if (std::isfinite(done)) report.done = done;
  if (std::isfinite(total) && total >= 0) report.total = total;
  link_.send({.op = Op::report, .request = ticket_}, encode(report));
}

}  // namespace taskpool::runtime
