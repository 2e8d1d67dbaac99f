#include "daemon/os/cpus.hpp"

#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <sstream>
#include <string>
#include <vector>

#include "daemon/os/text_file.hpp"

namespace taskpool::os {
namespace {

constexpr std::size_t kMostCpus = 1u << 20;

int cpus_of_affinity() {
  // The kernel refuses a mask smaller than its own, whose size it does not tell.
  for (std::size_t cpus = 1024; cpus <= kMostCpus; cpus *= 2) {
    std::vector<cpu_set_t> mask(CPU_ALLOC_SIZE(cpus) / sizeof(cpu_set_t) + 1);
    const auto bytes = mask.size() * sizeof(cpu_set_t);
    if (::sched_getaffinity(0, bytes, mask.data()) == 0) return std::max(1, CPU_COUNT_S(bytes, mask.data()));
    if (errno != EINVAL) break;
  }
  return 1;
}

/// "QUOTA PERIOD" in CPUs; nothing for "max PERIOD", for a quota of -1, and for what is neither.
std::optional<double> quota_of(const std::string& text) {
  std::istringstream fields{text};
  double quota = 0;
  double period = 0;
  if (!(fields >> quota >> period) || quota <= 0 || period <= 0) return std::nullopt;
  return quota / period;
}

bool lists_cpu(std::string_view controllers) {
  std::istringstream names{std::string{controllers}};
  for (std::string one; std::getline(names, one, ',');)
    if (one == "cpu") return true;
  return false;
}

}  // namespace

std::optional<double> cgroup_cpu_quota(std::string_view membership, const std::filesystem::path& mount) {
  std::optional<double> least;
  const auto consider = [&least](std::optional<double> quota) {
    if (quota && (!least || *quota < *least)) least = quota;
  };
  std::istringstream lines{std::string{membership}};
  for (std::string line; std::getline(lines, line);) {  // HIERARCHY:CONTROLLERS:/PATH
    const auto first = line.find(':');
    const auto second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const auto controllers = std::string_view{line}.substr(first + 1, second - first - 1);
    const bool unified = controllers.empty();
    if (!unified && !lists_cpu(controllers)) continue;
    // A container may see a path from outside its mount; then only the levels that exist count, the mount's own last.
    for (auto group = std::filesystem::path{line.substr(second + 1)}.relative_path();; group = group.parent_path()) {
      if (unified) {
        consider(quota_of(read_text((mount / group / "cpu.max").string())));
      } else {
        const auto directory = mount / "cpu" / group;
        consider(quota_of(read_text((directory / "cpu.cfs_quota_us").string()) + " " +
                          read_text((directory / "cpu.cfs_period_us").string())));
      }
      if (group.empty()) break;
    }
  }
  return least;
}

int available_cpus() {
  const int cpus = cpus_of_affinity();
  const auto quota = cgroup_cpu_quota(read_text("/proc/self/cgroup"), "/sys/fs/cgroup");
  if (!quota || *quota >= cpus) return cpus;
  return std::max(1, static_cast<int>(std::ceil(*quota)));
}

}  // namespace taskpool::os
