#pragma once

#include <cstdint>
#include <string>

#include "client/cpp/link.hpp"
#include "proto/result.hpp"

namespace taskpool::client {

/// The path of this user's private daemon's socket: in $XDG_RUNTIME_DIR/taskpool, else in taskpool-UID below /dev/shm
/// or /tmp. The name has the build id, so that a rebuilt tree does not meet yesterday's daemon.
std::string private_socket_name();

/// Starts the private daemon on `socket` and waits until it listens, unless another process does so first. The
/// directory is made if need be, and has to be ours alone. The program is looked for in $TASKPOOL_HOME/bin, beside this
/// program, in $PATH. Errors: `no_daemon` (no program, or it ended; detail has the log's last line),
/// `permission_denied` (the directory is somebody else's), `timed_out`.
Result<void> start_private_daemon(const std::string& socket, const Deadline& deadline);

/// Whether the daemon with this pid runs the very file that start_private_daemon() would start now.
bool is_current_program(std::uint64_t pid);

/// Tells a daemon to shut down once its work is done, and waits a moment for its socket to close.
void dismiss(Link& link, const Deadline& deadline);

}  // namespace taskpool::client
