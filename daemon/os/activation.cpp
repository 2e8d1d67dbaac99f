#include "daemon/os/activation.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>

#include <cstddef>
#include <cstring>

namespace taskpool::os {

Result<std::optional<PassedSocket>> take_passed_socket() {
  const int count = ::sd_listen_fds(/*unset_environment=*/1);
  if (count < 0) return errno_error("sd_listen_fds", -count);
  if (count == 0) return std::optional<PassedSocket>{};
  if (count > 1)
    return fail(Errc::bad_argument, "the service manager passed " + std::to_string(count) + " sockets: taskpoold serves one");
  UniqueFd fd{SD_LISTEN_FDS_START};
  if (::sd_is_socket_unix(fd.get(), SOCK_STREAM, /*listening=*/1, nullptr, 0) <= 0)
    return fail(Errc::bad_argument, "the service manager passed a descriptor that is no listening Unix stream socket");
  // It is accepted from until nothing waits, so it must not block; whether it does is up to who made it.
  if (::fcntl(fd.get(), F_SETFL, ::fcntl(fd.get(), F_GETFL) | O_NONBLOCK) != 0) return errno_error("fcntl");

  sockaddr_un address{};
  socklen_t bytes = sizeof address;
  if (::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &bytes) != 0) return errno_error("getsockname");
  if (bytes <= offsetof(sockaddr_un, sun_path) || address.sun_path[0] == '\0')
    return fail(Errc::bad_argument, "the service manager passed a socket without a path");
  const auto room = bytes - offsetof(sockaddr_un, sun_path);
  return PassedSocket{std::move(fd), std::string{address.sun_path, ::strnlen(address.sun_path, room)}};
}

}  // namespace taskpool::os
