#pragma once

#include <boost/system/error_code.hpp>
#include <cstdint>
#include <iosfwd>
#include <optional>
#include <string_view>

namespace taskpool {

/// Why something did not succeed. The names travel on the wire, never the numbers; PROTOCOL.md, section 4, says when
/// each is used and whether trying again helps.
enum class Errc : std::uint8_t {
  ok = 0,
  bad_message,          ///< The frame or a field of it is not what the protocol says. Detail names the field.
  frame_too_large,      ///< A length in a prefix is over its limit. The connection ends.
  unsupported_version,  ///< No common protocol version.
  bad_argument,         ///< The function takes other arguments. Detail names the argument.
  unknown_function,     ///< No such function in the pool. Detail has near names.
  unknown_pool,         ///< No such pool, or it is another session's.
  unknown_task,         ///< No such task, it is another user's, or its result is no longer kept.
  not_finished,         ///< The task has no result yet.
  no_output,            ///< The task keeps no output.
  queue_full,           ///< A bound on waiting work is reached; nothing of this ran. Try again later.
  draining,             ///< The daemon or pool takes no new work. Nothing of this ran.
  pool_closed,          ///< The pool went away before this ran.
  body_too_large,       ///< An item is over a limit. Detail names it.
  out_of_space,         ///< An arena or a file system has no room.
  not_encodable,        ///< The result cannot be encoded.
  task_failed,          ///< The task threw. Detail is its message.
  worker_lost,          ///< The worker that ran it died. Detail says how. The task may have run in part.
  out_of_memory,        ///< It was killed for memory.
  timed_out,            ///< The time limit passed.
  cancelled,            ///< Somebody cancelled it, or its session ended.
  nesting_too_deep,     ///< Tasks wait for tasks beyond the bound.
  start_failed,         ///< The runtime could not load its modules, or the initializer failed.
  spawn_failed,         ///< No process could be made.
  permission_denied,    ///< Not for this user.
  limit_reached,        ///< A bound other than the queue's. Detail names it.
  unknown_object,       ///< No such object, or it is out of this user's sight.
  object_exists,        ///< There is an object of that name.
  wrong_type,           ///< The object or the value is of another type. Detail names both.
  unknown_key,          ///< The dict has no such entry.
  bad_key,              ///< The key is not in canonical form, has none, or is too long.
  out_of_range,         ///< An index or a number is out of its range.
  changed,              ///< What was expected is no longer so. Nothing was done.
  store_full,           ///< The segment, its file system or the user's share is used up. Nothing was done.
  bad_segment,          ///< A segment holds what no writer writes.
  too_busy,             ///< It kept changing while it was read.
  busy,                 ///< The object is being worked on. Stays inside the daemon, which tries again.
  not_owner,            ///< The lock is not held, or by somebody else.
  broken,               ///< The barrier is broken.
  already_running,      ///< Another daemon listens on this socket.
  no_daemon,            ///< Nobody listens there.
  daemon_gone,          ///< The connection broke. Nothing of this ran.
  outcome_unknown,      ///< The connection broke; it may have run.
  system,               ///< The operating system refused. Detail has its words.
  internal,             ///< A bug in the daemon. Its log says more.
};

/// The name that travels on the wire, "worker_lost".
std::string_view name(Errc code);
/// The code of that name, if there is one.
std::optional<Errc> find_errc(std::string_view name);
std::ostream& operator<<(std::ostream& out, Errc code);

/// Makes Errc an error_code.
const boost::system::error_category& taskpool_category() noexcept;
inline boost::system::error_code make_error_code(Errc code) noexcept {
  return {static_cast<int>(code), taskpool_category()};
}

}  // namespace taskpool

template <>
struct boost::system::is_error_code_enum<taskpool::Errc> : std::true_type {};
