#include "daemon/os/notify.hpp"

#include <systemd/sd-daemon.h>

#include <cstdint>

namespace taskpool::os {
namespace {

void notify(const std::string& state) { (void)::sd_notify(0, state.c_str()); }  // nobody could act on a failure

/// A line break would begin another assignment.
std::string one_line(std::string text) {
  for (char& c : text)
    if (c == '\n') c = ' ';
  return text;
}

}  // namespace

void notify_ready(const std::string& status) { notify("READY=1\nSTATUS=" + one_line(status)); }

void notify_reloading() {
  // Type=notify-reload compares this time with that of its own signal.
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  const auto us = std::chrono::duration_cast<std::chrono::microseconds>(now).count();
  notify("RELOADING=1\nMONOTONIC_USEC=" + std::to_string(us));
}

void notify_stopping(const std::string& status) { notify("STOPPING=1\nSTATUS=" + one_line(status)); }

void notify_watchdog() { notify("WATCHDOG=1"); }

std::optional<std::chrono::microseconds> watchdog_interval() {
  std::uint64_t us = 0;
  if (::sd_watchdog_enabled(0, &us) <= 0) return std::nullopt;
  return std::chrono::microseconds{static_cast<std::int64_t>(us / 2)};
}

}  // namespace taskpool::os
