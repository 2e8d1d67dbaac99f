#pragma once

#include <chrono>
#include <optional>
#include <string>

/// Messages to the service manager, sd_notify(3). Each does nothing where $NOTIFY_SOCKET is not set.
namespace taskpool::os {

/// The daemon takes requests; also ends reloading. `status` is one line for `systemctl status`.
void notify_ready(const std::string& status);
void notify_reloading();
void notify_stopping(const std::string& status);
void notify_watchdog();

/// How often to call notify_watchdog(): half of what the service manager waits; nothing if it does not.
std::optional<std::chrono::microseconds> watchdog_interval();

}  // namespace taskpool::os
