#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>

#include "daemon/os/unique_fd.hpp"
#include "daemon/runtime/channel.hpp"
#include "daemon/runtime/modules.hpp"
#include "proto/message.hpp"

namespace taskpool::runtime {

/// A started native runtime: loads modules once, then forks a worker each time the supervisor asks. PROTOCOL.md,
/// section 3.3. It has one thread, so that fork() is safe, and does as little as it can afterwards: every page it
/// touches is copied in each worker.
class Zygote {
 public:
  /// `control` is connected to the supervisor. `modules` has what is built in.
  Zygote(os::UniqueFd control, Modules modules);
  /// Serves the supervisor until it closes the control channel. Returns the process's exit code.
  int run();

 private:
  /// Reads what has arrived. False: the zygote has to end.
  bool serve_control();
  bool handle(IncomingFrame& frame);
  void start(const FrameView& frame);
  void fork_worker(IncomingFrame& frame);
  /// Forks. What cannot be done is the error; detail says what.
  Result<void> fork_worker(const Fork& wanted, std::vector<os::UniqueFd> stdio);
  /// Reaps workers that have exited, and tells the supervisor.
  void report_exits();
  void send(const Prefix& prefix, std::string_view head, std::span<const int> fds = {});

  Channel control_;
  os::UniqueFd exits_;  ///< A signalfd for SIGCHLD.
  Modules modules_;
  std::string spool_;
  std::map<pid_t, std::uint32_t> workers_;  ///< Not reaped yet; the supervisor's numbers for them.
  bool is_failed_ = false;                  ///< The control channel has broken, or it could not start.
};

}  // namespace taskpool::runtime
