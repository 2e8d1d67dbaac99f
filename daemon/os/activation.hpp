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

struct PassedSockets {
  std::optional<PassedSocket> clients;
  std::optional<PassedSocket> admin;  ///< The one whose name is "admin" (FileDescriptorName= of its unit).
};

/// Takes over the sockets that started this process, sd_listen_fds(3); none if it was started otherwise. Call it once,
/// before any thread or child: it removes the variables that tell of them. Errors: `bad_argument` when more than one of
/// a kind was passed, or one that is not a listening Unix stream socket with a path; `system`.
Result<PassedSockets> take_passed_sockets();

}  // namespace taskpool::os
