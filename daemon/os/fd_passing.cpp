#include "daemon/os/fd_passing.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cstring>
#include <iterator>

namespace taskpool::os {
namespace {

constexpr std::size_t kControlBytes = CMSG_SPACE(kMaxPassedFds * sizeof(int));

/// Takes ownership of every descriptor in `message`.
void adopt_fds(msghdr& message, std::vector<UniqueFd>& fds) {
  for (auto* part = CMSG_FIRSTHDR(&message); part != nullptr; part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const auto count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int passed = -1;
      std::memcpy(&passed, CMSG_DATA(part) + i * sizeof(int), sizeof passed);
      fds.emplace_back(passed);
    }
  }
}

Result<Received> receive_with(int fd, std::span<std::byte> into, std::vector<UniqueFd>& fds, int flags) {
  alignas(cmsghdr) std::array<std::byte, kControlBytes> control;
  iovec part{into.data(), into.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t got = 0;
  do {
    got = ::recvmsg(fd, &message, flags | MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0) {
    if (errno == EAGAIN || errno == EWOULDBLOCK) return Received{.would_block = true};
    return errno_error("recvmsg");
  }
  const auto before = fds.size();
  if (message.msg_controllen > 0) adopt_fds(message, fds);
  if ((message.msg_flags & MSG_CTRUNC) != 0) {
    const bool too_many = fds.size() - before == kMaxPassedFds;
    fds.resize(before);
    if (too_many) return errno_error("recvmsg: too many descriptors", EMSGSIZE);
    fds.emplace_back();  // we may not open so many more
  }
  return Received{.bytes = static_cast<std::size_t>(got), .closed = got == 0 && !into.empty()};
}

ssize_t send_with(int fd, std::span<const std::byte> bytes, std::span<const int> fds, int flags) {
  alignas(cmsghdr) std::array<std::byte, kControlBytes> control{};
  iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};  // sendmsg(2) only reads it
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = CMSG_SPACE(fds.size_bytes());
  auto* rights = CMSG_FIRSTHDR(&message);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(fds.size_bytes());
  std::memcpy(CMSG_DATA(rights), fds.data(), fds.size_bytes());
  return ::sendmsg(fd, &message, flags);
}

void wait_for(int fd, short events) {
  pollfd wanted{fd, events, 0};
  (void)::poll(&wanted, 1, -1);  // an error shows in the read or write that follows
}

}  // namespace

Result<Received> receive(int fd, std::span<std::byte> into, std::vector<UniqueFd>& fds) {
  return receive_with(fd, into, fds, MSG_DONTWAIT);
}

Result<Received> receive_blocking(int fd, std::span<std::byte> into, std::vector<UniqueFd>& fds) {
  for (;;) {
    auto received = receive_with(fd, into, fds, 0);
    if (!received || !received->would_block) return received;
    wait_for(fd, POLLIN);  // somebody made this socket non-blocking
  }
}

Result<std::vector<UniqueFd>> take_fds(std::vector<UniqueFd>& arrived, std::size_t wanted) {
  std::vector<UniqueFd> fds;
  if (wanted == 0) return fds;
  if (!arrived.empty() && !arrived.front()) {  // stands for all that came with that frame
    arrived.erase(arrived.begin());
    return fds;
  }
  if (wanted > arrived.size()) return fail(Errc::bad_message, "fds: the descriptors did not arrive");
  const auto end = arrived.begin() + static_cast<std::ptrdiff_t>(wanted);
  fds.assign(std::make_move_iterator(arrived.begin()), std::make_move_iterator(end));
  arrived.erase(arrived.begin(), end);
  return fds;
}

Result<std::size_t> send(int fd, std::span<const std::byte> bytes, std::span<const int> fds) {
  assert(!bytes.empty() && fds.size() <= kMaxPassedFds);
  constexpr int kFlags = MSG_DONTWAIT | MSG_NOSIGNAL;
  ssize_t sent = 0;
  do {
    sent = fds.empty() ? ::send(fd, bytes.data(), bytes.size(), kFlags) : send_with(fd, bytes, fds, kFlags);
  } while (sent < 0 && errno == EINTR);
  if (sent >= 0) return static_cast<std::size_t>(sent);
  if (errno == EAGAIN || errno == EWOULDBLOCK) return std::size_t{0};
  return errno_error("send");
}

Result<void> send_all(int fd, std::span<const std::byte> bytes, std::span<const int> fds) {
  while (!bytes.empty()) {
    const auto sent = send(fd, bytes, fds);
    if (!sent) return sent.error();
    if (*sent == 0) {
      wait_for(fd, POLLOUT);
      continue;
    }
    bytes = bytes.subspan(*sent);
    fds = {};
  }
  return {};
}

Result<PeerCredentials> peer_credentials(int fd) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) return errno_error("SO_PEERCRED");
  return PeerCredentials{credentials.pid, credentials.uid, credentials.gid};
}

std::vector<gid_t> peer_groups(int fd) {
  std::vector<gid_t> groups(32);
  for (int attempt = 0; attempt < 2; ++attempt) {
    socklen_t size = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
    const int failed = ::getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size);
    groups.resize(size / sizeof(gid_t));
    if (failed == 0) return groups;
    if (errno != ERANGE) break;  // else `size` now says what is needed
  }
  return {};
}

Result<UniqueFd> peer_pidfd(int fd) {
#ifndef SO_PEERPIDFD
  constexpr int SO_PEERPIDFD = 77;  // until Debian 13: Linux 6.5, asm-generic/socket.h
#endif
  int pidfd = -1;
  socklen_t size = sizeof pidfd;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size) == 0) return UniqueFd{pidfd};
  if (errno != ENOPROTOOPT) return errno_error("SO_PEERPIDFD");
  const auto peer = peer_credentials(fd);  // an older kernel; the number may be another process's if that one has ended
  if (!peer) return peer.error();
  UniqueFd opened{static_cast<int>(::syscall(SYS_pidfd_open, peer->pid, 0))};
  if (!opened) return errno_error("pidfd_open");
  return opened;
}

Result<std::pair<UniqueFd, UniqueFd>> socket_pair() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) return errno_error("socketpair");
  return std::pair{UniqueFd{ends[0]}, UniqueFd{ends[1]}};
}

}  // namespace taskpool::os
