#include "daemon/os/process_limits.hpp"

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>

#include "daemon/os/unique_fd.hpp"

namespace taskpool::os {

namespace {

Result<void> set(__rlimit_resource_t which, std::uint64_t most, const char* name) {
  if (most == 0) return {};
  const rlimit both{most, most};
  if (::setrlimit(which, &both) != 0) return errno_error(std::string{name} + " " + std::to_string(most));
  return {};
}

bool has_capability(unsigned number) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, 2> sets{};
  if (::syscall(SYS_capget, &header, sets.data()) != 0) return false;
  return (sets[number / 32].effective & (1u << (number % 32))) != 0;
}

}  // namespace

Result<void> apply(const ProcessLimits& limits) {
  if (!limits.cgroup.empty()) {
    // Not a std::ofstream, as in set_oom_score_adj().
    const UniqueFd members{::open((limits.cgroup + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC)};
    if (!members || ::write(members.get(), "0", 1) != 1) return errno_error("cgroup " + limits.cgroup);
  }
  if (limits.nice > 0 && ::setpriority(PRIO_PROCESS, 0, ::getpriority(PRIO_PROCESS, 0) + limits.nice) != 0)
    return errno_error("nice " + std::to_string(limits.nice));
  if (const auto good = set(RLIMIT_NOFILE, limits.open_files, "RLIMIT_NOFILE"); !good) return good;
  if (const auto good = set(RLIMIT_NPROC, limits.processes, "RLIMIT_NPROC"); !good) return good;
  return set(RLIMIT_DATA, limits.data_bytes, "RLIMIT_DATA");
}

std::uint64_t most_open_files() {
  rlimit both{};
  ::getrlimit(RLIMIT_NOFILE, &both);
  return both.rlim_max;
}

bool is_bound_by_process_limit() {
  // fork(2), EAGAIN: root's own uid is exempt, and so is who has one of these.
  return ::getuid() != 0 && !has_capability(CAP_SYS_RESOURCE) && !has_capability(CAP_SYS_ADMIN);
}

}  // namespace taskpool::os
