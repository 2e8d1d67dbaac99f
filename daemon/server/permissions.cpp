#include "daemon/server/permissions.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>

#include "daemon/os/names.hpp"

namespace taskpool::server {

namespace {

/// The table of quotas that counts for whom no other does.
constexpr std::string_view kDefault = "default";

/// A number as a list may have it instead of a name.
std::optional<std::uint32_t> to_number(std::string_view text) {
  std::uint32_t number = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || failed != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

/// Who has the role, for the error of who has not.
std::string_view who_has(Role role) {
  return role == Role::operate ? "for operators (`operators`) and admins (root, the daemon's user and `admins`)"
                               : "for admins: root, the daemon's user and `admins`";
}

}  // namespace

bool Identity::is_member(std::uint32_t of) const {
  return gid == of || std::find(groups.begin(), groups.end(), of) != groups.end();
}

std::string_view name(Role role) {
  switch (role) {
    case Role::user: return "user";
    case Role::operate: return "operator";
    case Role::admin: break;
  }
  return "admin";
}

Lookups host_lookups() { return {os::find_user, os::find_group}; }

bool Members::contains(const Identity& who) const {
  return uids.contains(who.uid) ||
         std::any_of(gids.begin(), gids.end(), [&](std::uint32_t gid) { return who.is_member(gid); });
}

Result<Members> resolve(std::string_view key, const std::vector<std::string>& names, const Lookups& lookups) {
  Members members;
  for (const auto& name : names) {
    const bool is_group = name.starts_with('@');
    const auto bare = name.substr(is_group ? 1 : 0);
    auto number = to_number(bare);
    if (!number && !bare.empty()) number = (is_group ? lookups.group : lookups.user)(bare);
    if (!number)
      return fail(Errc::bad_argument,
                  fmt::format("{} = \"{}\": there is no such {}", key, name, is_group ? "group" : "user"));
    (is_group ? members.gids : members.uids).insert(*number);
  }
  return members;
}

Result<Permissions> Permissions::make(const Config& config, std::uint32_t daemon_uid, const Lookups& lookups) {
  Permissions made;
  made.daemon_uid_ = daemon_uid;
  made.only_at_admin_door_ = config.admin_requests == "admin_socket";
  auto operators = resolve("operators", config.operators, lookups);
  if (!operators) return operators.error();
  auto admins = resolve("admins", config.admins, lookups);
  if (!admins) return admins.error();
  made.operators_ = std::move(*operators);
  made.admins_ = std::move(*admins);
  for (const auto& [whose, limits] : config.quotas) {
    if (whose == kDefault) {
      made.default_quota_ = limits;
      continue;
    }
    auto members = resolve("quota", {whose}, lookups);
    if (!members) return members.error();
    made.quotas_.push_back({whose, std::move(*members), limits});
  }
  return made;
}

Role Permissions::role_of(const Identity& who) const {
  if (is_trusted(who.uid) || admins_.contains(who)) return Role::admin;
  return operators_.contains(who) ? Role::operate : Role::user;
}

Bounds Permissions::bounds_of(const Identity& who) const {
  const auto bound = [&](std::optional<std::uint64_t> QuotaConfig::*limit, std::string_view key) {
    Bound found;
    bool is_found = false;
    const auto consider = [&](const QuotaConfig& limits, std::string_view whose) {
      const auto& value = limits.*limit;
      if (!value) return;
      const auto most = *value == 0 ? queue::kNoLimit : *value;
      if (is_found && most <= found.most) return;
      is_found = true;
      found = {most, fmt::format("quota.{}.{} = {}", whose, key, *value)};
    };
    for (const auto& quota : quotas_)
      if (quota.members.uids.contains(who.uid)) consider(quota.limits, quota.name);
    if (is_found || is_trusted(who.uid)) return found;
    for (const auto& quota : quotas_)
      if (quota.members.contains(who)) consider(quota.limits, quota.name);
    if (!is_found) consider(default_quota_, kDefault);
    return found;
  };
  return {bound(&QuotaConfig::sessions, "sessions"), bound(&QuotaConfig::queued_tasks, "queued_tasks"),
          bound(&QuotaConfig::queued_bytes, "queued_bytes"), bound(&QuotaConfig::running_slots, "running_slots"),
          bound(&QuotaConfig::store_bytes, "store_bytes")};
}

Role Permissions::role_at(Door door, const Identity& who) const {
  return only_at_admin_door_ && door == Door::clients ? Role::user : role_of(who);
}

Result<void> Permissions::check(Right right, std::string_view what, const Identity& who, Door door) const {
  const auto has = role_of(who);
  const auto needs = needed(right);
  // Whose code may run does not depend on the door: that would only keep admins from using pools of their own.
  if ((right == Right::load_code ? has : role_at(door, who)) >= needs) return boost::system::in_place_value;
  if (has >= needs)
    return fail(
        Errc::permission_denied,
        fmt::format(
            "{} is for the admin socket only (`admin_requests = \"admin_socket\"`); user {} has the role '{}' there",
            what, who.uid, name(has)));
  return fail(Errc::permission_denied,
              fmt::format("{} is {}; user {} has the role '{}'", what, who_has(needs), who.uid, name(has)));
}

}  // namespace taskpool::server
