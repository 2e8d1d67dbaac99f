#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <vector>

#include "proto/store/key.hpp"

namespace taskpool::store {
namespace {

using Json = nlohmann::json;

std::string to_hex(KeyView bytes) {
  constexpr const char* kDigits = "0123456789abcdef";
  std::string text;
  for (const std::byte byte : bytes) {
    text += kDigits[static_cast<unsigned>(byte) >> 4];
    text += kDigits[static_cast<unsigned>(byte) & 15];
  }
  return text;
}

std::optional<std::string> from_hex(const std::string& text) {
  if (text.size() % 2 != 0) return std::nullopt;
  std::string bytes;
  for (std::size_t index = 0; index < text.size(); index += 2) {
    unsigned value = 0;
    const char* end = text.data() + index + 2;
    if (std::from_chars(text.data() + index, end, value, 16).ptr != end) return std::nullopt;
    bytes += static_cast<char>(value);
  }
  return bytes;
}

/// A number's decimal digits from its big-endian magnitude.
std::string to_decimal(KeyView magnitude) {
  std::string digits;  // the last one first
  for (const std::byte byte : magnitude) {
    unsigned carry = static_cast<unsigned>(byte);
    for (char& digit : digits) {
      carry += static_cast<unsigned>(digit - '0') * 256;
      digit = static_cast<char>('0' + carry % 10);
      carry /= 10;
    }
    for (; carry != 0; carry /= 10) digits += static_cast<char>('0' + carry % 10);
  }
  std::reverse(digits.begin(), digits.end());
  return digits.empty() ? "0" : digits;
}

/// The key of a number in decimal digits, or nothing where it is none or is too long.
std::optional<std::string> from_decimal(const std::string& text) {
  const bool negative = text.starts_with('-');
  const std::string_view digits = std::string_view{text}.substr(negative ? 1 : 0);
  if (digits.empty() || digits.size() > 3 * kMaxKeyBytes) return std::nullopt;
  std::vector<unsigned char> bytes;  // the last one first
  for (const char digit : digits) {
    if (digit < '0' || digit > '9') return std::nullopt;
    unsigned carry = static_cast<unsigned>(digit - '0');
    for (unsigned char& byte : bytes) {
      carry += byte * 10u;
      byte = static_cast<unsigned char>(carry);
      carry >>= 8;
    }
    if (carry != 0) bytes.push_back(static_cast<unsigned char>(carry));
  }
  std::string key{static_cast<char>(KeyKind::integer)};
  key += static_cast<char>(negative && !bytes.empty());
  key.append(bytes.rbegin(), bytes.rend());
  return key;
}

Error no_form(const std::string& what) { return fail(Errc::bad_argument, "key: " + what); }

Result<Key> finish(const KeyBuffer& buffer) { return parse_key(buffer.view()); }
Result<Key> finish(KeyKind kind, const std::string& rest) {
  const std::string bytes = static_cast<char>(kind) + rest;
  return parse_key(std::as_bytes(std::span{bytes}));
}

Result<Key> from_object(const Json& json) {
  const auto& member = json.begin();
  if (json.size() != 1 || !member.value().is_string()) return no_form("an object has no canonical form");
  const auto& text = member.value().get_ref<const std::string&>();
  if (member.key() == "$bytes" || member.key() == "$opaque") {
    const auto bytes = from_hex(text);
    if (!bytes) return no_form("want hexadecimal digits: " + text.substr(0, 64));
    return finish(member.key() == "$bytes" ? KeyKind::bytes : KeyKind::opaque, *bytes);
  }
  if (member.key() == "$integer") {
    const auto bytes = from_decimal(text);
    if (!bytes) return no_form("want decimal digits: " + text.substr(0, 64));
    return parse_key(std::as_bytes(std::span{*bytes}));
  }
  if (member.key() == "$real") {
    KeyBuffer buffer;
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    if (text == "inf")
      buffer.set_real(kInfinity);
    else if (text == "-inf")
      buffer.set_real(-kInfinity);
    else if (text == "nan")
      buffer.set_real(std::nan(""));
    else
      return no_form("want nan, inf or -inf: " + text.substr(0, 64));
    return finish(buffer);
  }
  return no_form("an object has no canonical form");
}

Result<Key> from_json(const Json& json, unsigned depth) {
  KeyBuffer buffer;
  switch (json.type()) {
    case Json::value_t::null: return Key{};
    case Json::value_t::boolean: buffer.set_unsigned(json.get<bool>()); return finish(buffer);
    case Json::value_t::number_integer: buffer.set_integer(json.get<std::int64_t>()); return finish(buffer);
    case Json::value_t::number_unsigned: buffer.set_unsigned(json.get<std::uint64_t>()); return finish(buffer);
    case Json::value_t::number_float: buffer.set_real(json.get<double>()); return finish(buffer);
    case Json::value_t::string: return finish(KeyKind::text, json.get_ref<const std::string&>());
    case Json::value_t::object: return from_object(json);
    case Json::value_t::array: {
      if (depth >= kMaxKeyDepth) return no_form("tuples nested too deep");
      std::vector<Key> members;
      std::vector<KeyView> views;
      for (const auto& member : json) {
        auto key = from_json(member, depth + 1);
        if (!key) return key.error();
        members.push_back(std::move(*key));
        if (members.size() > kMaxKeyBytes) break;  // too long whatever they are
      }
      for (const auto& member : members) views.push_back(member.view());
      if (!buffer.set_tuple(views)) return no_form("longer than " + std::to_string(kMaxKeyBytes) + " bytes");
      return finish(buffer);
    }
    default: return no_form("no canonical form");
  }
}

}  // namespace

Result<Key> key_from_json(const Json& json) { return from_json(json, 0); }

Json key_to_json(KeyView key) {
  const KeyView rest = key.subspan(1);
  const auto text = [&rest] { return std::string{reinterpret_cast<const char*>(rest.data()), rest.size()}; };
  switch (static_cast<KeyKind>(key[0])) {
    case KeyKind::null: return nullptr;
    case KeyKind::integer: {
      const bool negative = rest[0] != std::byte{0};
      const KeyView magnitude = rest.subspan(1);
      std::uint64_t value = 0;
      for (const std::byte byte : magnitude.last(std::min<std::size_t>(magnitude.size(), sizeof value)))
        value = value << 8 | static_cast<std::uint64_t>(byte);
      if (magnitude.size() <= sizeof value && !negative) return value;
      if (magnitude.size() <= sizeof value && value <= std::uint64_t{1} << 63)
        return static_cast<std::int64_t>(~value + 1);
      return Json{{"$integer", (negative ? "-" : "") + to_decimal(magnitude)}};
    }
    case KeyKind::real: {
      double value;
      std::memcpy(&value, rest.data(), sizeof value);
      if (std::isfinite(value)) return value;
      return Json{{"$real", std::isnan(value) ? "nan" : value < 0 ? "-inf" : "inf"}};
    }
    case KeyKind::text: return text();
    case KeyKind::bytes: return Json{{"$bytes", to_hex(rest)}};
    case KeyKind::opaque: return Json{{"$opaque", to_hex(rest)}};
    case KeyKind::tuple: break;
  }
  Json members = Json::array();
  for (KeyView left = rest.subspan(sizeof(std::uint32_t)); !left.empty();) {
    std::uint32_t length;
    std::memcpy(&length, left.data(), sizeof length);
    members.push_back(key_to_json(left.subspan(sizeof length, length)));
    left = left.subspan(sizeof length + length);
  }
  return members;
}

}  // namespace taskpool::store
