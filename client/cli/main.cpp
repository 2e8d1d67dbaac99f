#include <fmt/format.h>
#include <algorithm>
#include <cctype>
#include <csignal>
#include <string>
#include <vector>

#include "client/cli/commands.hpp"
#include "client/cli/session.hpp"

namespace taskpool::cli {
namespace {

int show(const std::string& text) {
  const auto printed = print(text);
  if (printed) return kDone;
  if (printed.error().code == boost::system::errc::broken_pipe) end_like_sigpipe();
  complain(printed.error());
  return kFailed;
}

/// Cuts the words behind the first `--` off: they are nobody's options.
std::optional<std::vector<std::string>> take_command(std::vector<std::string>& words) {
  const auto dashes = std::find(words.begin(), words.end(), "--");
  if (dashes == words.end()) return std::nullopt;
  std::vector<std::string> command{dashes + 1, words.end()};
  words.erase(dashes, words.end());
  return command;
}

/// The App leaves words that it does not know; a mistyped option among them must not become an input.
void refuse_unknown_options(const std::vector<std::string>& words) {
  for (const auto& word : words) {
    const bool is_number = word.size() > 1 && (std::isdigit(static_cast<unsigned char>(word[1])) || word[1] == '.');
    if (word.size() > 1 && word[0] == '-' && !is_number)
      throw UsageError("unknown option " + word + " (behind -- it would be an ordinary word)");
  }
}

void parse(CLI::App& app, std::vector<std::string> words) {
  std::reverse(words.begin(), words.end());  // App::parse takes them from the back
  app.parse(std::move(words));
}

int run_command(const Command& command, Invocation invocation, std::vector<std::string> words) {
  CLI::App app;
  const Run run = define(command, app);
  add_globals(app, invocation.globals);
  invocation.command = take_command(words);
  parse(app, std::move(words));
  invocation.words = app.remaining();
  refuse_unknown_options(invocation.words);
  const auto code = run(invocation);
  if (code) return *code;
  if (code.error().code == boost::system::errc::broken_pipe) end_like_sigpipe();
  complain(code.error());
  return exit_code(code.error());
}

int run(std::vector<std::string> words) {
  CLI::App app;
  Invocation invocation;
  bool version = false;
  app.set_help_flag("-h,--help", "Show this");
  app.add_flag("--version", version, "Show the version");
  add_globals(app, invocation.globals);
  app.prefix_command();
  std::string verb;
  try {
    parse(app, std::move(words));
    auto rest = app.remaining();
    if (version) rest.insert(rest.begin(), "version");
    if (rest.empty()) throw UsageError("no command");
    verb = rest.front();
    rest.erase(rest.begin());
    const auto* const command = find_command(verb);
    if (!command) {
      refuse_unknown_options({verb});
      throw UsageError("there is no command '" + verb + "'");
    }
    return run_command(*command, std::move(invocation), std::move(rest));
  } catch (const CLI::CallForHelp&) {
    return show(verb.empty() ? overview() : help_page(*find_command(verb)));
  } catch (const CLI::Error& error) {
    const auto* const command = find_command(verb);
    complain(fmt::format("{}\nTry `taskpool {}--help`.", error.what(), command ? verb + " " : ""));
    return kUsage;
  }
}

}  // namespace
}  // namespace taskpool::cli

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // a reader that goes away shows as EPIPE, so that tasks can be cancelled first
  try {
    return taskpool::cli::run({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    taskpool::cli::complain(error.what());
    return taskpool::cli::kFailed;
  }
}
