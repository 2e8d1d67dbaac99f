#include "daemon/runtime/interrupts.hpp"

#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

namespace taskpool::runtime {
namespace {

// What the signal handler works on: it has no argument through which this could come.
const ClaimPage* handler_page = nullptr;
int handler_fd = -1;
volatile sig_atomic_t was_raised = 0;

/// Only what signal-safety(7) allows: atomic reads, write().
void on_interrupt(int) {
  const int saved = errno;
  if (pending_interrupt(*handler_page) != Interrupt::none) {
    const std::uint64_t one = 1;
    was_raised = 1;
    if (::write(handler_fd, &one, sizeof one) < 0) errno = saved;  // full: it is readable already
  }
  errno = saved;
}

}  // namespace

Interrupt pending_interrupt(const ClaimPage& page) {
  const auto word = page.interrupt.load(std::memory_order_acquire);
  const auto reason = static_cast<std::uint32_t>(word >> 32);
  const bool is_meant = static_cast<Ticket>(word) == page.running.load(std::memory_order_relaxed) + 1 &&
                        page.busy.load(std::memory_order_relaxed) != 0;
  if (!is_meant || reason == 0) return Interrupt::none;
  return reason == static_cast<std::uint32_t>(Interrupt::soft_timeout) ? Interrupt::soft_timeout : Interrupt::cancel;
}

Result<Interrupts> Interrupts::install(const ClaimPage& page) {
  Interrupts interrupts;
  interrupts.fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (interrupts.fd_ < 0) return errno_error("eventfd");
  handler_page = &page;
  handler_fd = interrupts.fd_;
  struct sigaction action {};
  action.sa_handler = on_interrupt;  // no SA_RESTART: the point is that blocking calls return
  if (::sigaction(SIGUSR1, &action, nullptr) != 0) return errno_error("sigaction");
  return interrupts;
}

void Interrupts::forget() {
  if (was_raised == 0) return;
  was_raised = 0;
  std::uint64_t count = 0;
  if (::read(fd_, &count, sizeof count) < 0) return;  // it was empty, or the task closed it
}

}  // namespace taskpool::runtime
