#include <fmt/format.h>

#include <memory>

#include "client/cli/command_result.hpp"
#include "client/cli/session.hpp"

/// The commands that wait for, or end, submitted tasks.
namespace taskpool::cli {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

/// How the command of a task ended, if it was one, and its result is still there.
std::optional<CommandResult> command_of(const Client& client, const std::string& task, const json& row) {
  if (row.value("state", "") != "succeeded" || row.value("function", "") != "run") return std::nullopt;
  const auto body = client.fetch(task, true);
  const auto command = body ? read_command_result(body->text()) : Result<CommandResult>{body.error()};
  return command ? std::optional{*command} : std::nullopt;
}

/// Why a task that has ended did not succeed, or nothing if it did. A command that failed is a task that succeeded: its
/// result tells.
std::optional<std::string> failure_of(const std::optional<CommandResult>& command, const json& row) {
  const auto state = row.value("state", "");
  if (state == "succeeded") {
    if (!command || !command->failed()) return std::nullopt;
    return describe_end(*command);
  }
  const auto error = row.find("error");
  if (error == row.end() || !error->is_object()) return state;
  return fmt::format("{}: {}", error->value("code", state), error->value("detail", ""));
}

/// What is left until the deadline; 0, which means no limit, if there is none. At least 1 ms.
std::chrono::milliseconds left(std::optional<Clock::time_point> deadline) {
  if (!deadline) return {};
  const auto rest = std::chrono::ceil<std::chrono::milliseconds>(*deadline - Clock::now());
  return std::max(rest, std::chrono::milliseconds{1});
}

}  // namespace

Run define_wait(CLI::App& app) {
  auto timeout = std::make_shared<std::chrono::milliseconds>(0);
  add_duration(
      app, "--timeout", [timeout](auto time) { *timeout = time; }, "Wait no longer for all of them together");
  return [timeout](const Invocation& invocation) -> Result<int> {
    invocation.expect_words(1, kMaxRows);
    const auto client = connect(invocation.globals, Autostart::no);
    if (!client) return client.error();
    std::optional<Clock::time_point> deadline;
    if (timeout->count() > 0) deadline = Clock::now() + *timeout;
    int code = kDone;
    for (const auto& task : invocation.words) {
      auto row = client->wait(task, left(deadline));
      if (!row) {
        complain(fmt::format("{}: {}: {}", code_name(row.error()), task, row.error().detail));
        code = exit_code(row.error());
        continue;
      }
      const auto command = command_of(*client, task, *row);
      if (command) {
        (*row)["exit_code"] = command->exit_code;
        (*row)["signal"] = command->signal;
      }
      if (invocation.globals.json)
        if (auto printed = print(row->dump() + "\n"); !printed) return printed.error();
      if (const auto failure = failure_of(command, *row)) {
        complain(fmt::format("{}: {}", task, *failure));
        code = kFailed;
      }
    }
    return code;
  };
}

Run define_cancel(CLI::App& app) {
  auto mode = std::make_shared<CancelMode>(CancelMode::ask);
  const auto choose = [mode](CancelMode chosen) { return [mode, chosen](std::int64_t) { *mode = chosen; }; };
  auto* const force = app.add_flag_function("-f,--force", choose(CancelMode::kill), "Kill a running task at once");
  app.add_flag_function("--waiting", choose(CancelMode::waiting), "Only what has not begun: what runs goes on")
      ->excludes(force);
  return [mode](const Invocation& invocation) -> Result<int> {
    invocation.expect_words(1, kMaxRows);
    const auto client = connect(invocation.globals, Autostart::no);
    if (!client) return client.error();
    std::uint64_t cancelled = 0;
    int code = kDone;
    for (const auto& task : invocation.words) {
      const auto reached = client->cancel(task, *mode);
      if (reached) {
        cancelled += *reached;
      } else {
        complain(fmt::format("{}: {}: {}", code_name(reached.error()), task, reached.error().detail));
        code = exit_code(reached.error());
      }
    }
    std::string text;
    if (invocation.globals.json)
      text = json{{"cancelled", cancelled}}.dump() + "\n";
    else if (!invocation.globals.quiet)
      text = fmt::format("cancelled {} task{}\n", cancelled, cancelled == 1 ? "" : "s");
    if (auto printed = print(text); !printed) return printed.error();
    return code;
  };
}

}  // namespace taskpool::cli
