#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/config.hpp"
#include "daemon/os/cgroup.hpp"
#include "daemon/os/process_limits.hpp"

/// Which limits a pool's workers get, and what enforces each: decisions, without effects. PROTOCOL.md, section 3.7.
namespace taskpool::pool {

/// What the daemon can use where it runs.
struct Means {
  bool cgroups = false;          ///< It may make some.
  bool cgroup_memory = false;    ///< They can bound memory.
  bool cgroup_pids = false;      ///< And processes.
  std::string why_no_cgroups;    ///< Why not, if they cannot do all of this.
  bool process_limit = true;     ///< The kernel holds us to RLIMIT_NPROC.
  std::uint64_t open_files = 0;  ///< The most that RLIMIT_NOFILE can be.
};

enum class Enforcer : std::uint8_t { nobody, cgroup, rlimit, supervisor };
std::string_view name(Enforcer enforcer);

/// One limit that a pool has, as `pools` shows it.
struct Limit {
  std::string_view key;  ///< The field of `pool_open`.
  std::uint64_t value = 0;
  Enforcer by = Enforcer::nobody;
  std::string note;  ///< What is not as one might expect; empty: nothing.
};

/// What a pool does about its limits.
struct LimitPlan {
  std::vector<Limit> limits;
  bool own_cgroup = false;  ///< Each worker gets one.
  os::CgroupLimits cgroup;
  os::ProcessLimits process;  ///< What each worker sets itself; its cgroup is not named yet.
};

LimitPlan plan_limits(const PoolConfig& pool, const Means& means);

/// The limits of a pool that a session opens: none is weaker than those of `bound`.
void bound_limits(PoolConfig& opened, const PoolConfig& bound);

}  // namespace taskpool::pool
