#pragma once

#include <sys/types.h>

#include "daemon/os/unique_fd.hpp"
#include "daemon/runtime/command_guard.hpp"
#include "daemon/runtime/command_spec.hpp"
#include "proto/result.hpp"

namespace taskpool::runtime {

/// A command that has just been started.
struct StartedCommand {
  pid_t pid = 0;       ///< Also the number of its process group.
  os::UniqueFd pidfd;  ///< Readable once it has ended.
  os::UniqueFd out;    ///< Non-blocking read ends of its output pipes.
  os::UniqueFd err;
};

/// Starts a command the way vfork and exec do: no copy of the worker's page tables, and exec's error comes back through
/// shared memory. The program is looked for in the PATH that the command itself will see. Errors: see run_command().
Result<StartedCommand> start_command(const CommandSpec& spec, CommandGuard& guard);

}  // namespace taskpool::runtime
