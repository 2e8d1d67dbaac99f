#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>

namespace taskpool::os {

/// Memory that a process has in RAM. Bytes; 0 if there is no such process any more.
std::uint64_t resident_bytes(pid_t pid);
/// CPU time of a process, of its children as far as they were waited for, and of all below it that are still there. To
/// the kernel's tick, 10 ms as a rule. Descendants whose parents have ended do not count.
std::chrono::microseconds cpu_time_of_tree(pid_t root);
/// True for a process that a signal has stopped and none has continued; not for one that a debugger holds.
bool is_stopped(pid_t pid);
/// How many processes of this host the kernel has killed because memory ran out, since it started; 0 if it does not
/// say.
std::uint64_t oom_kills_of_host();

}  // namespace taskpool::os
