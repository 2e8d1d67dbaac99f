#include <fmt/format.h>
#include <unistd.h>

#include <memory>

#include "client/cli/command_result.hpp"
#include "client/cli/interrupts.hpp"
#include "client/cli/map_printer.hpp"
#include "client/cli/session.hpp"

namespace taskpool::cli {
namespace {

struct ApplyFlags {
  CallFlags call;
  Format format = Format::json;
  bool with_stdin = false;
};

/// Prints what one task returned. Of a command that is what it printed, unless `as_json`.
Result<int> show_result(const Item& value, Format format, bool as_json) {
  if (value.encoding == Encoding::json && !as_json) {
    if (const auto command = read_command_result(as_text(value.bytes))) {
      if (auto printed = print(command->stdout_bytes); !printed) return printed.error();
      Writer err{STDERR_FILENO};
      (void)err.write(command->stderr_bytes);
      (void)err.flush();
      if (command->truncated) complain("the output was too long and is cut");
      if (command->signal != 0) complain(describe_end(*command));
      return command->failed() ? kFailed : kDone;
    }
  }
  const auto text = render(value, as_json ? Format::json : format);
  if (!text) return text.error();
  if (auto printed = print(*text + "\n"); !printed) return printed.error();
  const auto command = read_command_result(*text);
  return command && command->failed() ? kFailed : kDone;
}

Item item_of(const Body& body) { return {body.encoding(), body.bytes(), body.count()}; }

/// Shows a task's error; with --json as an object on standard output as well.
Result<int> show_failure(const Error& error, const std::optional<ErrorHead>& failure, bool as_json) {
  if (as_json && failure)
    if (auto printed = print(error_json(*failure).dump() + "\n"); !printed) return printed.error();
  return error;
}

/// The item of a call, from the words of the command line. Throws UsageError for words that make none.
std::string item_for(const Invocation& invocation, const ApplyFlags& flags) {
  if (invocation.command) {
    if (!invocation.words.empty()) throw UsageError("either a function or -- COMMAND, not both");
    if (invocation.command->empty()) throw UsageError("there is no command after --");
  } else {
    if (invocation.words.empty()) throw UsageError("which function, or after -- which command?");
    if (flags.with_stdin) throw UsageError("--stdin is for commands");
  }
  auto item = invocation.command ? command_item(*invocation.command, flags.with_stdin)
                                 : to_arguments({invocation.words.begin() + 1, invocation.words.end()}, flags.format);
  if (!item) throw UsageError(item.error().detail);
  return std::move(*item);
}

Call call_for(const Invocation& invocation, const ApplyFlags& flags) {
  if (!invocation.command) return flags.call.call(invocation.words.front());
  auto call = flags.call.command_call();
  if (!call.name.empty()) return call;
  for (const auto& word : *invocation.command) call.name += (call.name.empty() ? "" : " ") + word;
  if (call.name.size() > kMaxNameBytes) call.name.resize(kMaxNameBytes);
  return call;
}

void define_flags(CLI::App& app, ApplyFlags& flags) {
  add_format(app, flags.format);
  app.add_flag("--stdin", flags.with_stdin, "Give the command this program's standard input, all of it");
  flags.call.define(app);
}

/// Waits for the result; the first signal cancels the task.
Result<int> wait_for_result(RawFuture& future, const Invocation& invocation, Format format) {
  const Interrupts interrupts;
  bool cancelling = false;
  while (!future.wait_for(Interrupts::kPoll)) {
    if (interrupts.signal() == 0 || cancelling) continue;
    cancelling = true;
    (void)future.cancel();  // get() says what came of it
  }
  auto body = future.get();
  if (body) return show_result(item_of(*body), format, invocation.globals.json);
  if (cancelling && body.error().errc() == Errc::cancelled) {
    complain("cancelled 1 task");
    return 128 + interrupts.signal();
  }
  return show_failure(body.error(), future.failure(), invocation.globals.json);
}

/// The results of a submitted job, one a line, in the order of its items.
Result<int> show_job(const Client& client, const std::string& task, bool keep, const ResultStyle& style) {
  auto stream = client.fetch_all(task, keep, 0, StreamOptions{.ordered = true});
  ResultPrinter printer{style};
  while (const auto outcome = stream.next()) {
    printer.take(*outcome);
    if (printer.out().broken()) break;
  }
  if (auto flushed = printer.out().flush(); !flushed) return flushed.error();
  if (const auto done = stream.done(); !done) return done.error();
  return printer.failed() > 0 ? kFailed : kDone;
}

}  // namespace

Run define_apply(CLI::App& app) {
  auto flags = std::make_shared<ApplyFlags>();
  define_flags(app, *flags);
  return [flags](const Invocation& invocation) -> Result<int> {
    const auto item = item_for(invocation, *flags);
    const auto client = connect(invocation.globals, Autostart::yes);
    if (!client) return client.error();
    auto future = client->apply_async(call_for(invocation, *flags), Item::json(item));
    return wait_for_result(future, invocation, flags->format);
  };
}

Run define_submit(CLI::App& app) {
  auto flags = std::make_shared<ApplyFlags>();
  define_flags(app, *flags);
  app.add_option("--key", flags->call.options.idempotency_key,
                 "A second submission with this key while the first is known is the same task")
      ->type_name("TEXT");
  return [flags](const Invocation& invocation) -> Result<int> {
    const auto item = item_for(invocation, *flags);
    const auto client = connect(invocation.globals, Autostart::yes);
    if (!client) return client.error();
    const auto task = client->submit(call_for(invocation, *flags), Item::json(item));
    if (!task) return task.error();
    const auto text = invocation.globals.json ? nlohmann::json{{"task", *task}}.dump() : *task;
    if (auto printed = print(text + "\n"); !printed) return printed.error();
    return kDone;
  };
}

Run define_result(CLI::App& app) {
  auto format = std::make_shared<Format>(Format::json);
  auto keep = std::make_shared<bool>(false);
  app.add_flag("-k,--keep", *keep, "Let the daemon keep the result");
  app.add_flag_callback(
      "-l,--lines", [format] { *format = Format::text; }, "Print a result that is text as it is");
  return [format, keep](const Invocation& invocation) -> Result<int> {
    invocation.expect_words(1, 1);
    const auto client = connect(invocation.globals, Autostart::no);
    if (!client) return client.error();
    const auto& task = invocation.words[0];
    const auto rows = client->ps({.task = task});
    if (!rows) return rows.error();
    const auto found = rows->value("tasks", nlohmann::json::array());
    if (!found.empty() && found[0].value("kind", "") == "job")
      return show_job(*client, task, *keep, {.format = *format, .show_errors = invocation.globals.json});
    const auto body = client->fetch(task, *keep);
    if (!body) return body.error();
    return show_result(item_of(*body), *format, invocation.globals.json);
  };
}

}  // namespace taskpool::cli
