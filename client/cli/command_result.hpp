#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "proto/result.hpp"

namespace taskpool::cli {

/// What a command task returned. PROTOCOL.md, "The command runtime".
struct CommandResult {
  int exit_code = 0;
  int signal = 0;  ///< That killed it, or 0.
  std::string stdout_bytes;
  std::string stderr_bytes;
  bool truncated = false;

  bool failed() const { return exit_code != 0 || signal != 0; }
  /// What a shell calls its exit code: 128 + N for one that signal N killed.
  int shell_code() const { return signal != 0 ? 128 + signal : exit_code; }
};

/// Reads a command task's result. Error: `bad_message` if it is something else.
Result<CommandResult> read_command_result(std::string_view json);

/// "exit code 3", "killed by signal 9 (Killed)".
std::string describe_end(const CommandResult& result);

/// The number of failed commands as an exit code: at most 101, as GNU parallel has it, so that it cannot be taken for a
/// signal.
int failures_exit_code(std::uint64_t failed);

}  // namespace taskpool::cli
