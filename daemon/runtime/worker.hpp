#pragma once

#include <string>

#include "daemon/os/memory.hpp"
#include "daemon/os/unique_fd.hpp"
#include "daemon/runtime/modules.hpp"
#include "proto/message.hpp"

namespace taskpool::runtime {

/// Exit code of a worker that could not begin.
inline constexpr int kExitStartFailed = 1;

/// What a worker begins with.
struct WorkerStart {
  os::UniqueFd channel;     ///< Its end of the worker channel.
  os::SharedMemory shared;  ///< The claim page and the outbox.
  Fork fork;                ///< What the supervisor asked for.
  std::string spool;        ///< Directory for captured output; may be empty.
};

/// Runs the tasks that the supervisor sends until it closes the channel: the life of a worker process. Calls the
/// initializer first, if there is one. Returns the process's exit code. Modules must outlive the call.
int run_worker(const Modules& modules, WorkerStart start);

}  // namespace taskpool::runtime
