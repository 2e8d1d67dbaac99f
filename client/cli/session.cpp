#include "client/cli/session.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "proto/limits.hpp"

extern char** environ;  // NOLINT: POSIX's name

namespace taskpool::cli {
namespace {

using nlohmann::json;

/// The pool whose runtime runs commands, as the daemon's default configuration names it.
constexpr const char* kCommandPool = "command";
/// The function of that runtime.
constexpr const char* kCommandFunction = "run";
/// What a command may be given as its input; the daemon's own bound on bodies may be lower. Bytes.
constexpr std::size_t kMaxStdinBytes = std::size_t{32} << 20;

/// What identifies this program's own task, if it runs inside one, is not passed on.
constexpr std::string_view kWorkerToken = "TASKPOOL_WORKER_TOKEN";

bool is_utf8(const std::string& text) {
  try {
    (void)json(text).dump();
    return true;
  } catch (const json::type_error&) {
    return false;
  }
}

json environment() {
  json variables = json::object();
  for (char** each = environ; *each != nullptr; ++each) {
    const std::string_view entry{*each};
    const auto equals = entry.find('=');
    if (equals == 0 || equals == std::string_view::npos) continue;
    std::string name{entry.substr(0, equals)};
    std::string value{entry.substr(equals + 1)};
    if (name == kWorkerToken || !is_utf8(name) || !is_utf8(value)) continue;
    variables.emplace(std::move(name), std::move(value));
  }
  return variables;
}

template <class T>
void append_numbers(std::string& out, const Item& value) {
  for (std::uint32_t i = 0; i < value.count; ++i) {
    if (i > 0) out += ", ";
    out += json(load<T>(value.bytes.data() + i * sizeof(T))).dump();
  }
}

Result<std::string> render_array(const Item& value) {
  std::string out = "[";
  if (value.bytes.size() != value.count * element_bytes(value.encoding))
    return fail(Errc::bad_message, "array: wrong length");
  switch (value.encoding) {
    case Encoding::i8: append_numbers<std::int8_t>(out, value); break;
    case Encoding::i16: append_numbers<std::int16_t>(out, value); break;
    case Encoding::i32: append_numbers<std::int32_t>(out, value); break;
    case Encoding::i64: append_numbers<std::int64_t>(out, value); break;
    case Encoding::u8: append_numbers<std::uint8_t>(out, value); break;
    case Encoding::u16: append_numbers<std::uint16_t>(out, value); break;
    case Encoding::u32: append_numbers<std::uint32_t>(out, value); break;
    case Encoding::u64: append_numbers<std::uint64_t>(out, value); break;
    case Encoding::f32: append_numbers<float>(out, value); break;
    case Encoding::f64: append_numbers<double>(out, value); break;
    default: return fail(Errc::bad_message, "unknown encoding");
  }
  return out + "]";
}

}  // namespace

Result<Client> connect(const Globals& globals, Autostart autostart) {
  ClientOptions options;
  options.socket = globals.socket;
  options.name = "taskpool";
  options.autostart = autostart == Autostart::yes;
  return Client::connect(std::move(options));
}

void add_duration(CLI::App& app, const std::string& name, std::function<void(std::chrono::milliseconds)> set,
                  const std::string& description) {
  const auto read = [name, set = std::move(set)](const std::string& text) {
    const auto time = parse_duration(text);
    if (!time) throw UsageError(name + ": " + time.error().detail);
    set(*time);
  };
  app.add_option_function<std::string>(name, read, description)->type_name("TIME");
}

void add_format(CLI::App& app, Format& format) {
  app.add_flag_callback(
      "-l,--lines", [&format] { format = Format::text; },
      "Inputs are text, not JSON, and results that are text are printed as they are");
}

void CallFlags::define(CLI::App& app) {
  app.add_option("-p,--pool", pool, "Run in this pool, not in the default one")->type_name("POOL");
  add_duration(
      app, "--timeout", [this](auto time) { options.timeout = time; }, "Kill a task that runs longer");
  add_duration(
      app, "--soft-timeout", [this](auto time) { options.soft_timeout = time; }, "Ask a task that runs longer to stop");
  add_duration(
      app, "--cpu-timeout", [this](auto time) { options.cpu_timeout = time; }, "Kill a task that uses more CPU time");
  app.add_option("--retries", options.retries, "Run a task that fails up to N more times")
      ->type_name("N")
      ->check(CLI::Range(0u, kMaxRetries));
  app.add_option("--lost-retries", options.lost_retries, "Run a task whose worker dies up to N more times")
      ->type_name("N")
      ->check(CLI::Range(0u, kMaxRetries));
  app.add_option("--oom-retries", options.oom_retries, "Run a task that ran out of memory up to N more times")
      ->type_name("N")
      ->check(CLI::Range(0u, kMaxRetries));
  add_duration(
      app, "--retry-delay", [this](auto time) { options.retry_delay = time; },
      "Wait before the first of them; doubles each time (100ms)");
  app.add_option_function<int>(
         "--priority", [this](int value) { options.priority = value; }, "Higher goes first: -100 to 100")
      ->type_name("N")
      ->check(CLI::Range(kMinPriority, kMaxPriority));
  app.add_option("--name", options.name, "Show this in `ps` instead of the function")->type_name("TEXT");
}

Call CallFlags::call(const std::string& function) const { return options.call(function, pool); }

Call CallFlags::command_call() const { return options.call(kCommandFunction, pool.empty() ? kCommandPool : pool); }

json command_surroundings(std::size_t max_bytes) {
  json surroundings = {{"environment", environment()}};
  std::error_code error;  // without a working directory the worker's own has to do
  const auto cwd = std::filesystem::current_path(error).string();
  if (!error && is_utf8(cwd)) surroundings["cwd"] = cwd;
  auto& variables = surroundings["environment"];
  while (!variables.empty() && surroundings.dump().size() > max_bytes) {
    auto longest = variables.begin();
    for (auto each = variables.begin(); each != variables.end(); ++each)
      if (each->dump().size() > longest->dump().size()) longest = each;
    complain("the environment is too large to pass on whole; left out: " + longest.key());
    variables.erase(longest);
  }
  return surroundings;
}

Result<std::string> command_item(const std::vector<std::string>& words, bool with_stdin) {
  auto item = command_surroundings(std::size_t{1} << 20);
  for (const auto& word : words)
    if (!is_utf8(word)) return fail(Errc::bad_argument, "a word of the command is not UTF-8");
  item["argv"] = words;
  item["keep_output"] = true;
  if (with_stdin) {
    std::string text;
    std::vector<char> piece(1u << 16);
    for (std::size_t got = 0; (got = std::fread(piece.data(), 1, piece.size(), stdin)) > 0;) {
      text.append(piece.data(), got);
      if (text.size() > kMaxStdinBytes) return fail(Errc::body_too_large, "standard input: above 32 MB");
    }
    if (!is_utf8(text)) return fail(Errc::bad_argument, "standard input is not UTF-8");
    item["stdin"] = std::move(text);
  }
  return item.dump();
}

Result<std::string> render(const Item& value, Format format) {
  const auto text = as_text(value.bytes);
  switch (value.encoding) {
    case Encoding::none: return std::string{format == Format::text ? "" : "null"};
    case Encoding::json: {
      const bool is_text = format == Format::text && text.starts_with('"');
      if (!is_text && text.find('\n') == std::string_view::npos) return std::string{text};
      const auto parsed = json::parse(text, nullptr, false);
      if (parsed.is_discarded()) return fail(Errc::bad_message, "the result is not JSON");
      return is_text && parsed.is_string() ? parsed.get<std::string>() : parsed.dump();
    }
    case Encoding::bytes:
      if (format == Format::text) return std::string{text};
      if (std::string copy{text}; is_utf8(copy)) return json(std::move(copy)).dump();
      return fail(Errc::bad_message, "the result is bytes that are no text (--lines prints them as they are)");
    case Encoding::pickle: return fail(Errc::bad_message, "the result is a Python pickle, which only Python can read");
    default: return render_array(value);
  }
}

json error_json(const ErrorHead& error) {
  json fields = {{"code", name(error.code)}, {"detail", error.detail}};
  if (!error.type.empty()) fields["type"] = error.type;
  if (!error.traceback.empty()) fields["traceback"] = error.traceback;
  if (!error.task.empty()) fields["task"] = error.task;
  if (error.signal) fields["signal"] = *error.signal;
  if (error.exit_code) fields["exit_code"] = *error.exit_code;
  return {{"error", std::move(fields)}};
}

std::string_view code_name(const Error& error) { return name(error.errc()); }

Result<void> print(std::string_view text) {
  Writer out{STDOUT_FILENO};
  if (auto written = out.write(text); !written) return written;
  return out.flush();
}

void complain(std::string_view text) {
  std::string shown = "taskpool: ";
  for (bool first = true; first || !text.empty(); first = false) {  // a detail may have several lines, a traceback say
    const auto line = text.substr(0, text.find('\n'));
    shown += printable(line) + "\n";
    text.remove_prefix(std::min(line.size() + 1, text.size()));
  }
  std::fputs(shown.c_str(), stderr);
}

void complain(const Error& error) { complain(fmt::format("{}: {}", code_name(error), error.detail)); }

}  // namespace taskpool::cli
