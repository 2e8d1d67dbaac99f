#pragma once

#include <array>
#include <limits>
#include <optional>
#include <span>
#include <variant>

#include "daemon/config.hpp"
#include "proto/limits.hpp"

/// The keys of the configuration as a table. The file, the flags, --print-config and a reload all walk it, so that a
/// key is named, bounded and described once. Private to config*.cpp.
namespace taskpool::keys {

// The kinds of values. Each points to its field in `Owner`, a Config or a PoolConfig.

template <class Owner>
struct Text {
  std::string Owner::*field;
};
template <class Owner>
struct Count {
  std::uint32_t Owner::*field;
  std::uint32_t min, max;
};
template <class Owner>
struct Integer {
  int Owner::*field;
  int min, max;
};
template <class Owner>
struct Size {  ///< Bytes: a number, or text as "16MiB".
  std::uint64_t Owner::*field;
  std::uint64_t min, max;
};
template <class Owner>
struct Limit {  ///< A number that may be left open; 0: none.
  std::optional<std::uint64_t> Owner::*field;
};
template <class Owner>
struct SizeLimit {  ///< The same of bytes.
  std::optional<std::uint64_t> Owner::*field;
};
template <class Owner>
struct Duration {  ///< Text as "10s".
  std::chrono::milliseconds Owner::*field;
};
template <class Owner>
struct Mode {  ///< Octal text as "0600".
  mode_t Owner::*field;
};
template <class Owner>
struct Choice {  ///< One of some words.
  std::string Owner::*field;
  std::span<const std::string_view> words;
};
template <class Owner>
struct Local {  ///< What parse_local_address() reads, or empty.
  std::string Owner::*field;
};
template <class Owner>
struct JsonArray {  ///< Text that holds a JSON array, or empty.
  std::string Owner::*field;
};
template <class Owner>
struct Truth {
  bool Owner::*field;
};
template <class Owner>
struct Texts {
  std::vector<std::string> Owner::*field;
};
template <class Owner>
struct TextMap {
  std::map<std::string, std::string> Owner::*field;
};

template <class Owner>
struct Key {
  std::string_view name;
  std::variant<Text<Owner>, Count<Owner>, Integer<Owner>, Size<Owner>, Duration<Owner>, Mode<Owner>, Choice<Owner>,
               Local<Owner>, JsonArray<Owner>, Truth<Owner>, Texts<Owner>, TextMap<Owner>, Limit<Owner>,
               SizeLimit<Owner>>
      value;
  std::string_view help;
  bool needs_restart = false;
};

inline constexpr std::uint32_t kAnyCount = std::numeric_limits<std::uint32_t>::max();
/// TOML's integers are signed.
inline constexpr std::uint64_t kAnySize = std::numeric_limits<std::int64_t>::max();
inline constexpr bool kNeedsRestart = true;

inline constexpr std::array<std::string_view, 6> kLogLevels{"trace", "debug", "info", "warning", "error", "critical"};
inline constexpr std::array<std::string_view, 3> kAudits{"none", "changes", "all"};
inline constexpr std::array<std::string_view, 2> kAdminRequests{"anywhere", "admin_socket"};

using C = Config;
inline constexpr std::array kConfigKeys{
    Key<C>{"socket", Text<C>{&C::socket}, "Unix socket to listen on", kNeedsRestart},
    Key<C>{"socket_mode", Mode<C>{&C::socket_mode}, "who may connect", kNeedsRestart},
    Key<C>{"socket_group", Text<C>{&C::socket_group}, "group of the socket", kNeedsRestart},
    Key<C>{"admin_socket", Text<C>{&C::admin_socket}, "second Unix socket, for administrators; empty: none",
           kNeedsRestart},
    Key<C>{"admin_socket_mode", Mode<C>{&C::admin_socket_mode}, "who may connect to it", kNeedsRestart},
    Key<C>{"admin_socket_group", Text<C>{&C::admin_socket_group}, "its group", kNeedsRestart},
    Key<C>{"admin_requests", Choice<C>{&C::admin_requests, kAdminRequests},
           "where operators and admins may use their roles: anywhere or admin_socket"},
    Key<C>{"operators", Texts<C>{&C::operators}, "users and @groups who handle everybody's tasks, and pools"},
    Key<C>{"admins", Texts<C>{&C::admins}, "users and @groups who may do everything"},
    Key<C>{"spool", Text<C>{&C::spool}, "directory for captured output", kNeedsRestart},
    Key<C>{"log_level", Choice<C>{&C::log_level, kLogLevels}, "trace, debug, info, warning, error or critical"},
    Key<C>{"audit", Choice<C>{&C::audit, kAudits}, "which requests are logged with who asked: none, changes or all"},
    Key<C>{"stop_timeout", Duration<C>{&C::stop_timeout}, "how long SIGTERM lets tasks run on"},
    Key<C>{"cancel_grace", Duration<C>{&C::cancel_grace}, "from asking a task to stop to killing its worker"},
    Key<C>{"idle_exit", Duration<C>{&C::idle_exit}, "leave when idle so long; 0s: never"},
    Key<C>{"metrics_listen", Local<C>{&C::metrics_listen}, "where /metrics and /healthz are: ADDRESS:PORT or a path",
           kNeedsRestart},
    Key<C>{"metrics_socket_mode", Mode<C>{&C::metrics_socket_mode}, "who may connect there, if it is a path",
           kNeedsRestart},
    Key<C>{"max_sessions", Count<C>{&C::max_sessions, 1, 1'000'000}, "connections at a time"},
    Key<C>{"session_queued_bytes", Size<C>{&C::session_queued_bytes, kMaxFrameBodyBytes, kAnySize},
           "inputs waiting, per session"},
    Key<C>{"session_result_bytes", Size<C>{&C::session_result_bytes, kMaxFrameBodyBytes, kAnySize},
           "results not yet read, per session"},
    Key<C>{"arena_bytes", Size<C>{&C::arena_bytes, 0, kMaxSegmentBytes}, "shared memory per session"},
    Key<C>{"detached_body_bytes", Size<C>{&C::detached_body_bytes, 0, kAnySize},
           "largest argument or result of a detached task"},
    Key<C>{"kept_results", Count<C>{&C::kept_results, 0, kAnyCount}, "results kept for later, all together"},
    Key<C>{"kept_result_bytes", Size<C>{&C::kept_result_bytes, 0, kAnySize}, "their size, all together"},
    Key<C>{"keep_results_for", Duration<C>{&C::keep_results_for}, "how long a result is kept"},
    Key<C>{"store_dir", Text<C>{&C::store_dir}, "directory of the shared store", kNeedsRestart},
    Key<C>{"store_max_bytes", Size<C>{&C::store_max_bytes, 1u << 20, std::uint64_t{1} << 39},
           "the store of one user or group"},
    Key<C>{"store_max_writer_bytes", Size<C>{&C::store_max_writer_bytes, 0, kAnySize},
           "what one user may have in the store of a group", kNeedsRestart},
    Key<C>{"store_max_objects", Count<C>{&C::store_max_objects, 0, 10'000'000}, "its objects"},
    Key<C>{"session_grace", Duration<C>{&C::session_grace}, "how long sessions may be resumed after a restart"},
    Key<C>{"max_output_bytes", Size<C>{&C::max_output_bytes, 0, kMaxOutputBytes},
           "of each output stream of a command, what its result holds"},
    Key<C>{"max_nesting", Count<C>{&C::max_nesting, 0, 1000}, "depth of tasks that wait for tasks"},
    Key<C>{"max_lent_workers", Count<C>{&C::max_lent_workers, 0, kMaxWorkers},
           "extra workers while others wait for tasks of their own"},
    Key<C>{"prefetch", Count<C>{&C::prefetch, 1, 65536}, "small items that one worker is given ahead"},
};

using P = PoolConfig;
inline constexpr std::array kPoolKeys{
    Key<P>{"name", Text<P>{&P::name}, "name of the pool"},
    Key<P>{"runtime", Text<P>{&P::runtime}, "what runs the tasks"},
    Key<P>{"workers", Count<P>{&P::workers, 0, kMaxWorkers}, "processes; 0: as many as CPUs"},
    Key<P>{"modules", Texts<P>{&P::modules}, "code to load"},
    Key<P>{"environment", TextMap<P>{&P::environment}, "environment of the workers"},
    Key<P>{"cwd", Text<P>{&P::cwd}, "working directory of the workers"},
    Key<P>{"max_tasks_per_worker", Count<P>{&P::max_tasks_per_worker, 0, kAnyCount}, "then a worker is replaced"},
    Key<P>{"max_worker_memory", Size<P>{&P::max_worker_memory, 0, kAnySize}, "resident bytes of a worker; 0: no limit"},
    Key<P>{"max_task_memory", Size<P>{&P::max_task_memory, 0, kAnySize}, "memory of a task; 0: no limit"},
    Key<P>{"max_task_processes", Count<P>{&P::max_task_processes, 0, kAnyCount}, "its processes; 0: no limit"},
    Key<P>{"max_task_files", Count<P>{&P::max_task_files, 0, kAnyCount}, "open files of each of them; 0: no limit"},
    Key<P>{"cpu_timeout", Duration<P>{&P::cpu_timeout}, "CPU time of a task; 0s: no limit"},
    Key<P>{"nice", Count<P>{&P::nice, 0, kMaxNice}, "added to the daemon's niceness"},
    Key<P>{"timeout", Duration<P>{&P::timeout}, "longest run of a task; 0s: no limit"},
    Key<P>{"priority", Integer<P>{&P::priority, kMinPriority, kMaxPriority}, "of tasks that name none"},
    Key<P>{"max_queued", Count<P>{&P::max_queued, 1, kAnyCount}, "tasks that may wait"},
    Key<P>{"initializer", Text<P>{&P::initializer}, "function that each worker runs first"},
    Key<P>{"initializer_arguments", JsonArray<P>{&P::initializer_arguments}, "its arguments"},
    Key<P>{"on_demand", Truth<P>{&P::on_demand}, "start when first called"},
};

using Q = QuotaConfig;
inline constexpr std::array kQuotaKeys{
    Key<Q>{"sessions", Limit<Q>{&Q::sessions}, "connections at a time"},
    Key<Q>{"queued_tasks", Limit<Q>{&Q::queued_tasks}, "tasks that wait, in all pools"},
    Key<Q>{"queued_bytes", SizeLimit<Q>{&Q::queued_bytes}, "their inputs"},
    Key<Q>{"running_slots", Limit<Q>{&Q::running_slots}, "workers that have tasks of the user's"},
    Key<Q>{"store_bytes", SizeLimit<Q>{&Q::store_bytes}, "the user's own part of the shared store"},
};

/// The key of that name in one of the tables above, or null.
template <class Table>
constexpr const typename Table::value_type* find(const Table& table, std::string_view name) {
  for (const auto& key : table)
    if (key.name == name) return &key;
  return nullptr;
}

/// Why a value was refused, to be said after "want"; the caller says which key it was. Nothing: it was taken.
struct Refusal {
  std::string want;
};
using Checked = std::optional<Refusal>;

/// Reads a value from text, as a flag has it; a number or a text in a file arrives here too.
template <class Owner>
Checked assign(const Key<Owner>& key, Owner& owner, std::string_view text);
/// The value as a file spells it, which may be set on the right of "="; empty for a limit that is left open.
template <class Owner>
std::string spell(const Key<Owner>& key, const Owner& owner);

/// A basic string of TOML: quotes, backslashes and control characters are escaped, all else stays.
std::string quote(std::string_view text);
/// No text with a zero byte can become a path, an argument or an environment variable.
bool has_nul(std::string_view text);

}  // namespace taskpool::keys
