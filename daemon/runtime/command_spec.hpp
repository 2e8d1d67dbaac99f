#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "proto/limits.hpp"
#include "proto/result.hpp"

namespace taskpool::runtime {

/// One command to run. PROTOCOL.md, section 3.4.
struct CommandSpec {
  std::vector<std::string> argv{};                   ///< At least one word; the first names the program.
  std::string cwd{};                                 ///< Empty: the worker's own.
  std::map<std::string, std::string> environment{};  ///< Added to the worker's own, or replacing what is there.
  std::string stdin_text{};                          ///< Empty: /dev/null.
  bool keep_output = false;                          ///< Also append the output to files while it arrives.
  std::size_t max_output_bytes = kDefaultOutputBytes;
};

/// Reads a command from its item and from the call's `command` object, either of which may be hostile. `item` is a JSON
/// array of words, or an object with `argv` and any of the options; `options` is an object of options, or empty. What
/// the item says wins; `environment` is merged. `output_bytes` is the bound on output if neither says one. Error:
/// `bad_argument`; detail names the field.
Result<CommandSpec> read_command(std::string_view item, std::string_view options,
                                 std::size_t output_bytes = kDefaultOutputBytes);

}  // namespace taskpool::runtime
