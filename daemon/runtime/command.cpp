#include "daemon/runtime/command.hpp"

#include <algorithm>
#include <exception>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "daemon/runtime/command_guard.hpp"
#include "daemon/runtime/command_process.hpp"
#include "daemon/runtime/command_spec.hpp"

namespace taskpool::runtime {
namespace {

using Json = nlohmann::json;

/// What one worker keeps between commands. It is made in the zygote, empty, and filled in each worker after the fork.
struct CommandState {
  std::optional<CommandGuard> guard;
  std::size_t output_bytes = kDefaultOutputBytes;  ///< Kept of each stream unless the call says otherwise.
};

/// A module's functions have only the `user` pointer of their static description.
CommandState& command_state() {
  static CommandState state;
  return state;
}

int fail_call(const taskpool_call* call, int code, const char* type, const std::string& message) {
  call->host->error(call, code, type, message.c_str(), "");
  return 1;
}

/// Where a task's output is kept for those who follow it: named by the task, whose name the supervisor knows too.
std::string kept_path(const taskpool_call& call, std::string_view suffix) {
  const std::string spool = call.host->spool_path(&call);
  if (spool.empty()) return {};
  std::string name = call.host->task(&call);
  std::replace(name.begin(), name.end(), '/', '-');  // an item of a job is "JOB/INDEX"
  return spool + "/" + name + std::string{suffix};
}

Json to_json(const CommandOutcome& outcome) {
  Json json{{"exit_code", outcome.exit_code},
            {"signal", outcome.signal},
            {"pid", outcome.pid},
            {"stdout", output_to_json(outcome.out)},
            {"stderr", output_to_json(outcome.err)},
            {"stdout_bytes", outcome.out.total()},
            {"stderr_bytes", outcome.err.total()},
            {"truncated", outcome.out.truncated() || outcome.err.truncated()},
            {"user_us", outcome.user_us},
            {"system_us", outcome.system_us},
            {"max_rss_bytes", outcome.max_rss_bytes}};
  if (!outcome.output_error.empty()) json["output_error"] = outcome.output_error;
  return json;
}

int stopped(const taskpool_call* call, const CommandOutcome& outcome) {
  const auto how = outcome.signal != 0 ? "signal " + std::to_string(outcome.signal)
                                       : "exit code " + std::to_string(outcome.exit_code);
  fail_call(call, TASKPOOL_CANCELLED, "", "the command was asked to stop, and ended with " + how);
  call->host->error_status(call, outcome.exit_code, outcome.signal != 0 ? outcome.signal : -1);
  return 1;
}

int run_call(const taskpool_call* call, CommandState& state) {
  if (call->encoding != TASKPOOL_JSON)
    return fail_call(call, TASKPOOL_BAD_ARGUMENT, "", "want a JSON array of words, or an object with argv");
  const std::string_view item{static_cast<const char*>(call->input), static_cast<std::size_t>(call->input_bytes)};
  auto spec = read_command(item, call->host->command_options(call), state.output_bytes);
  if (!spec) return fail_call(call, TASKPOOL_BAD_ARGUMENT, "", spec.error().detail);
  spec->environment.try_emplace("TASKPOOL_TASK", call->host->task(call));

  if (!state.guard) {
    auto guard = CommandGuard::start();
    if (!guard) return fail_call(call, TASKPOOL_TASK_FAILED, "spawn", guard.error().detail);
    state.guard.emplace(std::move(*guard));
  }
  CommandControl control;
  control.interrupt_fd = call->host->interrupt_fd(call);
  if (spec->keep_output) {
    control.out_path = kept_path(*call, ".out");
    control.err_path = kept_path(*call, ".err");
  }
  const auto outcome = run_command(*spec, *state.guard, control);
  if (!outcome) return fail_call(call, TASKPOOL_TASK_FAILED, "spawn", outcome.error().detail);
  if (outcome->stopped) return stopped(call, *outcome);
  const auto text = to_json(*outcome).dump();
  return call->host->result(call, TASKPOOL_JSON, text.data(), text.size()) == 0 ? 0 : 1;
}

/// The border of the C ABI: no exception crosses it.
int run(const taskpool_call* call, void* user) {
  try {
    return run_call(call, *static_cast<CommandState*>(user));
  } catch (const std::exception& e) {
    return fail_call(call, TASKPOOL_TASK_FAILED, "internal", e.what());
  }
}

}  // namespace

const taskpool_module& command_module() {
  static const taskpool_function function{
      .name = "run",
      .signature = "(argv: [text]) -> object",
      .doc = "Runs a program, without a shell, and returns how it ended and what it wrote.",
      .call = &run,
      .user = &command_state(),
      .call_array = nullptr,
      .array_in = 0,
      .array_out = 0,
      .reserved = {}};
  static const taskpool_module module{.abi_version = TASKPOOL_ABI_VERSION,
                                      .function_count = 1,
                                      .name = "command",
                                      .error = nullptr,
                                      .functions = &function};
  return module;
}

void set_command_output_bytes(std::size_t bytes) { command_state().output_bytes = bytes; }

}  // namespace taskpool::runtime
