#include "client/cli/interrupts.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <system_error>

namespace taskpool::cli {
namespace {

constexpr std::array<int, 2> kSignals{SIGINT, SIGTERM};

// A handler reaches nothing but globals.
std::atomic<int> g_stop_fd{-1};
std::atomic<int> g_signal{0};
static_assert(std::atomic<int>::is_always_lock_free);

void make_readable(int event_fd) {
  const std::uint64_t one = 1;
  (void)!::write(event_fd, &one, sizeof one);
}

extern "C" void on_signal(int number) {
  if (g_signal.exchange(number) != 0) ::_exit(128 + number);
  const int saved = errno;
  make_readable(g_stop_fd.load());
  errno = saved;
}

}  // namespace

Interrupts::Interrupts() : stop_fd_{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)} {
  if (stop_fd_ < 0) throw std::system_error{errno, std::generic_category(), "cannot watch for signals"};
  g_stop_fd = stop_fd_;
  g_signal = 0;
  for (const int number : kSignals) {
    struct sigaction action {};
    if (::sigaction(number, nullptr, &action) == 0 && action.sa_handler == SIG_IGN) continue;
    action = {};
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART;
    ::sigaction(number, &action, nullptr);
  }
}

Interrupts::~Interrupts() {
  for (const int number : kSignals) {
    struct sigaction action {};
    if (::sigaction(number, nullptr, &action) == 0 && action.sa_handler == on_signal) ::signal(number, SIG_DFL);
  }
  g_stop_fd = -1;
  ::close(stop_fd_);
}

int Interrupts::signal() const { return g_signal.load(); }

void Interrupts::stop() const { make_readable(stop_fd_); }

}  // namespace taskpool::cli
