#include "daemon/os/activation.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

namespace taskpool::os {

namespace {

constexpr std::string_view kAdminName = "admin";

Result<PassedSocket> take(UniqueFd fd) {
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

}  // namespace

Result<PassedSockets> take_passed_sockets() {
  char** listed = nullptr;
  const int count = ::sd_listen_fds_with_names(/*unset_environment=*/1, &listed);
  if (count < 0) return errno_error("sd_listen_fds", -count);
  std::vector<UniqueFd> admin;
  std::vector<UniqueFd> clients;
  for (int at = 0; at < count; ++at) {
    (listed[at] == kAdminName ? admin : clients).emplace_back(SD_LISTEN_FDS_START + at);
    std::free(listed[at]);
  }
  std::free(listed);

  PassedSockets passed;
  for (auto [fds, socket] : {std::pair{&clients, &passed.clients}, std::pair{&admin, &passed.admin}}) {
    if (fds->size() > 1)
      return fail(Errc::bad_argument, "the service manager passed " + std::to_string(fds->size()) +
                                          " sockets of a kind: taskpoold serves one, and one named 'admin'");
    if (fds->empty()) continue;
    auto taken = take(std::move(fds->front()));
    if (!taken) return taken.error();
    *socket = std::move(*taken);
  }
  return passed;
}

}  // namespace taskpool::os
