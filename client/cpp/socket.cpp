#include "client/cpp/socket.hpp"

#include <poll.h>
#include <sys/eventfd.h>
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

/// What is left until the deadline, for poll(): 0 if it has passed, -1 if there is none.
int poll_timeout(const Deadline& deadline) {
  if (!deadline) return -1;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(*deadline - Clock::now());
  return static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 1'000'000));
}

}  // namespace

Result<std::shared_ptr<Socket>> Socket::wakeable(Fd fd) {
  auto socket = std::make_shared<Socket>(std::move(fd));
  socket->wake_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!socket->wake_) return errno_error("eventfd");
  return socket;
}

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

    const int timeout = poll_timeout(wait.deadline);
    if (timeout == 0) return Event::timed_out;
    pollfd poll{fd_.get(), static_cast<short>(POLLIN | (wait.for_write ? POLLOUT : 0)), 0};
    if (::poll(&poll, 1, timeout) > 0 && (poll.revents & ~POLLOUT) == 0) return Event::writable;
  }
}

void Socket::wait_writable(const Deadline& deadline) {
  pollfd polled[2]{{fd_.get(), POLLOUT, 0}, {wake_.get(), POLLIN, 0}};  // poll() ignores a -1
  (void)::poll(polled, 2, poll_timeout(deadline));                      // whatever happened, the caller tries again
  std::uint64_t woken;
  if (polled[1].revents != 0) (void)!::read(wake_.get(), &woken, sizeof woken);
}

void Socket::wake_writer() {
  const std::uint64_t once = 1;
  (void)!::write(wake_.get(), &once, sizeof once);  // cannot fail short of 2^64 calls
}

void Socket::shut_down() { ::shutdown(fd_.get(), SHUT_RDWR); }

}  // namespace taskpool::client
