#pragma once

#include <filesystem>
#include <optional>
#include <string_view>

namespace taskpool::os {

/// How many CPUs we may keep busy: those of our affinity mask, or fewer where a cgroup's quota says so. At least 1.
int available_cpus();

/// The smallest CPU quota, in CPUs, of a cgroup or of those above it; nothing if there is none. `membership` is the
/// text of /proc/PID/cgroup, `mount` is /sys/fs/cgroup; both versions of cgroups are read. cgroups(7).
std::optional<double> cgroup_cpu_quota(std::string_view membership, const std::filesystem::path& mount);

}  // namespace taskpool::os
