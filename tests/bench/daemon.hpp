#pragma once

#include <sys/types.h>

#include <string>

#include "daemon/os/process.hpp"
#include "taskpool/client.hpp"
#include "tests/bench/programs.hpp"

namespace taskpool::bench {

/// How a figure wants its daemon.
struct DaemonOptions {
  unsigned workers = 2;
  bool commands = false;  ///< Also a pool of two workers that runs programs.
  std::string extra{};    ///< Further lines at the top of the configuration.
  std::string pools{};    ///< And at its end.
};

/// A supervisor of this build with a socket of its own, the demo module and the bench's; stopped by the destructor. It
/// and its children run where this process does.
class Daemon {
 public:
  explicit Daemon(const DaemonOptions& options = {});
  ~Daemon();
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  pid_t pid() const { return child_.pid; }
  const std::string& socket() const { return socket_; }
  /// A new session.
  Client connect() const;

 private:
  TemporaryFolder folder_;
  std::string socket_;
  os::Child child_;
};

/// The value, or an exception with the error's words: a figure that cannot be measured is reported as that.
template <class T>
T need(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().detail);
  return std::move(*result);
}

}  // namespace taskpool::bench
