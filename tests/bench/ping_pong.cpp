#include "tests/bench/ping_pong.hpp"

#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <stdexcept>

#include "daemon/os/unique_fd.hpp"
#include "tests/bench/bench.hpp"

namespace taskpool::bench {
namespace {

using Message = std::array<char, 64>;

bool exchange(int fd, Message& message, bool first) {
  const auto send = [&] { return ::write(fd, message.data(), message.size()) == static_cast<ssize_t>(message.size()); };
  const auto receive = [&] {
    return ::recv(fd, message.data(), message.size(), MSG_WAITALL) == static_cast<ssize_t>(message.size());
  };
  return first ? send() && receive() : receive() && send();
}

}  // namespace

std::vector<double> ping_pong_round_trips(std::size_t count) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) throw std::runtime_error("socketpair failed");
  os::UniqueFd near{ends[0]};
  os::UniqueFd far{ends[1]};
  Message message{};
  const pid_t pid = ::fork();
  if (pid < 0) throw std::runtime_error("fork failed");
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::close(near.get());
    while (exchange(far.get(), message, false)) continue;
    ::_exit(0);
  }
  far.reset();
  std::vector<double> times;
  times.reserve(count);
  bool works = true;
  for (std::size_t i = 0; works && i < count / 10 + 100; ++i) works = exchange(near.get(), message, true);
  for (std::size_t i = 0; works && i < count; ++i) {
    const auto begun = Clock::now();
    works = exchange(near.get(), message, true);
    times.push_back(seconds_since(begun) * 1e6);
  }
  near.reset();
  ::waitpid(pid, nullptr, 0);
  if (!works) throw std::runtime_error("the other process ended");
  return times;
}

}  // namespace taskpool::bench
