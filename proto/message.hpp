#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "proto/errc.hpp"
#include "proto/frame.hpp"
#include "proto/limits.hpp"

/// The heads of the frames, one struct each; PROTOCOL.md, section 3, gives every field's meaning, unit and range.
/// `raw JSON` marks text that holds one JSON value, checked for syntax but not looked into.
namespace taskpool {

struct Hello {
  int version = 0;
  std::string client;
  std::vector<std::string> capabilities;
  std::string worker_token;
  std::string resume;  ///< The token of the session that this one continues.
};

struct Limits {
  std::uint64_t frame_body_bytes = 0;
  std::uint64_t inline_item_bytes = 0;
  std::uint64_t session_queued_bytes = 0;
  std::uint64_t session_result_bytes = 0;
  std::uint64_t prepared_calls = 0;
  std::uint64_t arena_bytes = 0;
  std::uint64_t detached_body_bytes = 0;
  std::uint64_t store_value_bytes = 0;
  std::uint64_t session_grace_ms = 0;
};

struct Welcome {
  int version = 0;
  std::string build;
  std::string daemon_version;
  std::uint64_t pid = 0;
  std::uint64_t uid = 0;
  std::uint64_t session = 0;
  std::string token;
  std::vector<std::string> capabilities;
  Limits limits;
  bool resumed = false;
};

/// The head of `error`, `failed` and `run_failed`.
struct ErrorHead {
  Errc code = Errc::internal;
  std::string detail;
  std::string type;
  std::string traceback;
  std::string task;
  std::optional<std::int64_t> signal;
  std::optional<std::int64_t> exit_code;
  std::optional<std::uint64_t> index;  ///< Which operation of a batch it was.
  std::optional<std::uint64_t> position;
  std::string exception;
};

/// A function and the options of a call: the head of `prepare`, `apply` and `map`.
struct Call {
  std::string function;
  std::string pool;
  std::optional<std::uint32_t> timeout_ms;
  std::uint32_t soft_timeout_ms = 0;
  std::uint32_t retries = 0;
  std::uint32_t lost_retries = 0;
  std::uint32_t oom_retries = 0;
  std::optional<std::uint32_t> cpu_timeout_ms;
  std::uint32_t retry_delay_ms = 100;
  std::optional<int> priority;
  bool detached = false;
  std::string idempotency_key;
  std::uint32_t chunk = 0;
  bool stop_on_error = false;
  Encoding result_element = Encoding::none;
  std::string name;
  bool announce = false;
  std::string command;            ///< Raw JSON: an object, or empty.
  std::vector<std::string> refs;  ///< Ids of the objects that the arguments name.
};

/// The head of `run_results`, `result` and `results`, if the results name objects of the store.
struct ResultRefs {
  std::vector<std::string> refs;  ///< Their ids.
};

/// The head of `release_refs`.
struct ReleaseRefs {
  std::vector<std::string> refs;  ///< Ids, each as often as a result brought it.
};

struct Done {
  std::uint64_t total = 0;
  std::uint64_t succeeded = 0;
  std::uint64_t failed = 0;
  std::uint64_t cancelled = 0;
};

struct Progress {
  std::string task;
  std::optional<std::uint64_t> index;
  std::optional<double> done;
  std::optional<double> total;
  std::string message;
};

struct Cancel {
  std::optional<std::uint64_t> request;
  std::string task;
  bool force = false;
  bool waiting = false;
};

struct Wait {
  std::string task;
  std::uint32_t timeout_ms = 0;
};

struct Fetch {
  std::string task;
  bool keep = false;
  std::uint64_t index = 0;
};

struct Ps {
  std::string pool;
  std::string state;
  std::string task;
  bool all = false;
  std::uint32_t limit = 100;
};

struct Failures {
  std::uint32_t limit = 100;
};

struct PoolOpen {
  std::string name;
  std::string runtime = "native";
  std::uint32_t workers = 0;  ///< 0: as many as CPUs.
  std::vector<std::string> modules;
  std::map<std::string, std::string> environment;
  std::string cwd;
  std::string initializer;
  std::string initializer_arguments;  ///< Raw JSON: an array, or empty.
  std::uint32_t max_tasks_per_worker = 0;
  std::uint64_t max_worker_memory = 0;  ///< Bytes; 0: no limit.
  std::uint32_t timeout_ms = 0;
  int priority = 0;
  std::uint32_t max_queued = 0;      ///< 0: the daemon's default.
  std::vector<std::string> command;  ///< Empty: the configured runtime's.
  bool setup = false;
  bool once = false;
  // Limits; 0: none of its own.
  std::uint64_t max_task_memory = 0;  ///< Bytes.
  std::uint32_t max_task_processes = 0;
  std::uint32_t max_task_files = 0;
  std::uint32_t cpu_timeout_ms = 0;
  std::uint32_t nice = 0;
};

/// The head of `pool_close`, `pool_pause`, `pool_resume`, `functions` and `workers`.
struct PoolName {
  std::string pool;
  bool terminate = false;  ///< `pool_close` only.
};

struct PoolResize {
  std::string pool;
  std::uint32_t workers = 0;
};

struct Drain {
  std::uint32_t timeout_ms = 0;
};

struct Shutdown {
  bool force = false;
};

struct Whoami {
  bool all = false;
};

struct ArenaOpen {
  std::uint64_t bytes = 0;
};

/// The head of `arena_segment`, and the reply to `arena_open`.
struct ArenaSegment {
  std::uint32_t segment = 0;
  std::uint64_t bytes = 0;
};

struct LogRequest {
  std::string task;
};

// The store.

/// How `object_open` treats a name that is there, or is not.
enum class Create : std::uint8_t { open, exclusive, never };

struct ObjectOpen {
  std::string name;    ///< Empty: anonymous.
  std::string object;  ///< The id of an object that is there, instead of name and type.
  std::string type;
  std::string group;  ///< Empty: the user's own objects.
  Create create = Create::open;
  std::uint64_t maxsize = 0;
  std::uint64_t value = 1;
  std::uint64_t parties = 0;
  bool action = false;     ///< Of a barrier: whoever comes last runs something.
  std::uint32_t lock = 0;  ///< The opened number of a condition's lock; 0: an rlock of its own.
  Encoding typecode = Encoding::none;
  std::uint64_t length = 0;
};

/// The body of the reply to `object_open`.
struct ObjectOpened {
  std::string object;
  std::uint64_t id = 0;
  std::string type;
  std::uint64_t offset = 0;
  std::uint32_t segment = 0;
  std::uint64_t segment_bytes = 0;
  bool created = false;
  Encoding typecode = Encoding::none;
  std::uint64_t length = 0;
};

struct ObjectsRequest {
  std::string type;
  std::string name;
  std::string group;
  std::string after;
  std::uint32_t limit = 100;
};

/// The head of `locks`.
struct LocksRequest {
  std::string name;
  std::string group;
  std::uint32_t limit = 100;
};

struct BufferOpen {
  std::string name;  ///< Empty: anonymous.
  std::uint64_t bytes = 0;
  Create create = Create::open;
};

// The worker channel.

struct Define {
  std::string function;
};

struct Attach {
  std::uint32_t session = 0;
  bool down = false;
  std::uint32_t segment = 0;
  std::uint64_t bytes = 0;
  bool same_uid = false;
};

struct Detach {
  std::uint32_t session = 0;
};

struct Report {
  std::optional<double> done;
  std::optional<double> total;
  std::string message;
  std::string level;  ///< "debug", "info", "warning" or "error", with `log`.
  std::string log;
};

struct WorkerReady {
  std::uint64_t pid = 0;
};

struct WorkerFailed {
  std::string detail;
  std::string traceback;
};

// The control channel.

struct Start {
  std::string runtime;
  std::vector<std::string> modules;
  std::string spool;
  std::uint64_t max_output_bytes = kDefaultOutputBytes;
};

struct FunctionInfo {
  std::string name;
  std::string signature;
  std::string doc;
  bool array = false;
};

struct Ready {
  std::vector<FunctionInfo> functions;
  bool open = false;
  bool claims = true;
};

struct StartFailed {
  std::string detail;
};

struct Fork {
  std::uint32_t worker = 0;
  std::string token;
  std::string task_prefix;  ///< A task's name is this and its job in hexadecimal, and "/INDEX" unless it is single.
  std::string socket;
  std::map<std::string, std::string> environment;
  std::string cwd;
  std::string initializer;
  std::string initializer_arguments;  ///< Raw JSON: an array, or empty.
  int oom_score_adj = 0;
  bool setup = false;
  // What the worker sets itself; 0 and empty: nothing.
  std::string cgroup;            ///< The directory of the cgroup that it enters.
  std::uint64_t data_bytes = 0;  ///< RLIMIT_DATA.
  std::uint32_t processes = 0;   ///< RLIMIT_NPROC.
  std::uint32_t open_files = 0;  ///< RLIMIT_NOFILE.
  std::uint32_t nice = 0;        ///< Added to what it has.
};

struct Forked {
  std::uint32_t worker = 0;
  std::uint64_t pid = 0;
};

struct ForkFailed {
  std::uint32_t worker = 0;
  std::string detail;
};

struct Exited {
  std::uint32_t worker = 0;
  std::uint64_t pid = 0;
  std::int64_t exit_code = 0;
  std::int64_t signal = 0;
  std::uint64_t user_us = 0;
  std::uint64_t system_us = 0;
  std::uint64_t max_rss_bytes = 0;
};

}  // namespace taskpool
