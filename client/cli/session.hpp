#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "client/cli/arguments.hpp"
#include "client/cli/commands.hpp"
#include "client/cli/output.hpp"
#include "taskpool/client.hpp"

namespace taskpool::cli {

/// Whether a command that finds no daemon starts the user's own. What only looks at one does not.
enum class Autostart { no, yes };
Result<Client> connect(const Globals& globals, Autostart autostart);

/// The options that apply, map and submit share.
struct CallFlags {
  std::string pool;
  CallOptions options;

  void define(CLI::App& app);
  /// The call of `function`.
  Call call(const std::string& function) const;
  /// The call of a command, in the pool for commands unless another was named.
  Call command_call() const;
};

/// An option whose value is a time, as parse_duration() reads it.
void add_duration(CLI::App& app, const std::string& name, std::function<void(std::chrono::milliseconds)> set,
                  const std::string& description);
/// The flag --lines.
void add_format(CLI::App& app, Format& format);

/// Where and how a command of this user's runs: this directory and these variables. It becomes the `command` of a call,
/// or part of a command's item. At most `max_bytes` as JSON: above, the longest variables are left out and named on
/// standard error.
nlohmann::json command_surroundings(std::size_t max_bytes);
/// The item of one command with its surroundings; its output is kept for `log`. `with_stdin`: what this program reads
/// from standard input, all of it, becomes the command's. Errors: `bad_argument` if something is not UTF-8.
Result<std::string> command_item(const std::vector<std::string>& words, bool with_stdin);

/// A result as text: JSON on one line, or, in text format, a string or bytes as they are. Error: `bad_message` for
/// bytes that JSON cannot hold.
Result<std::string> render(const Item& value, Format format);
/// An error as the object that --json prints.
nlohmann::json error_json(const ErrorHead& error);
/// The code's name on the wire; "system" for the operating system's.
std::string_view code_name(const Error& error);

/// Writes to standard output at once. Error: `system`.
Result<void> print(std::string_view text);
/// Writes "taskpool: TEXT" to standard error.
void complain(std::string_view text);
void complain(const Error& error);

}  // namespace taskpool::cli
