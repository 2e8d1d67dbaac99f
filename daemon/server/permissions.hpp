#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/config.hpp"
#include "daemon/queue/usage.hpp"
#include "proto/result.hpp"

/// Who may do what. Pure decisions, from what the kernel says of a client's process and what the configuration says of
/// users and groups.
namespace taskpool::server {

/// A client's process, as the kernel saw it when it connected (SO_PEERCRED, SO_PEERGROUPS).
struct Identity {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::vector<std::uint32_t> groups{};  ///< Besides `gid`.

  bool is_member(std::uint32_t of) const;
};

/// What somebody may do beyond handling his own tasks, pools and objects, which everybody does who may connect. Each
/// role includes those before it.
enum class Role : std::uint8_t { user, operate, admin };
/// "user", "operator" or "admin".
std::string_view name(Role role);

/// What takes a role.
enum class Right : std::uint8_t {
  others_tasks,  ///< See everybody's tasks, wait for them, cancel them, read their results and output.
  change_pools,  ///< Pause, resume and resize the pools of the configuration.
  drain,
  load_code,  ///< Open a pool with modules or with a runtime program of one's own.
  reload,
  shutdown,
};

constexpr Role needed(Right right) {
  switch (right) {
    case Right::others_tasks:
    case Right::change_pools:
    case Right::drain: return Role::operate;
    case Right::load_code:
    case Right::reload:
    case Right::shutdown: break;
  }
  return Role::admin;
}
static_assert(needed(Right::drain) == Role::operate && needed(Right::reload) == Role::admin);

/// The socket that a client came in by.
enum class Door : std::uint8_t { clients, admin };

/// How names become numbers; the operating system's look-ups, but for tests.
struct Lookups {
  std::function<std::optional<std::uint32_t>(const std::string&)> user;
  std::function<std::optional<std::uint32_t>(const std::string&)> group;
};
/// Those of the host.
Lookups host_lookups();

/// A list of users and groups of the configuration.
struct Members {
  std::set<std::uint32_t> uids;
  std::set<std::uint32_t> gids;

  bool contains(const Identity& who) const;
};

/// Reads "alice", "1000", "@staff", "@50" into numbers. `key` is what an error calls the list. Errors: `bad_argument`,
/// which names key and value.
Result<Members> resolve(std::string_view key, const std::vector<std::string>& names, const Lookups& lookups);

/// A limit for one user, and the rule that it comes from: "quota.alice.sessions = 3".
struct Bound {
  std::uint64_t most = queue::kNoLimit;
  std::string rule{};
};
/// What one user may have at a time.
struct Bounds {
  Bound sessions;
  Bound queued_tasks;
  Bound queued_bytes;
  Bound running_slots;
  Bound store_bytes;
};

/// What the configuration says of users, with names made numbers: at start, and again at each reload.
class Permissions {
 public:
  Permissions() = default;
  /// Errors: `bad_argument`, which names key and value.
  static Result<Permissions> make(const Config& config, std::uint32_t daemon_uid, const Lookups& lookups);

  /// Root and the daemon's own user: whose code runs where it has a say already. Not a matter of the configuration.
  bool is_trusted(std::uint32_t uid) const { return uid == 0 || uid == daemon_uid_; }
  Role role_of(const Identity& who) const;
  /// The role that he may use there.
  Role role_at(Door door, const Identity& who) const;
  /// Whether `who`, who came in by `door`, may ask for `what`, which takes `right`. Error: `permission_denied`, which
  /// names the rule.
  Result<void> check(Right right, std::string_view what, const Identity& who, Door door) const;
  /// A limit of the table with his name; else the largest of his groups'; else that of `default`. For root and the
  /// daemon's user only the first.
  Bounds bounds_of(const Identity& who) const;

 private:
  std::uint32_t daemon_uid_ = 0;
  bool only_at_admin_door_ = false;  ///< Roles count there alone.
  Members operators_;
  Members admins_;
  struct Quota {
    std::string name;
    Members members;
    QuotaConfig limits;
  };
  std::vector<Quota> quotas_;  ///< But `default`.
  QuotaConfig default_quota_;
};

}  // namespace taskpool::server
