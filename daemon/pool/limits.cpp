#include "daemon/pool/limits.hpp"

#include <fmt/core.h>

#include <algorithm>

namespace taskpool::pool {

namespace {

/// The stricter of two limits of which 0 is none.
template <class T>
T stricter(T one, T other) {
  if (one == T{} || other == T{}) return std::max(one, other);
  return std::min(one, other);
}

}  // namespace

std::string_view name(Enforcer enforcer) {
  switch (enforcer) {
    case Enforcer::nobody: return "nobody";
    case Enforcer::cgroup: return "cgroup";
    case Enforcer::rlimit: return "rlimit";
    case Enforcer::supervisor: return "supervisor";
  }
  return "";
}

LimitPlan plan_limits(const PoolConfig& pool, const Means& means) {
  LimitPlan plan;
  if (pool.max_task_memory > 0) {
    auto& limit = plan.limits.emplace_back(Limit{"max_task_memory", pool.max_task_memory, Enforcer::cgroup, {}});
    if (means.cgroup_memory) {
      plan.cgroup.memory_bytes = pool.max_task_memory;
    } else {
      limit.by = Enforcer::rlimit;
      limit.note = "of each process by itself, without shared memory: " + means.why_no_cgroups;
      plan.process.data_bytes = pool.max_task_memory;
    }
  }
  if (pool.max_task_processes > 0) {
    auto& limit = plan.limits.emplace_back(Limit{"max_task_processes", pool.max_task_processes, Enforcer::cgroup, {}});
    if (means.cgroup_pids) {
      plan.cgroup.processes = pool.max_task_processes;
    } else if (means.process_limit) {
      limit.by = Enforcer::rlimit;
      limit.note = "counts all processes of the user: " + means.why_no_cgroups;
      plan.process.processes = pool.max_task_processes;
    } else {
      limit.by = Enforcer::nobody;
      limit.note = "RLIMIT_NPROC does not hold for root: " + means.why_no_cgroups;
    }
  }
  if (pool.max_task_files > 0) {
    auto& limit = plan.limits.emplace_back(Limit{"max_task_files", pool.max_task_files, Enforcer::rlimit, {}});
    plan.process.open_files = pool.max_task_files;
    if (pool.max_task_files > means.open_files) {
      plan.process.open_files = static_cast<std::uint32_t>(means.open_files);
      limit.note = fmt::format("the daemon itself may not have more than {}: LimitNOFILE=", means.open_files);
    }
  }
  if (pool.cpu_timeout.count() > 0)
    plan.limits.push_back(
        {"cpu_timeout_ms", static_cast<std::uint64_t>(pool.cpu_timeout.count()), Enforcer::supervisor, {}});
  if (pool.nice > 0) {
    plan.limits.push_back({"nice", pool.nice, Enforcer::rlimit, {}});
    plan.process.nice = static_cast<int>(pool.nice);
  }
  // CPU time is measured there, too: of all that a task started, whatever became of the processes between.
  plan.own_cgroup =
      means.cgroups && (plan.cgroup.memory_bytes > 0 || plan.cgroup.processes > 0 || pool.cpu_timeout.count() > 0);
  return plan;
}

void bound_limits(PoolConfig& opened, const PoolConfig& bound) {
  opened.max_task_memory = stricter(opened.max_task_memory, bound.max_task_memory);
  opened.max_task_processes = stricter(opened.max_task_processes, bound.max_task_processes);
  opened.max_task_files = stricter(opened.max_task_files, bound.max_task_files);
  opened.cpu_timeout = stricter(opened.cpu_timeout, bound.cpu_timeout);
  opened.nice = std::max(opened.nice, bound.nice);
}

}  // namespace taskpool::pool
