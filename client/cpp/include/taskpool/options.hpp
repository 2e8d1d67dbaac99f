#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "proto/message.hpp"

namespace taskpool {

/// Where the daemon is and how to speak to it.
struct ClientOptions {
  /// The daemon's socket. Empty: the environment's TASKPOOL_SOCKET; else the system's, /run/taskpool/taskpool.sock, if
  /// somebody answers there; else the user's private daemon, which is started if it does not run.
  std::string socket{};
  /// What this program calls itself in the daemon's log; cut at 64 bytes. Empty: the program's own name.
  std::string name{};
  /// False: the private daemon is not started; connect() fails with `no_daemon` instead.
  bool autostart = true;
  /// False: never spin before blocking. TASKPOOL_SPIN=0 in the environment does the same.
  bool spin = true;
  /// How long connect() waits for a daemon that is starting.
  std::chrono::milliseconds connect_timeout{5000};
  /// How long calls wait for a daemon that went away to come back, before they end with `daemon_gone`.
  std::chrono::milliseconds reconnect_timeout{5000};
  /// How much input of calls with an idempotency key is copied, of all that are under way together, so that they can be
  /// sent again when the connection breaks. A call's input is kept from its submission to its end, a map's all
  /// together; an argument of `apply` that lies in the session's arena is kept there and does not count. A call that
  /// finds no room here runs all the same, but ends with `outcome_unknown` when the connection breaks.
  std::size_t resend_bytes = std::size_t{64} << 20;
};

/// How one call, or each task of a map, is run. PROTOCOL.md, section 3, has the ranges.
struct CallOptions {
  std::optional<std::chrono::milliseconds>
      timeout{};  ///< From the task's start to its worker being killed. 0: none. Unset: the pool's.
  std::chrono::milliseconds soft_timeout{0};               ///< After it the task is asked to stop. 0: never.
  std::uint32_t retries = 0;                               ///< Repeats of a task that failed with an error of its own.
  std::uint32_t lost_retries = 0;                          ///< Repeats of a task whose worker died.
  std::uint32_t oom_retries = 0;                           ///< Repeats of a task that ended with `out_of_memory`.
  std::optional<std::chrono::milliseconds> cpu_timeout{};  ///< As `timeout`, of the task's CPU time.
  std::chrono::milliseconds retry_delay{100};              ///< Before the first repeat; doubles each time.
  std::optional<int> priority{};                           ///< -100..100, higher first. Unset: the pool's.
  std::string idempotency_key{};    ///< A second call with it joins the first; also makes a call safe to resend.
  std::string name{};               ///< Shown by `ps` instead of the function.
  bool announce = false;            ///< Ask for the task's id and its progress reports.
  std::vector<std::string> refs{};  ///< Objects of the store that the arguments name, by id: they live until the call
                                    ///< is forgotten, which matters most to one that outlives this session.

  /// These options as the wire has them. Durations outside of its range are brought into it.
  Call call(std::string function, std::string pool) const;
  bool operator==(const CallOptions&) const = default;
};

/// What a cancel does with what has begun. What has not never runs.
enum class CancelMode : std::uint8_t {
  waiting,  ///< It goes on to its end.
  ask,      ///< It is asked to stop, and killed after the daemon's `cancel_grace`.
  kill,     ///< It is killed at once.
};

/// What a map has beyond the options of its tasks.
struct MapOptions {
  std::uint32_t chunk = 0;      ///< Tasks sent to a worker together; 0: the daemon adapts it.
  bool stop_on_error = false;   ///< The first failure cancels what has not begun; what runs goes on to its end.
  bool force_json = false;      ///< Send numbers as JSON text even where an array would do.
  std::uint32_t window = 1024;  ///< `imap`: how many inputs may be ahead of the output that was taken last. At least 1.
};

/// A pool of the caller's own. PROTOCOL.md, `pool_open`.
struct PoolOptions {
  std::string name{};                  ///< Empty: made up by the daemon.
  std::string runtime = "native";      ///< A runtime that the daemon's config names.
  std::uint32_t workers = 0;           ///< 0: as many as CPUs.
  std::vector<std::string> modules{};  ///< What each worker has loaded: shared libraries for "native".
  std::map<std::string, std::string> environment{};
  std::string cwd{};
  std::string initializer{};  ///< A function that each worker runs first.
  nlohmann::json initializer_arguments = nlohmann::json::array();
  std::uint32_t max_tasks_per_worker = 0;  ///< A worker is replaced after so many; 0: never.
  std::uint64_t max_worker_memory = 0;     ///< Bytes; 0: no limit.
  std::chrono::milliseconds timeout{0};    ///< Default for its tasks; 0: none.
  int priority = 0;                        ///< Default for its tasks.
  std::uint32_t max_queued = 0;            ///< Bound on waiting tasks; 0: the daemon's default.
  std::uint64_t max_task_memory = 0;     ///< Bytes that a worker with all it starts may take. PROTOCOL.md, section 3.7,
                                         ///< has this and the next four; 0: what the first configured pool has.
  std::uint32_t max_task_processes = 0;  ///< Processes and threads of a worker.
  std::uint32_t max_task_files = 0;      ///< Open files of each process; at least 32.
  std::chrono::milliseconds cpu_timeout{0};  ///< CPU time of a task: default for its tasks.
  std::uint32_t nice = 0;                    ///< Added to the daemon's niceness, 0..19.
  std::vector<int> stdio{};                  ///< Up to three descriptors: the workers' stdin, stdout, stderr. Borrowed.
};

/// Which object a name means, and what becomes of a name that is not there.
struct ObjectOptions {
  enum class Create {
    open,       ///< Takes the object of that name, or makes it.
    exclusive,  ///< Makes it; error `object_exists` if it is there.
    never,      ///< Takes it; error `unknown_object` if it is not there.
  };
  std::string group{};  ///< Shared with the members of this Unix group; empty: with this user's programs alone.
  Create create = Create::open;
};

}  // namespace taskpool
