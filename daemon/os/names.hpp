#pragma once

#include <cstdint>
#include <optional>
#include <string>

/// Users and groups by name and by number, as the host's databases have them (getpwnam_r(3)). A look-up may ask a
/// directory server: only at start, at a reload and for people.
namespace taskpool::os {

std::optional<std::uint32_t> find_user(const std::string& name);
std::optional<std::uint32_t> find_group(const std::string& name);
/// Its name, or its number as text where it has none.
std::string user_name(std::uint32_t uid);
std::string group_name(std::uint32_t gid);

}  // namespace taskpool::os
