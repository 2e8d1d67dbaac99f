#include "daemon/server/socket_path.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "daemon/os/names.hpp"

namespace taskpool::server {

namespace {

/// Connections that wait to be accepted; the kernel cuts it to net.core.somaxconn.
constexpr int kBacklog = 1024;

/// Held as long as a daemon serves `path`.
Result<os::UniqueFd> take_lock(const std::string& path) {
  os::UniqueFd lock{::open((path + ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)};
  if (!lock) return errno_error("open '" + path + ".lock'");
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) == 0) return lock;
  if (errno == EWOULDBLOCK) return fail(Errc::already_running, "socket: another taskpoold serves '" + path + "'");
  return errno_error("lock '" + path + ".lock'");
}

Result<void> remove_stale(std::string_view key, const std::string& path, const sockaddr_un& address) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) {
    if (errno == ENOENT) return boost::system::in_place_value;
    return errno_error("socket '" + path + "'");
  }
  if (!S_ISSOCK(status.st_mode))
    return fail(Errc::bad_argument, fmt::format("{}: '{}' exists and is not a socket", key, path));
  const os::UniqueFd probe{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  if (!probe) return errno_error("socket");
  if (::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 || errno == EAGAIN)
    return fail(Errc::already_running, fmt::format("{}: somebody listens on '{}'", key, path));
  if (errno != ECONNREFUSED) return errno_error("socket '" + path + "'");
  if (::unlink(path.c_str()) != 0) return errno_error("remove the stale socket '" + path + "'");
  return boost::system::in_place_value;
}

Result<void> set_access(std::string_view key, const std::string& path, mode_t mode, const std::string& group) {
  if (!group.empty()) {
    const auto gid = os::find_group(group);
    if (!gid) return fail(Errc::bad_argument, fmt::format("{}_group: there is no group '{}'", key, group));
    if (::lchown(path.c_str(), static_cast<uid_t>(-1), *gid) != 0)
      return errno_error(fmt::format("{}_group '{}'", key, group));
  }
  if (::chmod(path.c_str(), mode) != 0) return errno_error(fmt::format("{}_mode of '{}'", key, path));
  return boost::system::in_place_value;
}

}  // namespace

Result<SocketPath> SocketPath::listen(std::string_view key, const std::string& path, mode_t mode,
                                      const std::string& group) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return fail(Errc::bad_argument,
                fmt::format("{}: '{}' is longer than {} bytes", key, path, sizeof address.sun_path - 1));
  std::memcpy(address.sun_path, path.c_str(), path.size());

  auto lock = take_lock(path);
  if (!lock) return lock.error();
  if (const auto removed = remove_stale(key, path, address); !removed) return removed.error();

  os::UniqueFd socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  if (!socket) return errno_error("socket");
  const auto before = ::umask(0177);  // nobody gets in before the mode is set
  const int bound = ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  const int why = errno;
  ::umask(before);
  if (bound != 0) return errno_error("socket '" + path + "'", why);
  SocketPath made{path, std::move(socket), std::move(*lock), true};
  if (const auto set = set_access(key, path, mode, group); !set) return set.error();
  if (::listen(made.fd(), kBacklog) != 0) return errno_error("listen on '" + path + "'");
  return made;
}

Result<SocketPath> SocketPath::adopt(os::PassedSocket passed) {
  auto lock = take_lock(passed.path);
  if (!lock) return lock.error();
  return SocketPath{std::move(passed.path), std::move(passed.fd), std::move(*lock), false};
}

SocketPath::~SocketPath() { close(); }

void SocketPath::close() {
  if (!socket_) return;
  socket_.reset();
  if (owns_path_) ::unlink(path_.c_str());
  // The lock's file stays: removing it would let two daemons lock two files of one name.
  lock_.reset();
}

}  // namespace taskpool::server
