#include "daemon/pool/death.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <csignal>

#include "daemon/os/process.hpp"
#include "proto/limits.hpp"

namespace taskpool::pool {

namespace {

/// True if it was killed from outside, or may have been.
bool may_be_killed(const Death& death) { return !death.exited || death.exited->signal == SIGKILL; }

std::string memory_story(const Death& death) {
  // Below 5.19 the group does not know its peak; the worker's own then has to do.
  const auto own = death.exited ? death.exited->max_rss_bytes : 0;
  const auto peak = death.group->peak_bytes > 0 ? death.group->peak_bytes : own;
  if (death.max_task_memory == 0) return fmt::format("peak {} bytes; it has no max_task_memory of its own", peak);
  return fmt::format("peak {} bytes, max_task_memory {} bytes", peak, death.max_task_memory);
}

}  // namespace

Errc cause_of(const Death& death) {
  const bool counted = death.group && death.group->oom_kills > 0;
  return counted && !death.zygote_died && may_be_killed(death) ? Errc::out_of_memory : Errc::worker_lost;
}

std::string describe(const Death& death) {
  const auto who = fmt::format("worker {} (pid {})", death.worker, death.pid);
  if (cause_of(death) == Errc::out_of_memory) return who + " was killed for memory: " + memory_story(death);
  auto text = who + " died";
  if (death.exited)
    text += ": " + os::describe({.code = static_cast<int>(death.exited->exit_code),
                                 .signal = static_cast<int>(death.exited->signal)});
  if (death.zygote_died) text += " with its zygote: " + *death.zygote_died;
  if (!death.zygote_died && may_be_killed(death) && death.host_oom_kills > 0)
    text += fmt::format("; while it lived the kernel killed {} process{} of this host for want of memory",
                        death.host_oom_kills, death.host_oom_kills == 1 ? "" : "es");
  return text;
}

bool runs_again(queue::Range& task, Errc cause, bool with_zygote, const Call& call) {
  if (cause == Errc::out_of_memory) {
    ++task.memory_deaths;
    return task.memory_deaths <= call.oom_retries;
  }
  if (with_zygote) {  // hardly the task's doing, unless it comes again and again
    ++task.zygote_deaths;
    return call.lost_retries > 0 && task.zygote_deaths < kMaxZygoteDeathsPerTask;
  }
  ++task.deaths;
  return task.deaths <= std::min(call.lost_retries, kMaxDeathsPerTask - 1);
}

}  // namespace taskpool::pool
