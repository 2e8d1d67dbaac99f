#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <string_view>
#include <type_traits>

#include "proto/fields.hpp"
#include "proto/limits.hpp"
#include "proto/message.hpp"

/// The shape of every head: its fields' names, bounds and checks, each written once and walked by the codec's reader
/// and by its writer. Only codec.cpp includes this. PROTOCOL.md, section 3, in the same order.
///
/// `io.request()` comes first in what refuses unknown fields; `io.require(key)` comes right before a field that must be
/// there; a free text is for people only and is cut if the head does not fit a frame.
namespace taskpool {

inline constexpr std::uint32_t kMaxMs = static_cast<std::uint32_t>(kMaxDuration.count());
inline constexpr std::uint64_t kAny64 = std::numeric_limits<std::uint64_t>::max();
inline constexpr std::uint64_t kAny63 = std::numeric_limits<std::int64_t>::max();
inline constexpr std::uint64_t kAny31 = std::numeric_limits<std::int32_t>::max();
inline constexpr std::uint64_t kMaxPid = std::numeric_limits<std::int32_t>::max();
inline constexpr std::uint64_t kMaxUid = std::numeric_limits<std::uint32_t>::max();
inline constexpr int kMaxInt = std::numeric_limits<int>::max();
inline constexpr std::uint32_t kAny32 = std::numeric_limits<std::uint32_t>::max();

template <class Io>
void shape(Io& io, std::type_identity<Hello>) {
  io.request();
  io.require("version");
  io.integer("version", &Hello::version, 0, kMaxInt);
  io.text("client", &Hello::client, kMaxClientNameBytes);
  io.texts("capabilities", &Hello::capabilities, kMaxNameBytes);
  io.text("worker_token", &Hello::worker_token, kMaxNameBytes);
  io.text("resume", &Hello::resume, kMaxNameBytes);
}

template <class Io>
void shape(Io& io, std::type_identity<Limits>) {
  io.integer("frame_body_bytes", &Limits::frame_body_bytes, kAny64);
  io.integer("inline_item_bytes", &Limits::inline_item_bytes, kAny64);
  io.integer("session_queued_bytes", &Limits::session_queued_bytes, kAny64);
  io.integer("session_result_bytes", &Limits::session_result_bytes, kAny64);
  io.integer("prepared_calls", &Limits::prepared_calls, kAny64);
  io.integer("arena_bytes", &Limits::arena_bytes, kAny64);
  io.integer("detached_body_bytes", &Limits::detached_body_bytes, kAny64);
  io.integer("store_value_bytes", &Limits::store_value_bytes, kAny64);
  io.integer("session_grace_ms", &Limits::session_grace_ms, kAny64);
}

template <class Io>
void shape(Io& io, std::type_identity<Welcome>) {
  io.require("version");
  io.integer("version", &Welcome::version, 0, kMaxInt);
  io.text("build", &Welcome::build, kMaxNameBytes);
  io.text("daemon_version", &Welcome::daemon_version, kMaxNameBytes);
  io.integer("pid", &Welcome::pid, kMaxPid);
  io.integer("uid", &Welcome::uid, kMaxUid);
  io.integer("session", &Welcome::session, kAny64);
  io.text("token", &Welcome::token, kMaxNameBytes);
  io.texts("capabilities", &Welcome::capabilities, kMaxNameBytes);
  io.object("limits", &Welcome::limits);
  io.boolean("resumed", &Welcome::resumed);
}

template <class Io>
void shape(Io& io, std::type_identity<ErrorHead>) {
  io.require("code");
  io.code("code", &ErrorHead::code);
  io.detail("detail", &ErrorHead::detail);
  io.free_text("type", &ErrorHead::type);
  io.free_text("traceback", &ErrorHead::traceback);
  io.text("task", &ErrorHead::task, kMaxNameBytes);
  io.integer("signal", &ErrorHead::signal);
  io.integer("exit_code", &ErrorHead::exit_code);
  io.integer("index", &ErrorHead::index, kAny64);
  io.integer("position", &ErrorHead::position, kAny32);
  io.text("exception", &ErrorHead::exception, kMaxExceptionBytes);
}

template <class Io>
void shape(Io& io, std::type_identity<Call>) {
  constexpr auto kMaxDelay = static_cast<std::uint32_t>(kMaxRetryDelay.count());
  io.request();
  io.text("function", &Call::function, kMaxFunctionBytes);
  io.text("pool", &Call::pool, kMaxNameBytes);
  io.integer("timeout_ms", &Call::timeout_ms, kMaxMs);
  io.integer("soft_timeout_ms", &Call::soft_timeout_ms, kMaxMs);
  io.integer("retries", &Call::retries, kMaxRetries);
  io.integer("lost_retries", &Call::lost_retries, kMaxRetries);
  io.integer("oom_retries", &Call::oom_retries, kMaxRetries);
  io.integer("cpu_timeout_ms", &Call::cpu_timeout_ms, kMaxMs);
  io.integer("retry_delay_ms", &Call::retry_delay_ms, kMaxDelay);
  io.integer("priority", &Call::priority, kMinPriority, kMaxPriority);
  io.boolean("detached", &Call::detached);
  io.text("idempotency_key", &Call::idempotency_key, kMaxNameBytes);
  io.zero("not_before_ms");
  io.zero("attempt");
  io.integer("chunk", &Call::chunk, kMaxChunk);
  io.boolean("stop_on_error", &Call::stop_on_error);
  io.element("result_element", &Call::result_element);
  io.text("name", &Call::name, kMaxNameBytes);
  io.boolean("announce", &Call::announce);
  io.raw("command", &Call::command, Json::value_t::object);
  io.texts("refs", &Call::refs, kMaxNameBytes);
}

template <class Io>
void shape(Io& io, std::type_identity<ResultRefs>) {
  io.texts("refs", &ResultRefs::refs, kMaxNameBytes);
}

template <class Io>
void shape(Io& io, std::type_identity<ReleaseRefs>) {
  io.request();
  io.texts("refs", &ReleaseRefs::refs, kMaxNameBytes);
}

template <class Io>
void shape(Io& io, std::type_identity<Done>) {
  io.integer("total", &Done::total, kAny64);
  io.integer("succeeded", &Done::succeeded, kAny64);
  io.integer("failed", &Done::failed, kAny64);
  io.integer("cancelled", &Done::cancelled, kAny64);
}

template <class Io>
void shape(Io& io, std::type_identity<Progress>) {
  io.require("task");
  io.text("task", &Progress::task, kMaxNameBytes);
  io.integer("index", &Progress::index, kAny64);
  io.number("done", &Progress::done);
  io.number("total", &Progress::total);
  io.free_text("message", &Progress::message);
}

template <class Io>
void shape(Io& io, std::type_identity<Cancel>) {
  io.request();
  io.integer("request", &Cancel::request, kAny64);
  io.text("task", &Cancel::task, kMaxNameBytes);
  io.boolean("force", &Cancel::force);
  io.boolean("waiting", &Cancel::waiting);
  io.check(
      "task", [](const Cancel& cancel) { return cancel.request.has_value() == cancel.task.empty(); },
      "want this or request, one of them");
}

template <class Io>
void shape(Io& io, std::type_identity<Wait>) {
  io.request();
  io.require("task");
  io.text("task", &Wait::task, kMaxNameBytes);
  io.integer("timeout_ms", &Wait::timeout_ms, kMaxMs);
}

template <class Io>
void shape(Io& io, std::type_identity<Fetch>) {
  io.request();
  io.require("task");
  io.text("task", &Fetch::task, kMaxNameBytes);
  io.boolean("keep", &Fetch::keep);
  io.integer("index", &Fetch::index, std::uint64_t{kMaxJobItems});
}

template <class Io>
void shape(Io& io, std::type_identity<Ps>) {
  io.request();
  io.text("pool", &Ps::pool, kMaxNameBytes);
  io.choice("state", &Ps::state, {"waiting", "queued", "running", "paused", "succeeded", "failed", "cancelled"});
  io.text("task", &Ps::task, kMaxNameBytes);
  io.boolean("all", &Ps::all);
  io.integer("limit", &Ps::limit, kMaxRows);
}

template <class Io>
void shape(Io& io, std::type_identity<Failures>) {
  io.request();
  io.integer("limit", &Failures::limit, kMaxRows);
}

template <class Io>
void shape(Io& io, std::type_identity<PoolOpen>) {
  io.request();
  io.text("name", &PoolOpen::name, kMaxNameBytes);
  io.text("runtime", &PoolOpen::runtime, kMaxNameBytes);
  io.integer("workers", &PoolOpen::workers, kMaxWorkers);
  io.texts("modules", &PoolOpen::modules, kMaxPathBytes);
  io.text_map("environment", &PoolOpen::environment);
  io.text("cwd", &PoolOpen::cwd, kMaxPathBytes);
  io.text("initializer", &PoolOpen::initializer, kMaxFunctionBytes);
  io.raw("initializer_arguments", &PoolOpen::initializer_arguments, Json::value_t::array);
  io.integer("max_tasks_per_worker", &PoolOpen::max_tasks_per_worker, kAny32);
  io.integer("max_worker_memory", &PoolOpen::max_worker_memory, kAny64);
  io.integer("timeout_ms", &PoolOpen::timeout_ms, kMaxMs);
  io.integer("priority", &PoolOpen::priority, kMinPriority, kMaxPriority);
  io.integer("max_queued", &PoolOpen::max_queued, kAny32);
  io.texts("command", &PoolOpen::command, kMaxPathBytes);
  io.boolean("setup", &PoolOpen::setup);
  io.boolean("once", &PoolOpen::once);
  io.integer("max_task_memory", &PoolOpen::max_task_memory, kAny64);
  io.integer("max_task_processes", &PoolOpen::max_task_processes, kAny32);
  io.integer("max_task_files", &PoolOpen::max_task_files, kAny32);
  io.integer("cpu_timeout_ms", &PoolOpen::cpu_timeout_ms, kMaxMs);
  io.integer("nice", &PoolOpen::nice, kMaxNice);
}

template <class Io>
void shape(Io& io, std::type_identity<PoolName>) {
  io.request();
  io.text("pool", &PoolName::pool, kMaxNameBytes);
  io.boolean("terminate", &PoolName::terminate);
}

template <class Io>
void shape(Io& io, std::type_identity<PoolResize>) {
  io.request();
  io.text("pool", &PoolResize::pool, kMaxNameBytes);
  io.require("workers");
  io.integer("workers", &PoolResize::workers, kMaxWorkers);
}

template <class Io>
void shape(Io& io, std::type_identity<Drain>) {
  io.request();
  io.integer("timeout_ms", &Drain::timeout_ms, kMaxMs);
}

template <class Io>
void shape(Io& io, std::type_identity<Shutdown>) {
  io.request();
  io.boolean("force", &Shutdown::force);
}

template <class Io>
void shape(Io& io, std::type_identity<Whoami>) {
  io.request();
  io.boolean("all", &Whoami::all);
}

template <class Io>
void shape(Io& io, std::type_identity<ArenaOpen>) {
  io.request();
  io.require("bytes");
  io.integer("bytes", &ArenaOpen::bytes, kMaxSegmentBytes);
}

template <class Io>
void shape(Io& io, std::type_identity<ArenaSegment>) {
  io.integer("segment", &ArenaSegment::segment, kMaxSegments);
  io.require("bytes");
  io.integer("bytes", &ArenaSegment::bytes, kMaxSegmentBytes);
}

template <class Io>
void shape(Io& io, std::type_identity<LogRequest>) {
  io.request();
  io.require("task");
  io.text("task", &LogRequest::task, kMaxNameBytes);
}

// The store.

inline constexpr std::array<std::string_view, 3> kCreateNames{"open", "exclusive", "never"};

template <class Io>
void shape(Io& io, std::type_identity<ObjectOpen>) {
  io.request();
  io.text("name", &ObjectOpen::name, kMaxNameBytes);
  io.text("object", &ObjectOpen::object, kMaxNameBytes);
  io.text("type", &ObjectOpen::type, kMaxNameBytes);
  io.text("group", &ObjectOpen::group, kMaxNameBytes);
  io.enumerator("create", &ObjectOpen::create, kCreateNames);
  io.integer("maxsize", &ObjectOpen::maxsize, kAny63);
  io.integer("value", &ObjectOpen::value, kAny31);
  io.integer("parties", &ObjectOpen::parties, kAny31);
  io.boolean("action", &ObjectOpen::action);
  io.integer("lock", &ObjectOpen::lock, kMaxOpened);
  io.element("typecode", &ObjectOpen::typecode);
  io.integer("length", &ObjectOpen::length, kAny63);
  io.check(
      "type", [](const ObjectOpen& open) { return open.type.empty() != open.object.empty(); },
      "want this or object, one of them");
}

template <class Io>
void shape(Io& io, std::type_identity<ObjectOpened>) {
  io.require("object");
  io.text("object", &ObjectOpened::object, kMaxNameBytes);
  io.require("id");
  io.integer("id", &ObjectOpened::id, kAny64);
  io.require("type");
  io.text("type", &ObjectOpened::type, kMaxNameBytes);
  io.require("offset");
  io.integer("offset", &ObjectOpened::offset, kAny64);
  io.require("segment");
  io.integer("segment", &ObjectOpened::segment, kAny32);
  io.require("segment_bytes");
  io.integer("segment_bytes", &ObjectOpened::segment_bytes, kAny64);
  io.boolean("created", &ObjectOpened::created);
  io.element("typecode", &ObjectOpened::typecode);
  io.integer("length", &ObjectOpened::length, kAny64);
}

template <class Io>
void shape(Io& io, std::type_identity<ObjectsRequest>) {
  io.request();
  io.text("type", &ObjectsRequest::type, kMaxNameBytes);
  io.text("name", &ObjectsRequest::name, kMaxNameBytes);
  io.text("group", &ObjectsRequest::group, kMaxNameBytes);
  io.text("after", &ObjectsRequest::after, kMaxNameBytes);
  io.integer("limit", &ObjectsRequest::limit, kMaxRows);
}

template <class Io>
void shape(Io& io, std::type_identity<LocksRequest>) {
  io.request();
  io.text("name", &LocksRequest::name, kMaxNameBytes);
  io.text("group", &LocksRequest::group, kMaxNameBytes);
  io.integer("limit", &LocksRequest::limit, kMaxRows);
}

template <class Io>
void shape(Io& io, std::type_identity<BufferOpen>) {
  io.request();
  io.text("name", &BufferOpen::name, kMaxNameBytes);
  io.integer("bytes", &BufferOpen::bytes, kMaxSegmentBytes);
  io.enumerator("create", &BufferOpen::create, kCreateNames);
}

// The worker channel.

template <class Io>
void shape(Io& io, std::type_identity<Define>) {
  io.request();
  io.require("function");
  io.text("function", &Define::function, kMaxFunctionBytes);
}

template <class Io>
void shape(Io& io, std::type_identity<Attach>) {
  io.request();
  io.require("session");
  io.integer("session", &Attach::session, kAny32);
  io.boolean("down", &Attach::down);
  io.require("segment");
  io.integer("segment", &Attach::segment, kMaxSegments);
  io.require("bytes");
  io.integer("bytes", &Attach::bytes, kMaxSegmentBytes);
  io.boolean("same_uid", &Attach::same_uid);
}

template <class Io>
void shape(Io& io, std::type_identity<Detach>) {
  io.request();
  io.require("session");
  io.integer("session", &Detach::session, kAny32);
}

template <class Io>
void shape(Io& io, std::type_identity<Report>) {
  io.number("done", &Report::done);
  io.number("total", &Report::total);
  io.free_text("message", &Report::message);
  io.choice("level", &Report::level, {"debug", "info", "warning", "error"});
  io.free_text("log", &Report::log);
}

template <class Io>
void shape(Io& io, std::type_identity<WorkerReady>) {
  io.require("pid");
  io.integer("pid", &WorkerReady::pid, kMaxPid);
}

template <class Io>
void shape(Io& io, std::type_identity<WorkerFailed>) {
  io.free_text("detail", &WorkerFailed::detail);
  io.free_text("traceback", &WorkerFailed::traceback);
}

// The control channel.

template <class Io>
void shape(Io& io, std::type_identity<Start>) {
  io.request();
  io.text("runtime", &Start::runtime, kMaxNameBytes);
  io.texts("modules", &Start::modules, kMaxPathBytes);
  io.text("spool", &Start::spool, kMaxPathBytes);
  io.integer("max_output_bytes", &Start::max_output_bytes, kMaxOutputBytes);
}

template <class Io>
void shape(Io& io, std::type_identity<FunctionInfo>) {
  io.require("name");
  io.text("name", &FunctionInfo::name, kMaxFunctionBytes);
  io.text("signature", &FunctionInfo::signature, kMaxFrameHeadBytes);
  io.text("doc", &FunctionInfo::doc, kMaxFrameHeadBytes);
  io.boolean("array", &FunctionInfo::array);
}

template <class Io>
void shape(Io& io, std::type_identity<Ready>) {
  io.objects("functions", &Ready::functions);
  io.boolean("open", &Ready::open);
  io.boolean("claims", &Ready::claims);
}

template <class Io>
void shape(Io& io, std::type_identity<StartFailed>) {
  io.free_text("detail", &StartFailed::detail);
}

template <class Io>
void shape(Io& io, std::type_identity<Fork>) {
  io.request();
  io.require("worker");
  io.integer("worker", &Fork::worker, kAny32);
  io.text("token", &Fork::token, kMaxNameBytes);
  io.text("task_prefix", &Fork::task_prefix, kMaxNameBytes);
  io.text("socket", &Fork::socket, kMaxPathBytes);
  io.text_map("environment", &Fork::environment);
  io.text("cwd", &Fork::cwd, kMaxPathBytes);
  io.text("initializer", &Fork::initializer, kMaxFunctionBytes);
  io.raw("initializer_arguments", &Fork::initializer_arguments, Json::value_t::array);
  io.integer("oom_score_adj", &Fork::oom_score_adj, -1000, 1000);
  io.boolean("setup", &Fork::setup);
  io.text("cgroup", &Fork::cgroup, kMaxPathBytes);
  io.integer("data_bytes", &Fork::data_bytes, kAny64);
  io.integer("processes", &Fork::processes, kAny32);
  io.integer("open_files", &Fork::open_files, kAny32);
  io.integer("nice", &Fork::nice, kMaxNice);
}

template <class Io>
void shape(Io& io, std::type_identity<Forked>) {
  io.require("worker");
  io.integer("worker", &Forked::worker, kAny32);
  io.require("pid");
  io.integer("pid", &Forked::pid, kMaxPid);
}

template <class Io>
void shape(Io& io, std::type_identity<ForkFailed>) {
  io.require("worker");
  io.integer("worker", &ForkFailed::worker, kAny32);
  io.free_text("detail", &ForkFailed::detail);
}

template <class Io>
void shape(Io& io, std::type_identity<Exited>) {
  io.require("worker");
  io.integer("worker", &Exited::worker, kAny32);
  io.require("pid");
  io.integer("pid", &Exited::pid, kMaxPid);
  io.integer("exit_code", &Exited::exit_code);
  io.integer("signal", &Exited::signal);
  io.integer("user_us", &Exited::user_us, kAny64);
  io.integer("system_us", &Exited::system_us, kAny64);
  io.integer("max_rss_bytes", &Exited::max_rss_bytes, kAny64);
}

}  // namespace taskpool
