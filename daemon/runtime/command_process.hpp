#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <string>

#include "daemon/runtime/command_guard.hpp"
#include "daemon/runtime/command_output.hpp"
#include "daemon/runtime/command_spec.hpp"
#include "proto/result.hpp"

namespace taskpool::runtime {

/// What surrounds a running command.
struct CommandControl {
  int interrupt_fd = -1;  ///< Readable once the task is asked to stop; -1: it never is. Not read, not closed.
  std::chrono::milliseconds stop_grace{2000};  ///< From SIGTERM to SIGKILL.
  std::chrono::milliseconds linger{100};       ///< How long the pipes of an ended command are still read.
  std::string out_path;                        ///< Where standard output is appended as it arrives; empty: nowhere.
  std::string err_path;
};

/// How a command ended.
struct CommandOutcome {
  pid_t pid = 0;
  int exit_code = 0;     ///< 128 + signal if a signal ended it.
  int signal = 0;        ///< 0: none.
  bool stopped = false;  ///< It was asked to stop before it ended.
  std::uint64_t user_us = 0;
  std::uint64_t system_us = 0;
  std::uint64_t max_rss_bytes = 0;
  BoundedOutput out{0};
  BoundedOutput err{0};
  std::string output_error;  ///< Why out_path or err_path is not complete; empty: they are.
};

/// Runs a command without a shell, in a process group of its own, and waits until it has ended. When the task is asked
/// to stop, the group gets SIGTERM, and SIGKILL after `stop_grace` or when the command itself has ended before that.
/// What a command leaves in the background on its own accord goes on running; its output is read for `linger` only.
///
/// Errors: the system's code when the program could not be started; detail names the step and the program or directory.
Result<CommandOutcome> run_command(const CommandSpec& spec, CommandGuard& guard, const CommandControl& control);

}  // namespace taskpool::runtime
