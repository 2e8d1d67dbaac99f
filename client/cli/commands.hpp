#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "proto/result.hpp"

namespace taskpool::cli {

/// What the program ends with; scripts rely on them.
enum Exit : int {
  kDone = 0,
  kFailed = 1,      ///< The request failed.
  kUsage = 2,       ///< The words on the command line, or an input, are wrong.
  kNoDaemon = 69,   ///< EX_UNAVAILABLE: nobody to ask.
  kTryAgain = 75,   ///< EX_TEMPFAIL: full or draining; nothing ran.
  kBadConfig = 78,  ///< EX_CONFIG: the daemon could not start with its configuration.
};
Exit exit_code(const Error& error);

/// Options that every command has.
struct Globals {
  std::string socket;  ///< Empty: the library's choice.
  bool json = false;
  bool quiet = false;
};

/// What one run of a command was given, beside its own options.
struct Invocation {
  Globals globals;
  std::vector<std::string> words;                   ///< Before `--`.
  std::optional<std::vector<std::string>> command;  ///< After `--`, if there was one.

  /// Every word, before and after `--`.
  std::vector<std::string> all_words() const;
  /// Throws UsageError unless there are between `least` and `most` words, and nothing after `--`.
  void expect_words(std::size_t least, std::size_t most) const;
};

/// A command line that makes no sense. Thrown while it is read and caught in main(), as CLI11's own errors are.
struct UsageError : CLI::Error {
  explicit UsageError(const std::string& what) : CLI::Error{"UsageError", what, kUsage} {}
};

/// Does what a command is for. Returns what the program ends with; an error is shown by main().
using Run = std::function<Result<int>(const Invocation&)>;

/// What the words of a command name, for completion.
enum class Completes { nothing, functions, pools, tasks, objects, shells, verbs };

/// One verb.
struct Command {
  std::string_view name;
  std::string_view words;     ///< "FUNCTION [INPUT...]"
  std::string_view summary;   ///< One line.
  std::string_view about;     ///< What else there is to know, or empty.
  std::string_view examples;  ///< Lines of "command   # what it does".
  Completes completes;
  /// Adds the command's options to `app` and returns what runs it.
  Run (*define)(CLI::App& app);
};

/// Every command, in the order in which help shows them.
std::span<const Command> commands();
const Command* find_command(std::string_view name);

/// The overview: `taskpool --help`.
std::string overview();
/// The page of one command.
std::string help_page(const Command& command);

/// Makes `app` the one of a command, with its own options. The Run owns what they write to.
Run define(const Command& command, CLI::App& app);
/// False for a flag.
bool takes_value(const CLI::Option& option);
/// Adds the options of Globals.
void add_globals(CLI::App& app, Globals& globals);

// The commands, one cmd_*.cpp for each family.
Run define_apply(CLI::App& app);
Run define_map(CLI::App& app);
Run define_submit(CLI::App& app);
Run define_wait(CLI::App& app);
Run define_result(CLI::App& app);
Run define_log(CLI::App& app);
Run define_cancel(CLI::App& app);
Run define_ps(CLI::App& app);
Run define_workers(CLI::App& app);
Run define_pools(CLI::App& app);
Run define_functions(CLI::App& app);
Run define_stats(CLI::App& app);
Run define_failures(CLI::App& app);
Run define_resize(CLI::App& app);
Run define_pause(CLI::App& app);
Run define_resume(CLI::App& app);
Run define_reload(CLI::App& app);
Run define_drain(CLI::App& app);
Run define_shutdown(CLI::App& app);
Run define_ping(CLI::App& app);
Run define_dict(CLI::App& app);
Run define_list(CLI::App& app);
Run define_value(CLI::App& app);
Run define_queue(CLI::App& app);
Run define_lock(CLI::App& app);
Run define_semaphore(CLI::App& app);
Run define_event(CLI::App& app);
Run define_objects(CLI::App& app);
Run define_locks(CLI::App& app);
Run define_watch(CLI::App& app);
Run define_remove(CLI::App& app);
Run define_completion(CLI::App& app);
Run define_complete(CLI::App& app);
Run define_help(CLI::App& app);
Run define_version(CLI::App& app);
Run define_whoami(CLI::App& app);

}  // namespace taskpool::cli
