#include "daemon/runtime/command_spec.hpp"

#include <cstdint>
#include <utility>

#include "proto/fields.hpp"

namespace taskpool::runtime {
namespace {

/// The kernel's own bounds: one word of a command line or environment is below 128 KiB (MAX_ARG_STRLEN), and all of
/// them together are a few MiB at most (execve(2)), which this many words cannot fill usefully.
constexpr std::size_t kMaxWordBytes = 128 * 1024 - 1;
constexpr std::size_t kMaxWords = 65536;
constexpr std::size_t kMaxVariables = 4096;
constexpr std::size_t kMaxPathBytes = 4095;
constexpr std::size_t kMaxStdinBytes = 64u << 20;

bool has_nul(const std::string& text) { return text.find('\0') != std::string::npos; }

void read_options(Fields& fields, CommandSpec& spec) {
  std::map<std::string, std::string> environment;
  fields.text("cwd", spec.cwd, kMaxPathBytes);
  fields.text_map("environment", environment, kMaxVariables, kMaxWordBytes);
  fields.text("stdin", spec.stdin_text, kMaxStdinBytes);
  fields.boolean("keep_output", spec.keep_output);
  std::uint64_t max_output = spec.max_output_bytes;
  fields.integer("max_output_bytes", max_output, std::uint64_t{kMaxOutputBytes});
  spec.max_output_bytes = static_cast<std::size_t>(max_output);

  if (has_nul(spec.cwd)) fields.reject("cwd", "contains a NUL");
  for (auto& [name, value] : environment) {
    if (name.empty() || name.find('=') != std::string::npos || has_nul(name))
      fields.reject("environment", "\"" + name + "\" cannot be a variable's name");
    if (has_nul(value)) fields.reject("environment", name + " contains a NUL");
    spec.environment.insert_or_assign(name, std::move(value));
  }
}

void read_argv(Fields& fields, CommandSpec& spec) {
  fields.require("argv");
  fields.texts("argv", spec.argv, kMaxWords, kMaxWordBytes);
  if (spec.argv.empty())
    fields.reject("argv", "names no program");
  else if (spec.argv.front().empty())
    fields.reject("argv", "the program's name is empty");
  for (std::size_t i = 0; i < spec.argv.size(); ++i)
    if (has_nul(spec.argv[i])) fields.reject("argv", "word " + std::to_string(i) + " contains a NUL");
}

/// What the fields say is wrong is wrong with the task's argument, whatever layer finds it.
Error as_argument_error(const Error& error) { return fail(Errc::bad_argument, error.detail); }

}  // namespace

Result<CommandSpec> read_command(std::string_view item, std::string_view options, std::size_t output_bytes) {
  CommandSpec spec;
  spec.max_output_bytes = output_bytes;
  Fields call{options};
  read_options(call, spec);
  if (auto read = call.finish(true); !read) return as_argument_error(read.error());

  auto parsed = parse_json(item);
  if (!parsed) return fail(Errc::bad_argument, "argv: not valid JSON");
  if (parsed->is_array()) parsed = Json{{"argv", std::move(*parsed)}};
  Fields own{std::move(*parsed)};
  read_argv(own, spec);
  read_options(own, spec);
  if (auto read = own.finish(true); !read) return as_argument_error(read.error());
  return spec;
}

}  // namespace taskpool::runtime
