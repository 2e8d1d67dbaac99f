#include "client/cli/arguments.hpp"

#include <array>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <utility>

#include "proto/limits.hpp"

namespace taskpool::cli {
namespace {

using Json = nlohmann::json;

constexpr std::array<std::pair<std::string_view, double>, 6> kUnits{
    {{"", 1e3}, {"ms", 1}, {"s", 1e3}, {"m", 60e3}, {"h", 3600e3}, {"d", 86400e3}}};

/// The beginning of a text, to be recognised in a message.
std::string excerpt(std::string_view text) {
  constexpr std::size_t kMost = 40;
  return text.size() <= kMost ? std::string{text} : std::string{text.substr(0, kMost)} + "...";
}

/// Text as a JSON value.
Result<std::string> quote(std::string_view text) {
  try {
    return Json(text).dump();
  } catch (const Json::type_error&) {  // the only way in which the library tells that it is not UTF-8
    return fail(Errc::bad_argument, "'" + excerpt(text) + "' is not UTF-8");
  }
}

template <class T>
std::optional<std::string> read_number(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return std::string{as_text(std::as_bytes(std::span{&value, 1}))};
}

}  // namespace

Result<std::chrono::milliseconds> parse_duration(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
  if (error == std::errc{} && value >= 0 && std::isfinite(value)) {
    const auto unit = text.substr(static_cast<std::size_t>(end - text.data()));
    for (const auto& [name, ms] : kUnits) {
      if (name != unit) continue;
      if (value * ms > static_cast<double>(kMaxDuration.count()))
        return fail(Errc::bad_argument, "'" + std::string{text} + "' is above 24 days");
      return std::chrono::milliseconds{std::llround(std::ceil(value * ms))};
    }
  }
  return fail(Errc::bad_argument, "'" + std::string{text} + "' is no time: want 1.5, 250ms, 10s, 2m, 1h or 1d");
}

Result<std::string> to_item(std::string_view input, Format format) {
  if (format == Format::text) return quote(input);
  if (Json::accept(input)) return std::string{input};
  return fail(Errc::bad_argument, "'" + excerpt(input) + "' is not JSON (with --lines it would be text)");
}

Result<std::string> to_arguments(const std::vector<std::string>& words, Format format) {
  std::string list;
  for (std::size_t i = 0; i < words.size(); ++i) {
    auto item = to_item(words[i], format);
    if (!item) return fail(item.error().errc(), "argument " + std::to_string(i + 1) + ": " + item.error().detail);
    if (words.size() == 1) return item;
    list += (i > 0 ? ", " : "") + *item;
  }
  return "[" + list + "]";
}

Result<std::string> to_starred(const std::string& item) {
  const auto value = Json::parse(item, nullptr, false);
  if (!value.is_array()) return fail(Errc::bad_argument, "'" + excerpt(item) + "' is no list of arguments");
  return value.size() == 1 ? value[0].dump() : item;
}

Result<std::string> to_number(std::string_view text, Encoding element) {
  std::optional<std::string> bytes;
  switch (element) {
    case Encoding::i8: bytes = read_number<std::int8_t>(text); break;
    case Encoding::i16: bytes = read_number<std::int16_t>(text); break;
    case Encoding::i32: bytes = read_number<std::int32_t>(text); break;
    case Encoding::i64: bytes = read_number<std::int64_t>(text); break;
    case Encoding::u8: bytes = read_number<std::uint8_t>(text); break;
    case Encoding::u16: bytes = read_number<std::uint16_t>(text); break;
    case Encoding::u32: bytes = read_number<std::uint32_t>(text); break;
    case Encoding::u64: bytes = read_number<std::uint64_t>(text); break;
    case Encoding::f32: bytes = read_number<float>(text); break;
    case Encoding::f64: bytes = read_number<double>(text); break;
    default: break;
  }
  if (bytes) return std::move(*bytes);
  return fail(Errc::bad_argument, "'" + excerpt(text) + "' is no number of type " + std::string{name(element)});
}

Result<std::string> to_command(const std::vector<std::string>& words) {
  std::string list = "[";
  for (const auto& word : words) {
    auto quoted = quote(word);
    if (!quoted) return quoted.error();
    if (list.size() > 1) list += ',';
    list += *quoted;
  }
  return list + "]";
}

}  // namespace taskpool::cli
