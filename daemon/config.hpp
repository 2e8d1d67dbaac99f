#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "proto/limits.hpp"
#include "proto/result.hpp"

namespace taskpool {

/// What a task calls the pool that runs it: no pool has this name.
inline constexpr std::string_view kOwnPool = ".";

/// One pool of workers: a `[[pool]]` table. daemon/taskpool.example.toml says what each key does.
struct PoolConfig {
  std::string name = "default";
  std::string runtime = "native";    ///< A key of Config::runtimes.
  std::uint32_t workers = 0;         ///< 0: as many as CPUs.
  std::vector<std::string> modules;  ///< Paths; a name without a slash is looked for beside the daemon.
  std::map<std::string, std::string> environment;
  std::string cwd;                         ///< Empty: the daemon's.
  std::uint32_t max_tasks_per_worker = 0;  ///< 0: no limit.
  std::uint64_t max_worker_memory = 0;     ///< Bytes; 0: no limit.
  std::chrono::milliseconds timeout{0};    ///< 0: none.
  int priority = 0;
  std::uint32_t max_queued = 2'000'000;  ///< Tasks.
  std::string initializer;               ///< A function to run first in each worker, or empty.
  std::string initializer_arguments;     ///< One JSON array, or empty.
  std::uint64_t max_task_memory = 0;     ///< Bytes; of this and the next three 0: no limit.
  std::uint32_t max_task_processes = 0;
  std::uint32_t max_task_files = 0;
  std::chrono::milliseconds cpu_timeout{0};  ///< Of one task, unless its call says otherwise.
  std::uint32_t nice = 0;
  bool on_demand = false;  ///< Its runtime and workers start when it is first called.
  // Of pools that sessions open; no keys of the file.
  std::vector<std::string> command;  ///< The runtime program and its words; empty: those of Config::runtimes.
  bool once = false;                 ///< Its workers are not replaced when they end.
  bool operator==(const PoolConfig&) const = default;
};

/// A program that loads code and forks workers: a `[runtime.NAME]` table.
struct RuntimeConfig {
  std::string name;
  std::vector<std::string> command;  ///< The program, looked for beside the daemon and then in PATH, and its arguments.
  bool operator==(const RuntimeConfig&) const = default;
};

/// What one user may have at a time: a `[quota.NAME]` table. Nothing: left to the next table; 0: no limit.
struct QuotaConfig {
  std::optional<std::uint64_t> sessions;
  std::optional<std::uint64_t> queued_tasks;
  std::optional<std::uint64_t> queued_bytes;
  std::optional<std::uint64_t> running_slots;
  std::optional<std::uint64_t> store_bytes;
  bool operator==(const QuotaConfig&) const = default;
};

/// "default", without limits.
std::map<std::string, QuotaConfig> default_quotas();
/// "native", "command" and "python". The config may add more, or replace these.
std::map<std::string, RuntimeConfig> builtin_runtimes();
/// "default" with the demo module, "command", and "python", which starts on demand.
std::vector<PoolConfig> default_pools();

/// What an administrator may decide. Each default is written here and nowhere else; a test holds
/// daemon/taskpool.example.toml to them.
struct Config {
  std::string socket;  ///< Path. Empty in a file; load_config() fills in default_socket() then.
  mode_t socket_mode = 0600;
  std::string socket_group;  ///< Empty: the daemon's own.
  std::string admin_socket;  ///< Path of the second socket; empty: none.
  mode_t admin_socket_mode = 0600;
  std::string admin_socket_group;           ///< Empty: the daemon's own.
  std::string admin_requests = "anywhere";  ///< Or "admin_socket": on the ordinary one everybody is a plain user.
  std::vector<std::string> operators;       ///< "NAME" or "UID" of users, "@NAME" or "@GID" of groups.
  std::vector<std::string> admins;          ///< The same.
  std::string spool;  ///< Directory for the captured output of command tasks; empty: SOCKET.spool.
  std::vector<PoolConfig> pools = default_pools();  ///< Never empty. The first is for calls that name no pool.
  std::map<std::string, RuntimeConfig> runtimes = builtin_runtimes();
  std::map<std::string, QuotaConfig> quotas = default_quotas();  ///< By "default", or a user or @group as in `admins`.
  std::chrono::milliseconds stop_timeout{10'000};                ///< How long SIGTERM lets tasks run on.
  std::chrono::milliseconds cancel_grace{2'000};                 ///< From asking a task to stop to killing its worker.
  std::chrono::milliseconds idle_exit{0};                        ///< A daemon idle so long leaves; 0: never.
  std::uint64_t session_queued_bytes = 16u << 20;                ///< Inputs waiting, per session.
  std::uint64_t session_result_bytes = 8u << 20;                 ///< Results not yet read, per session.
  std::uint64_t arena_bytes = 1u << 30;                          ///< Shared memory per session.
  std::uint64_t detached_body_bytes = 1u << 20;                  ///< Largest argument or result of a detached task.
  std::uint64_t kept_result_bytes = 64u << 20;                   ///< Results kept for `fetch`, all together.
  std::uint32_t kept_results = 10'000;
  std::chrono::milliseconds keep_results_for{3'600'000};
  std::string
      metrics_listen;  ///< Where /metrics and /healthz are: a path, or a loopback address and port. Empty: nowhere.
  mode_t metrics_socket_mode = 0600;         ///< Of that path.
  std::string store_dir;                     ///< Directory of the shared store's segments; empty: SOCKET.store.
  std::uint64_t store_max_bytes = 1u << 30;  ///< Of one user's or group's part of the store.
  std::uint64_t store_max_writer_bytes = 512u << 20;  ///< Of a group's, what one user may have there.
  std::uint32_t store_max_objects = 100'000;          ///< As store_max_bytes.
  std::chrono::milliseconds session_grace{5000};      ///< How long a session may be resumed after the daemon's restart.
  std::uint32_t max_sessions = 4096;
  std::uint32_t max_nesting = 8;        ///< Depth of tasks that wait for tasks.
  std::uint32_t max_lent_workers = 64;  ///< Extra workers that run while others wait for tasks of their own.
  std::uint32_t prefetch = 512;         ///< Largest number of small items that one worker is given ahead.
  std::uint64_t max_output_bytes = kDefaultOutputBytes;  ///< Of each output stream of a command, what its result holds.
  std::string audit = "changes";                         ///< none, changes or all.
  std::string log_level = "info";                        ///< trace, debug, info, warning, error or critical.
  bool operator==(const Config&) const = default;
};

/// What the daemon's command line asked for.
struct CommandLine {
  enum class Action : std::uint8_t {
    run,
    check_config,  ///< Say whether the configuration is good, and end.
    print_config,  ///< Print the effective configuration, and end.
    build_id,      ///< Print what tells this build from others, and end.
    help,          ///< `text` is what --help or --version prints.
    refused,       ///< `text` says what is wrong with the arguments.
  };
  Action action = Action::run;
  std::string config_file;                                     ///< Empty: no file.
  std::vector<std::pair<std::string, std::string>> overrides;  ///< Key of the file, its value as text; in order.
  std::string text;
};

/// Reads the arguments. Never fails: bad ones are Action::refused.
CommandLine parse_command_line(int argc, const char* const* argv);

/// Reads the file that the command line names, if any, applies the flags and fills in what is looked up on this host:
/// the socket, the spool, and absolute paths of runtimes and modules. A reload calls it again with the same command
/// line. Errors: `bad_argument`, whose detail names file and line, or the flag, and the key and its value; `system`.
Result<Config> load_config(const CommandLine& command_line);

/// Reads TOML text; `source` is what errors call it. Looks at nothing else. Errors: `bad_argument`.
Result<Config> parse_config(std::string_view toml, std::string_view source);
/// Sets one key from a flag's text. Errors: `bad_argument`.
Result<void> set_key(Config& config, std::string_view key, std::string_view value);
/// The whole configuration as a file that parse_config() reads back to the same.
std::string to_toml(const Config& config);

/// Where a daemon listens that was told nothing: $TASKPOOL_SOCKET, else taskpool/taskpool.sock below /run for root and
/// below $XDG_RUNTIME_DIR for others.
std::string default_socket();

/// A place that only this host can reach.
struct LocalAddress {
  std::string path;        ///< Of a Unix socket; empty: an address of the loopback network.
  std::string host;        ///< "127.0.0.1" or "::1", as inet_pton() reads it.
  std::uint16_t port = 0;  ///< 0: one that is free.
};
/// Reads "/run/x.sock", "127.0.0.1:9464", "[::1]:9464" or "localhost:9464". Nothing: it is none of these, or others
/// could reach it.
std::optional<LocalAddress> parse_local_address(std::string_view text);

/// What a reload would do. Texts are keys, of pools as "pool.NAME.KEY".
struct ConfigChanges {
  std::vector<std::string> changed;        ///< Takes effect with the reload.
  std::vector<std::string> needs_restart;  ///< Keeps its old value until the daemon is started anew.
};
ConfigChanges compare(const Config& old, const Config& now);

}  // namespace taskpool
