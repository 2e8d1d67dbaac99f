#include "taskpool/value.hpp"

#include <array>
#include <cmath>

namespace taskpool::value_detail {
namespace {

/// How much of an unexpected value an error shows. Bytes.
constexpr std::size_t kShownBytes = 60;

std::string shown(std::string text) {
  if (text.size() > kShownBytes) text = text.substr(0, kShownBytes) + "...";
  return text;
}

template <class T>
nlohmann::json list_of(const Item& item) {
  auto list = nlohmann::json::array();
  for (std::size_t at = 0; at + sizeof(T) <= item.bytes.size(); at += sizeof(T))
    list.push_back(load<T>(item.bytes.data() + at));
  return list;
}

nlohmann::json list_of_any(const Item& item) {
  switch (item.encoding) {
    case Encoding::i8: return list_of<std::int8_t>(item);
    case Encoding::i16: return list_of<std::int16_t>(item);
    case Encoding::i32: return list_of<std::int32_t>(item);
    case Encoding::i64: return list_of<std::int64_t>(item);
    case Encoding::u8: return list_of<std::uint8_t>(item);
    case Encoding::u16: return list_of<std::uint16_t>(item);
    case Encoding::u32: return list_of<std::uint32_t>(item);
    case Encoding::u64: return list_of<std::uint64_t>(item);
    case Encoding::f32: return list_of<float>(item);
    default: return list_of<double>(item);
  }
}

}  // namespace

Result<void> append_dump(std::string& out, const nlohmann::json& value) {
  try {
    out += value.dump();
  } catch (const nlohmann::json::exception&) {
    return fail(Errc::bad_argument, "argument: text that is not UTF-8");
  }
  return {};
}

Result<void> append_text(std::string& out, std::string_view text) {
  const bool plain = std::all_of(text.begin(), text.end(),
                                 [](char each) { return each >= ' ' && each < 0x7f && each != '"' && each != '\\'; });
  if (!plain) return append_dump(out, nlohmann::json(text));
  out.append(1, '"').append(text).append(1, '"');
  return {};
}

void append_number(std::string& out, double value) {
  if (!std::isfinite(value)) {  // JSON has no such number
    out += "null";
    return;
  }
  std::array<char, 32> text;
  const std::string_view written{text.data(), std::to_chars(text.data(), text.data() + text.size(), value).ptr};
  out += written;
  if (written.find_first_of(".e") == std::string_view::npos) out += ".0";  // it stays a float in every language
}

Result<nlohmann::json> parse(const Item& item, bool scalar) {
  if (is_array(item.encoding)) {
    auto list = list_of_any(item);
    if (scalar && list.size() == 1) return nlohmann::json(list[0]);
    return list;
  }
  if (item.encoding == Encoding::none) return nlohmann::json(nullptr);
  if (item.encoding != Encoding::json) return mismatch("JSON", item);
  auto json = nlohmann::json::parse(as_text(item.bytes), nullptr, false);
  if (json.is_discarded()) return mismatch("JSON", item);
  return json;
}

Error mismatch(std::string_view want, const Item& item) {
  const auto got = item.encoding == Encoding::json ? shown(std::string{as_text(item.bytes)})
                                                   : "encoding " + std::string{name(item.encoding)};
  return fail(Errc::bad_message, "result: want " + std::string{want} + ", got " + got);
}

Error mismatch(std::string_view want, const nlohmann::json& got) {
  const auto text = got.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return fail(Errc::bad_message, "result: want " + std::string{want} + ", got " + shown(text));
}

Result<std::string> read_text(const Item& item) {
  const auto text = as_text(item.bytes);
  if (item.encoding == Encoding::bytes) return std::string{text};
  const bool quoted = item.encoding == Encoding::json && text.size() >= 2 && text.front() == '"' && text.back() == '"';
  if (quoted && text.find('\\') == std::string_view::npos) return std::string{text.substr(1, text.size() - 2)};
  auto json = parse(item, false);
  if (!json) return json.error();
  if (!json->is_string()) return mismatch("text", *json);
  return json->get<std::string>();
}

}  // namespace taskpool::value_detail
