#pragma once

#include <cstdint>
#include <string>

#include "proto/result.hpp"

namespace taskpool::os {

/// What a process sets itself, and its children inherit: both the soft and the hard limit, so that nobody below can
/// raise them. 0 and empty leave what is there.
struct ProcessLimits {
  std::string cgroup;            ///< A cgroup's directory, which the process enters.
  std::uint64_t data_bytes = 0;  ///< Private writable memory, of each process: RLIMIT_DATA.
  std::uint32_t processes = 0;   ///< All processes and threads of this uid: RLIMIT_NPROC.
  std::uint32_t open_files = 0;  ///< Descriptors, of each process: RLIMIT_NOFILE.
  int nice = 0;                  ///< Added to what the process has.
};

/// Sets them in the calling process, the cgroup first: what comes later counts there. Error: the operating system's;
/// the detail names the limit.
Result<void> apply(const ProcessLimits& limits);

/// The most open files that a process of ours may be given.
std::uint64_t most_open_files();
/// Whether the kernel holds this process to RLIMIT_NPROC: not if it has the rights of root.
bool is_bound_by_process_limit();

}  // namespace taskpool::os
