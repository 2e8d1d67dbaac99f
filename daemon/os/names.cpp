#include "daemon/os/names.hpp"

#include <grp.h>
#include <pwd.h>

#include <cerrno>
#include <vector>

namespace taskpool::os {

namespace {

/// Entries larger than this are not looked at: a group may list very many members.
constexpr std::size_t kMostSpace = 1u << 24;

/// Calls one of the getpwnam_r(3) family with as much space as the entry needs; what `take` makes of the entry, if
/// there is one.
template <class Entry, class Call, class Take>
auto look_up(const Call& call, const Take& take) -> std::optional<decltype(take(std::declval<const Entry&>()))> {
  std::vector<char> space(1024);
  for (;;) {
    Entry entry{};
    Entry* found = nullptr;
    const int failed = call(&entry, space.data(), space.size(), &found);
    if (failed == EINTR) continue;
    if (failed == ERANGE && space.size() < kMostSpace) {
      space.resize(4 * space.size());
      continue;
    }
    if (failed != 0 || found == nullptr) return std::nullopt;
    return take(*found);
  }
}

}  // namespace

std::optional<std::uint32_t> find_user(const std::string& name) {
  return look_up<passwd>([&](auto... into) { return ::getpwnam_r(name.c_str(), into...); },
                         [](const passwd& entry) { return std::uint32_t{entry.pw_uid}; });
}

std::optional<std::uint32_t> find_group(const std::string& name) {
  return look_up<group>([&](auto... into) { return ::getgrnam_r(name.c_str(), into...); },
                        [](const group& entry) { return std::uint32_t{entry.gr_gid}; });
}

std::string user_name(std::uint32_t uid) {
  return look_up<passwd>([&](auto... into) { return ::getpwuid_r(uid, into...); },
                         [](const passwd& entry) { return std::string{entry.pw_name}; })
      .value_or(std::to_string(uid));
}

std::string group_name(std::uint32_t gid) {
  return look_up<group>([&](auto... into) { return ::getgrgid_r(gid, into...); },
                        [](const group& entry) { return std::string{entry.gr_name}; })
      .value_or(std::to_string(gid));
}

}  // namespace taskpool::os
