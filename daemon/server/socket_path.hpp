#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>

#include "daemon/os/activation.hpp"
#include "daemon/os/unique_fd.hpp"
#include "proto/result.hpp"

namespace taskpool::server {

/// A listening Unix socket and the lock that proves that this daemon, and no other, serves its path. Both end with it:
/// the path is removed, unless the service manager owns it.
class SocketPath {
 public:
  /// Listens on `path`. A stale socket, left by a daemon that was killed, is removed once the lock beside it was taken
  /// and a connection was refused. Errors: `already_running`; `system`; `bad_argument` (the path is too long, or is not
  /// a socket). Errors call it `key`: "socket", "admin_socket", "metrics_listen".
  static Result<SocketPath> listen(std::string_view key, const std::string& path, mode_t mode,
                                   const std::string& group);
  /// Serves a socket that the service manager listens on. Its path, mode and group stay as they are, also at the end:
  /// clients that come then wait for the next daemon. Errors: `already_running`; `system`.
  static Result<SocketPath> adopt(os::PassedSocket passed);

  SocketPath(SocketPath&&) = default;
  SocketPath& operator=(SocketPath&&) = delete;
  ~SocketPath();

  int fd() const { return socket_.get(); }
  const std::string& path() const { return path_; }
  /// Stops listening and removes the path, if it is this daemon's: later clients find no daemon.
  void close();

 private:
  SocketPath(std::string path, os::UniqueFd socket, os::UniqueFd lock, bool owns_path)
      : path_{std::move(path)}, socket_{std::move(socket)}, lock_{std::move(lock)}, owns_path_{owns_path} {}

  std::string path_;
  os::UniqueFd socket_;
  os::UniqueFd lock_;
  bool owns_path_;
};

}  // namespace taskpool::server
