#include <fmt/format.h>

#include "client/cli/completion.hpp"
#include "client/cli/session.hpp"
#include "proto/version.hpp"

/// The commands about this program itself.
namespace taskpool::cli {
namespace {

using nlohmann::json;

/// Completion must not keep anybody waiting, nor start anything.
constexpr std::chrono::milliseconds kCompletionPatience{300};

/// Names that the daemon knows, if it answers at once.
std::vector<Candidate> names_from_daemon(const Globals& globals, Completes what) {
  ClientOptions options;
  options.socket = globals.socket;
  options.autostart = false;
  options.connect_timeout = options.reconnect_timeout = kCompletionPatience;
  const auto client = Client::connect(std::move(options));
  if (!client) return {};
  struct Source {
    Result<json> reply;
    const char *list, *name, *description;
  };
  const auto source = what == Completes::functions ? Source{client->functions(), "functions", "name", "signature"}
                      : what == Completes::pools   ? Source{client->pools(), "pools", "pool", "runtime"}
                      : what == Completes::objects
                          ? Source{client->objects({.limit = kMaxRows}), "objects", "name", "type"}
                          : Source{client->ps(), "tasks", "task", "name"};
  std::vector<Candidate> found;
  if (!source.reply || !source.reply->contains(source.list)) return found;
  for (const auto& row : (*source.reply)[source.list])
    if (auto word = row.value(source.name, ""); !word.empty())
      found.push_back({std::move(word), row.value(source.description, "")});
  return found;
}

}  // namespace

Run define_completion(CLI::App&) {
  return [](const Invocation& invocation) -> Result<int> {
    invocation.expect_words(1, 1);
    const auto script = completion_script(invocation.words[0]);
    if (script.empty()) throw UsageError("no completion for '" + invocation.words[0] + "': want bash, zsh or fish");
    if (auto printed = print(script); !printed) return printed.error();
    return kDone;
  };
}

Run define_complete(CLI::App&) {
  return [](const Invocation& invocation) -> Result<int> {
    const auto words = invocation.command.value_or(std::vector<std::string>{});
    std::string text;
    for (const auto& candidate :
         complete(words, [&](Completes what) { return names_from_daemon(invocation.globals, what); }))
      text += fmt::format("{}\t{}\n", printable(candidate.word), printable(candidate.description));
    if (auto printed = print(text); !printed) return printed.error();
    return kDone;
  };
}

Run define_help(CLI::App&) {
  return [](const Invocation& invocation) -> Result<int> {
    invocation.expect_words(0, 1);
    const auto* const command = invocation.words.empty() ? nullptr : find_command(invocation.words[0]);
    if (!invocation.words.empty() && !command) throw UsageError("there is no command '" + invocation.words[0] + "'");
    if (auto printed = print(command ? help_page(*command) : overview()); !printed) return printed.error();
    return kDone;
  };
}

Run define_version(CLI::App&) {
  return [](const Invocation& invocation) -> Result<int> {
    invocation.expect_words(0, 0);
    const auto client = connect(invocation.globals, Autostart::no);  // without a daemon there is still this program
    json versions = {{"version", kVersion}, {"protocol", kProtocolVersion}};
    if (client) {
      const auto server = client->server();
      versions["daemon"] = {
          {"version", server.version}, {"build", server.build}, {"pid", server.pid}, {"socket", server.socket}};
    }
    auto text = versions.dump();
    if (!invocation.globals.json) {
      text = fmt::format("taskpool {}", kVersion);
      if (client)
        text += fmt::format("\ntaskpoold {}, pid {}, on {}", client->server().version, client->server().pid,
                            printable(client->server().socket));
    }
    if (auto printed = print(text + "\n"); !printed) return printed.error();
    return kDone;
  };
}

}  // namespace taskpool::cli
