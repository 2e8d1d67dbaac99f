#pragma once

#include <optional>
#include <string>

#include "daemon/os/unique_fd.hpp"
#include "proto/result.hpp"

namespace taskpool::os {

/// A listening Unix socket that the service manager made and passed on, and where clients find it.
struct PassedSocket {
  UniqueFd fd;
  std::string path;
};

/// Takes over the socket that started this process, sd_listen_fds(3); nothing if it was started otherwise. Call it once, before any
/// thread or child: it removes the variables that tell of the socket. Errors: `bad_argument` when more than one descriptor was passed,
/// or one that is not a listening Unix stream socket with a path; `system`.
Result<std::optional<PassedSocket>> take_passed_socket();

}  // namespace taskpool::os
