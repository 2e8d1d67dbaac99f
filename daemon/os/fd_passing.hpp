#pragma once

#include <sys/types.h>

#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "daemon/os/unique_fd.hpp"
#include "proto/result.hpp"

/// Unix stream sockets whose bytes may carry descriptors (SCM_RIGHTS, unix(7)).
namespace taskpool::os {

/// Descriptors that one message may carry. A peer that sends more gets an error.
inline constexpr std::size_t kMaxPassedFds = 32;

/// What one read brought.
struct Received {
  std::size_t bytes = 0;
  bool would_block = false;  ///< Nothing is there now.
  bool closed = false;       ///< The peer has closed its end and everything it sent was read.
};

/// Reads once, without waiting. Descriptors that came along are appended to `fds`, close-on-exec. If this process may
/// not open so many more, they are lost, and one empty UniqueFd stands for all that came with this message. Error: the
/// operating system's, ECONNRESET among them; EMSGSIZE if there were more than kMaxPassedFds, after which the
/// connection has to close.
Result<Received> receive(int fd, std::span<std::byte> into, std::vector<UniqueFd>& fds);
/// The same, but waits until something is there or the peer closed. For processes that do nothing else meanwhile.
Result<Received> receive_blocking(int fd, std::span<std::byte> into, std::vector<UniqueFd>& fds);

/// Takes those that came with a frame that says how many, out of what receive() has appended: so many, or none if they
/// were lost. Error: `bad_message`, there are not so many.
Result<std::vector<UniqueFd>> take_fds(std::vector<UniqueFd>& arrived, std::size_t wanted);

/// Writes once, without waiting, and returns how many bytes the socket took; 0: none now. `fds`, at most kMaxPassedFds,
/// travel with the first byte: they are sent if and only if the result is above 0. `bytes` is not empty.
Result<std::size_t> send(int fd, std::span<const std::byte> bytes, std::span<const int> fds = {});
/// Writes everything, waiting for room as long as the peer lives. EPIPE when it does not.
Result<void> send_all(int fd, std::span<const std::byte> bytes, std::span<const int> fds = {});

struct PeerCredentials {
  pid_t pid = 0;
  uid_t uid = 0;
  gid_t gid = 0;
};
/// Who connected, as the kernel saw it at that moment (SO_PEERCRED).
Result<PeerCredentials> peer_credentials(int fd);

/// The further groups of who connected, as the kernel saw them at that moment (SO_PEERGROUPS); none if it does not say.
std::vector<gid_t> peer_groups(int fd);

/// The process that connected, as a descriptor that becomes readable when it has ended, whoever has inherited its end
/// of the socket. Error: the operating system's, ESRCH among them: it has ended before.
Result<UniqueFd> peer_pidfd(int fd);

/// Two connected stream sockets, blocking and close-on-exec.
Result<std::pair<UniqueFd, UniqueFd>> socket_pair();

}  // namespace taskpool::os
