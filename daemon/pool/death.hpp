#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

#include "daemon/os/cgroup.hpp"
#include "daemon/queue/block.hpp"
#include "proto/message.hpp"

/// What a worker died of, and what becomes of the task that it ran: decisions, without effects.
namespace taskpool::pool {

/// What is known of a worker's end that nobody asked for.
struct Death {
  std::uint32_t worker = 0;
  pid_t pid = 0;
  std::optional<Exited> exited;            ///< Nothing: its zygote has not said.
  std::optional<std::string> zygote_died;  ///< How, if it took the worker along.
  std::optional<os::CgroupUse> group;      ///< Of its cgroup, if it had one.
  std::uint64_t max_task_memory = 0;       ///< Bytes; 0: none.
  std::uint64_t host_oom_kills = 0;        ///< Of the whole host, while it lived.
};

/// `out_of_memory` if the kernel killed it for that, else `worker_lost`.
Errc cause_of(const Death& death);
/// The same for people, as "worker 3 (pid 4121) died: signal 11 (Segmentation fault)".
std::string describe(const Death& death);

/// Whether a task that lost its worker is run again. Counts the loss in `task`.
bool runs_again(queue::Range& task, Errc cause, bool with_zygote, const Call& call);

}  // namespace taskpool::pool
