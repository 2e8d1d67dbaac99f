#include "client/cpp/socket.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstring>

#include "proto/limits.hpp"

namespace taskpool::client {
namespace {

/// How much one read takes at most. Bytes.
constexpr std::size_t kReadBytes = 64 * 1024;

Error gone(const char* what) {
  return fail(Errc::daemon_gone, errno == 0 ? std::string{what} : errno_error(what).detail);
}

}  // namespace

Result<Fd> Socket::connect(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return fail(Errc::no_daemon, path + ": longer than a socket's path may be");
  std::memcpy(address.sun_path, path.data(), path.size());
  Fd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  if (!fd) return errno_error("socket");
  int connected;
  do {
    connected = ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  } while (connected != 0 && errno == EINTR);
  if (connected == 0) return fd;
  if (errno == ENOENT || errno == ECONNREFUSED || errno == ENOTDIR)
    return fail(Errc::no_daemon, "no daemon listens on " + path);
  if (errno == EACCES || errno == EPERM) return fail(Errc::permission_denied, path + ": " + std::strerror(errno));
  return errno_error(path);
}

Result<std::size_t> Socket::send(std::span<const std::byte> bytes, std::span<const int> fds) {
  iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxFrameFds)] = {};
  if (!fds.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
  }
  for (;;) {
    const auto sent = fds.empty() ? ::send(fd_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL)
                                  : ::sendmsg(fd_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0) return static_cast<std::size_t>(sent);
    if (errno == EAGAIN || errno == EWOULDBLOCK) return std::size_t{0};
    if (errno != EINTR) return gone("send");
  }
}

Result<Socket::Event> Socket::receive(FrameDecoder& decoder, std::deque<Fd>& fds, const Wait& wait) {
  // A plain blocking read saves the poll; anything else that may end the wait needs it.
  const bool plain = wait.may_block && !wait.deadline && !wait.for_write;
  for (;;) {
    const auto room = decoder.prepare(kReadBytes);
    iovec part{room.data(), std::min(room.size(), kReadBytes)};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxFrameFds * 4)];
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const auto got = ::recvmsg(fd_.get(), &message, MSG_CMSG_CLOEXEC | (plain ? 0 : MSG_DONTWAIT));
    if (got > 0) {
      for (auto* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        const auto count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (std::size_t i = 0; i < count; ++i) {
          int fd;
          std::memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
          fds.emplace_back(fd);
        }
      }
      decoder.commit(static_cast<std::size_t>(got));
      return Event::data;
    }
    if (got == 0) {
      errno = 0;
      return gone("the daemon closed the connection");
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN && errno != EWOULDBLOCK) return gone("recvmsg");
    if (!wait.may_block) return Event::timed_out;

    int timeout = -1;
    if (wait.deadline) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(*wait.deadline - Clock::now());
      if (left.count() <= 0) return Event::timed_out;
      timeout = static_cast<int>(std::min<std::int64_t>(left.count(), 1'000'000));
    }
    pollfd poll{fd_.get(), static_cast<short>(POLLIN | (wait.for_write ? POLLOUT : 0)), 0};
    if (::poll(&poll, 1, timeout) > 0 && (poll.revents & ~POLLOUT) == 0) return Event::writable;
  }
}

void Socket::wait_writable(std::chrono::milliseconds slice) {
  pollfd poll{fd_.get(), POLLOUT, 0};
  (void)::poll(&poll, 1, static_cast<int>(slice.count()));  // whatever happened, the caller tries again
}

void Socket::shut_down() { ::shutdown(fd_.get(), SHUT_RDWR); }

}  // namespace taskpool::client
