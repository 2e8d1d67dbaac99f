#include "client/cli/command_result.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>

namespace taskpool::cli {
namespace {

using Json = nlohmann::json;

std::optional<std::string> decode_base64(std::string_view text) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  while (!text.empty() && text.back() == '=') text.remove_suffix(1);
  std::string out;
  std::uint32_t bits = 0;
  unsigned count = 0;
  for (const char c : text) {
    const auto digit = kDigits.find(c);
    if (digit == std::string_view::npos) return std::nullopt;
    bits = (bits << 6) | static_cast<std::uint32_t>(digit);
    count += 6;
    if (count < 8) continue;
    count -= 8;
    out += static_cast<char>((bits >> count) & 0xff);
  }
  return out;
}

/// A stream's content: text, or {"base64": TEXT} where it is not UTF-8.
std::optional<std::string> read_stream(const Json& result, const char* key) {
  const auto field = result.find(key);
  if (field->is_string()) return field->get<std::string>();
  if (!field->is_object()) return std::nullopt;
  const auto encoded = field->find("base64");
  if (encoded == field->end() || !encoded->is_string()) return std::nullopt;
  return decode_base64(encoded->get_ref<const std::string&>());
}

/// A small number; null stands for 0.
std::optional<int> read_number(const Json& result, const char* key) {
  const auto field = result.find(key);
  if (field->is_null()) return 0;
  if (!field->is_number_integer()) return std::nullopt;
  const auto value = field->get<std::int64_t>();
  if (value < -255 || value > 255) return std::nullopt;
  return static_cast<int>(value);
}

}  // namespace

Result<CommandResult> read_command_result(std::string_view json) {
  const auto value = Json::parse(json, nullptr, false);
  const auto bad = [](const char* field) { return fail(Errc::bad_message, fmt::format("command result: {}", field)); };
  if (!value.is_object()) return bad("no object");
  for (const char* key : {"exit_code", "signal", "stdout", "stderr"})
    if (!value.contains(key)) return bad(key);
  CommandResult result;
  const auto code = read_number(value, "exit_code");
  const auto signal = read_number(value, "signal");
  auto out = read_stream(value, "stdout");
  auto err = read_stream(value, "stderr");
  if (!code) return bad("exit_code");
  if (!signal) return bad("signal");
  if (!out) return bad("stdout");
  if (!err) return bad("stderr");
  result.exit_code = *code;
  result.signal = *signal;
  result.stdout_bytes = std::move(*out);
  result.stderr_bytes = std::move(*err);
  if (const auto field = value.find("truncated"); field != value.end()) result.truncated = *field == true;
  return result;
}

std::string describe_end(const CommandResult& result) {
  if (result.signal == 0) return fmt::format("exit code {}", result.exit_code);
  return fmt::format("killed by signal {} ({})", result.signal, ::strsignal(result.signal));
}

int failures_exit_code(std::uint64_t failed) { return static_cast<int>(std::min<std::uint64_t>(failed, 101)); }

}  // namespace taskpool::cli
