#include <fmt/format.h>
#include <unistd.h>

#include <memory>
#include <optional>

#include "client/cli/command_result.hpp"
#include "client/cli/map_run.hpp"
#include "client/cli/session.hpp"
#include "client/cli/words.hpp"

namespace taskpool::cli {
namespace {

/// Room in a frame's head for everything beside the surroundings of commands. Bytes.
constexpr std::size_t kOtherHeadBytes = 4096;

std::vector<std::string> element_names() {
  std::vector<std::string> names;
  for (auto code = static_cast<unsigned>(Encoding::i8); code <= static_cast<unsigned>(Encoding::f64); ++code)
    names.emplace_back(name(static_cast<Encoding>(code)));
  return names;
}

struct MapFlags {
  CallFlags call;
  Format format = Format::json;
  std::optional<std::string> command;  ///< --exec
  std::uint32_t chunk = 0;
  bool stop_on_error = false;
  bool star = false;
  bool unordered = false;
  bool nul = false;
  bool detach = false;
  Encoding element = Encoding::none;  ///< --array
  bool progress = ::isatty(STDERR_FILENO) == 1;
};

/// One map, as the command line describes it.
struct MapPlan {
  Call call;
  Encode encode;
  std::vector<std::string> words;  ///< Empty: the lines of standard input.
  std::unique_ptr<MapPrinter> printer;
};

Result<MapPlan> plan_function(const MapFlags& flags, const Invocation& invocation) {
  MapPlan plan;
  plan.words = invocation.all_words();
  if (plan.words.empty()) throw UsageError("map needs a function, or --exec COMMAND");
  plan.call = flags.call.call(plan.words.front());
  plan.words.erase(plan.words.begin());
  if (flags.element != Encoding::none && (flags.star || flags.format == Format::text))
    throw UsageError("--array is for numbers, not for --star or --lines");
  if (flags.element != Encoding::none)
    plan.encode = [element = flags.element](std::string_view input) { return to_number(input, element); };
  else
    plan.encode = [format = flags.format, star = flags.star](std::string_view input) -> Result<std::string> {
      auto item = to_item(input, format);
      return item && star ? to_starred(*item) : item;
    };
  plan.printer = std::make_unique<ResultPrinter>(
      ResultStyle{.format = flags.format, .as_list = !plan.words.empty(), .show_errors = invocation.globals.json});
  return plan;
}

Result<MapPlan> plan_command(const MapFlags& flags, const Invocation& invocation) {
  if (flags.star) throw UsageError("--star is for functions");
  if (flags.element != Encoding::none) throw UsageError("--array is for functions");
  auto words = CommandTemplate::parse(*flags.command);
  if (!words) throw UsageError("--exec: " + words.error().detail);
  MapPlan plan;
  plan.words = invocation.all_words();
  plan.call = flags.call.command_call();
  if (plan.call.name.empty()) plan.call.name = flags.command->substr(0, kMaxNameBytes);
  plan.call.command = command_surroundings(kMaxFrameHeadBytes - kOtherHeadBytes).dump();
  plan.encode = [words = std::move(*words)](std::string_view input) { return to_command(words.fill(input)); };
  if (invocation.globals.json) {
    plan.printer = std::make_unique<ResultPrinter>(
        ResultStyle{.as_list = !plan.words.empty(), .show_errors = true, .of_commands = true});
  } else {
    plan.printer = std::make_unique<CommandPrinter>();
  }
  return plan;
}

/// Says how it ended and returns what the program ends with.
int end_of(const MapRun& run, const MapPrinter& printer, bool of_commands, const Interrupts& interrupts) {
  if (run.interrupted) {
    complain(fmt::format("cancelled {} task{}", run.cancelled, run.cancelled == 1 ? "" : "s"));
    return 128 + interrupts.signal();
  }
  if (run.stopped)
    complain("stopped at the first failure" + (run.cancelled > 0 ? fmt::format("; {} not run", run.cancelled) : ""));
  if (run.input_error) {
    complain(*run.input_error);
    return kUsage;
  }
  if (of_commands) return failures_exit_code(printer.failed());
  return printer.failed() > 0 ? kFailed : kDone;
}

/// Submits the map and prints its id.
Result<int> detach_map(const Client& client, const Call& call, ItemFeed& feed, const Interrupts& interrupts,
                       bool as_json) {
  std::optional<Error> input_error;
  const auto task = client.submit_map(call, [&]() -> Result<std::optional<Item>> {
    auto item = feed.next();
    if (!item) input_error = item.error();
    if (item && interrupts.signal() != 0) return fail(Errc::cancelled, "interrupted");
    return item;
  });
  if (interrupts.signal() != 0 && !task) {
    complain("cancelled what was submitted");
    return 128 + interrupts.signal();
  }
  if (input_error) {
    complain(*input_error);
    return kUsage;
  }
  if (!task) return task.error();
  const auto text = as_json ? nlohmann::json{{"task", *task}}.dump() : *task;
  if (auto printed = print(text + "\n"); !printed) return printed.error();
  return kDone;
}

Result<int> run_plan(const MapFlags& flags, const Invocation& invocation, MapPlan plan) {
  const auto client = connect(invocation.globals, Autostart::yes);
  if (!client) return client.error();
  const Interrupts interrupts;
  std::unique_ptr<Inputs> inputs;
  MapRunOptions options{.stop_on_error = flags.stop_on_error, .progress = flags.progress && !invocation.globals.quiet};
  if (plan.words.empty()) {
    if (::isatty(STDIN_FILENO) == 1 && !invocation.globals.quiet)
      complain("reading inputs, one a line; Ctrl-D ends them");
    const char delimiter = flags.nul ? '\0' : '\n';
    inputs = std::make_unique<LineInputs>(LineReader{STDIN_FILENO, delimiter, interrupts.stop_fd()}, plan.encode);
  } else {
    auto words = WordInputs::make(plan.words, plan.encode);
    if (!words) {
      complain(words.error());
      return kUsage;
    }
    options.total = plan.words.size();
    inputs = std::make_unique<WordInputs>(std::move(*words));
  }

  plan.call.chunk = flags.chunk;
  plan.call.stop_on_error = flags.stop_on_error;
  ItemFeed feed{*inputs, flags.element};
  if (flags.detach) return detach_map(*client, plan.call, feed, interrupts, invocation.globals.json);
  auto stream = client->start_stream(plan.call, StreamOptions{.ordered = !flags.unordered});
  const auto run = run_map(stream, feed, *plan.printer, interrupts, options);
  if (!run) return run.error();
  if (!run->interrupted) plan.printer->finish();
  if (auto flushed = plan.printer->out().flush(); !flushed) return flushed.error();
  return end_of(*run, *plan.printer, flags.command.has_value(), interrupts);
}

}  // namespace

Run define_map(CLI::App& app) {
  auto flags = std::make_shared<MapFlags>();
  app.add_option("-x,--exec", flags->command, "Run this command for each input; {} stands for the input")
      ->type_name("COMMAND");
  add_format(app, flags->format);
  app.add_flag("-0,--null", flags->nul, "Inputs on standard input end with NUL, not with a newline");
  app.add_flag("-d,--detach", flags->detach, "Print the job's id, for wait, result and cancel, instead of its results");
  app.add_option("--key", flags->call.options.idempotency_key,
                 "A second map with this key while the first is known has the same results")
      ->type_name("TEXT");
  app.add_option_function<std::string>(
         "--array", [flags](const std::string& type) { flags->element = *find_encoding(type); },
         "Inputs are numbers of TYPE (i8 ... i64, u8 ... u64, f32, f64) and travel as an array")
      ->type_name("TYPE")
      ->check(CLI::IsMember(element_names()));
  app.add_flag("--star", flags->star, "Each input is a list of arguments");
  app.add_flag("-u,--unordered", flags->unordered, "Print results as they come");
  app.add_option("--chunk", flags->chunk, "Give a worker N inputs at a time (else adaptive)")
      ->type_name("N")
      ->check(CLI::Range(0u, kMaxChunk));
  app.add_flag("--stop-on-error", flags->stop_on_error, "Start nothing more after the first failure");
  app.add_flag("--progress,!--no-progress", flags->progress, "Show a progress bar; the default on a terminal");
  flags->call.define(app);
  return [flags](const Invocation& invocation) -> Result<int> {
    auto plan = flags->command ? plan_command(*flags, invocation) : plan_function(*flags, invocation);
    if (!plan) return plan.error();
    return run_plan(*flags, invocation, std::move(*plan));
  };
}

}  // namespace taskpool::cli
