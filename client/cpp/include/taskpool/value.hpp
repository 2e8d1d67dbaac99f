#pragma once

#include <charconv>
#include <concepts>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "proto/frame.hpp"
#include "proto/result.hpp"
#include "taskpool/body.hpp"

/// Values to items and back. Numbers and text are written and read directly; everything else through nlohmann/json's
/// conversions (to_json, from_json).
namespace taskpool {

/// The array encoding whose elements are Ts; `none` if there is none (bool and character types included).
template <class T>
constexpr Encoding array_encoding() {
  if constexpr (!std::is_arithmetic_v<T> || std::is_same_v<T, bool> || std::is_same_v<T, char> ||
                std::is_same_v<T, wchar_t> || std::is_same_v<T, char8_t> || std::is_same_v<T, char16_t> ||
                std::is_same_v<T, char32_t> || std::is_same_v<T, long double>) {
    return Encoding::none;
  } else if constexpr (std::is_floating_point_v<T>) {
    return sizeof(T) == 4 ? Encoding::f32 : Encoding::f64;
  } else if constexpr (std::is_signed_v<T>) {
    return sizeof(T) == 1   ? Encoding::i8
           : sizeof(T) == 2 ? Encoding::i16
           : sizeof(T) == 4 ? Encoding::i32
                            : Encoding::i64;
  } else {
    return sizeof(T) == 1   ? Encoding::u8
           : sizeof(T) == 2 ? Encoding::u16
           : sizeof(T) == 4 ? Encoding::u32
                            : Encoding::u64;
  }
}
template <class T>
concept ArrayElement = array_encoding<T>()
!= Encoding::none;

namespace value_detail {

template <class T>
concept Text = std::convertible_to<const T&, std::string_view> && !std::same_as<T, std::nullptr_t>;
template <class T>
concept Integer = std::integral<T> && !std::same_as<T, bool> && ArrayElement<T>;
template <class T>
concept BytesLike =
    std::same_as<T, Bytes> || std::same_as<T, std::span<const std::byte>> || std::same_as<T, std::span<std::byte>>;
template <class T>
inline constexpr bool kIsVector = false;
template <class T>
inline constexpr bool kIsVector<std::vector<T>> = true;
template <class T>
inline constexpr bool kIsSpan = false;
template <class T>
inline constexpr bool kIsSpan<std::span<T>> = true;

/// JSON text of a JSON value; error `bad_argument` if it holds text that is not UTF-8.
Result<void> append_dump(std::string& out, const nlohmann::json& value);
/// The text as a JSON string.
Result<void> append_text(std::string& out, std::string_view text);
void append_number(std::string& out, double value);
/// The JSON value in an item: of `json`, or of an array (a list of its numbers; a number alone if `scalar`).
Result<nlohmann::json> parse(const Item& item, bool scalar);
/// "result: want an integer, got TEXT".
Error mismatch(std::string_view want, const Item& item);
Error mismatch(std::string_view want, const nlohmann::json& got);
/// Text of a JSON string, or the bytes of a `bytes` item.
Result<std::string> read_text(const Item& item);

template <class To, class From>
bool convert_number(From from, To& to) {
  if constexpr (std::same_as<To, From>) {
    to = from;
    return true;
  } else if constexpr (std::is_floating_point_v<To>) {
    to = static_cast<To>(from);
    return true;
  } else if constexpr (std::is_floating_point_v<From>) {
    // 2^digits is exact in both; the bound itself is out of range.
    constexpr auto bound = static_cast<double>(std::uint64_t{1} << (std::numeric_limits<To>::digits - 1)) * 2;
    const auto wide = static_cast<double>(from);
    if (!(wide < bound && wide >= (std::is_signed_v<To> ? -bound : 0.0))) return false;
    to = static_cast<To>(from);
    return static_cast<From>(to) == from;
  } else {
    if (!std::in_range<To>(from)) return false;
    to = static_cast<To>(from);
    return true;
  }
}

template <class To, class From>
bool convert_elements(std::span<const std::byte> bytes, To* to, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i)
    if (!convert_number(load<From>(bytes.data() + i * sizeof(From)), to[i])) return false;
  return true;
}

template <class T>
bool number_from_json(const nlohmann::json& from, T& to) {
  if (from.is_number_unsigned()) return convert_number(from.get<std::uint64_t>(), to);
  if (from.is_number_integer()) return convert_number(from.get<std::int64_t>(), to);
  if (from.is_number_float()) return convert_number(from.get<double>(), to);
  return false;
}

}  // namespace value_detail

/// Reads `count` elements of an array of any element type into Ts. Error: `bad_message` if one is out of T's range.
template <ArrayElement T>
Result<void> read_elements(Encoding encoding, std::span<const std::byte> bytes, T* to, std::size_t count) {
  if (bytes.size() != count * element_bytes(encoding) || !is_array(encoding))
    return fail(Errc::bad_message, "result: not an array of its length");
  if (encoding == array_encoding<T>()) {
    if (count > 0) std::memcpy(to, bytes.data(), bytes.size());
    return {};
  }
  using namespace value_detail;
  const bool fits = [&] {
    switch (encoding) {
      case Encoding::i8: return convert_elements<T, std::int8_t>(bytes, to, count);
      case Encoding::i16: return convert_elements<T, std::int16_t>(bytes, to, count);
      case Encoding::i32: return convert_elements<T, std::int32_t>(bytes, to, count);
      case Encoding::i64: return convert_elements<T, std::int64_t>(bytes, to, count);
      case Encoding::u8: return convert_elements<T, std::uint8_t>(bytes, to, count);
      case Encoding::u16: return convert_elements<T, std::uint16_t>(bytes, to, count);
      case Encoding::u32: return convert_elements<T, std::uint32_t>(bytes, to, count);
      case Encoding::u64: return convert_elements<T, std::uint64_t>(bytes, to, count);
      case Encoding::f32: return convert_elements<T, float>(bytes, to, count);
      default: return convert_elements<T, double>(bytes, to, count);
    }
  }();
  if (!fits) return fail(Errc::bad_message, "result: a number of the array does not fit the type asked for");
  return {};
}

/// Appends a value as JSON text. Errors: `bad_argument`.
template <class T>
Result<void> append_json(std::string& out, const T& value) {
  using namespace value_detail;
  if constexpr (std::same_as<T, bool>) {
    out += value ? "true" : "false";
  } else if constexpr (Integer<T>) {
    char text[24];
    out.append(text, std::to_chars(text, text + sizeof text, value).ptr);
  } else if constexpr (std::is_floating_point_v<T>) {
    append_number(out, static_cast<double>(value));
  } else if constexpr (Text<T>) {
    return append_text(out, value);
  } else {
    try {
      const nlohmann::json json = value;
      return append_dump(out, json);
    } catch (const std::exception& error) {
      return fail(Errc::bad_argument, std::string{"argument: "} + error.what());
    }
  }
  return {};
}

/// Appends a tuple as a JSON array.
template <class Tuple>
Result<void> append_json_tuple(std::string& out, const Tuple& values) {
  out += '[';
  Result<void> done;
  bool first = true;
  const auto add = [&](const auto& value) {
    if (!done) return;
    if (!std::exchange(first, false)) out += ',';
    done = append_json(out, value);
  };
  std::apply([&](const auto&... each) { (add(each), ...); }, values);
  out += ']';
  return done;
}

/// The arguments of one call as an item: owned text, or a view of what the caller passed.
struct Arguments {
  Encoding encoding = Encoding::json;
  std::uint32_t count = 1;
  std::string text;
  std::span<const std::byte> view;

  Item item() const { return {encoding, encoding == Encoding::json ? as_bytes(text) : view, count}; }
};

/// Encodes the arguments of a function. One of `Bytes` or a span of bytes travels as `bytes`; one span of numbers as an
/// array; anything else as JSON: one argument as itself, more (or none) as a list. Errors: `bad_argument`.
template <class... T>
Result<Arguments> encode_arguments(const T&... values) {
  Arguments arguments;
  if constexpr (sizeof...(T) == 1) {
    const auto& value = std::get<0>(std::tie(values...));
    using V = std::remove_cvref_t<decltype(value)>;
    if constexpr (value_detail::BytesLike<V>) {
      arguments.encoding = Encoding::bytes;
      arguments.view = value;
      return arguments;
    } else if constexpr (value_detail::kIsSpan<V>) {
      using E = std::remove_const_t<typename V::element_type>;
      static_assert(ArrayElement<E>, "a span has to be of numbers");
      if (value.size() > kMaxJobItems) return fail(Errc::bad_argument, "argument: too many elements");
      arguments.encoding = array_encoding<E>();
      arguments.view = std::as_bytes(value);
      arguments.count = static_cast<std::uint32_t>(value.size());
      return arguments;
    } else {
      if (auto done = append_json(arguments.text, value); !done) return done.error();
      return arguments;
    }
  } else {
    if (auto done = append_json_tuple(arguments.text, std::tie(values...)); !done) return done.error();
    return arguments;
  }
}

/// Reads a result as a T: numbers, bool, text, `Bytes`, vectors of numbers (also from arrays), nlohmann::json, or
/// anything that nlohmann/json converts. Error: `bad_message` says what was wanted and what came.
template <class T>
Result<T> decode_item(const Item& item) {
  using namespace value_detail;
  if constexpr (std::is_void_v<T>) {
    return {};
  } else if constexpr (std::same_as<T, Bytes>) {
    return Bytes(item.bytes.begin(), item.bytes.end());
  } else if constexpr (std::same_as<T, std::string>) {
    return read_text(item);
  } else if constexpr (std::same_as<T, nlohmann::json>) {
    return parse(item, false);
  } else if constexpr (ArrayElement<T>) {
    T value{};
    if (item.encoding == Encoding::json) {
      const auto text = as_text(item.bytes);
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
      if (error == std::errc{} && end == text.data() + text.size()) return value;
    }
    const auto json = parse(item, true);
    if (!json) return json.error();
    if (!number_from_json(*json, value)) return mismatch(std::integral<T> ? "an integer" : "a number", *json);
    return value;
  } else {
    if constexpr (kIsVector<T>) {
      if constexpr (ArrayElement<typename T::value_type>) {
        if (is_array(item.encoding)) {
          T values(item.count);
          if (auto read = read_elements(item.encoding, item.bytes, values.data(), values.size()); !read)
            return read.error();
          return values;
        }
      }
    }
    const auto json = parse(item, true);
    if (!json) return json.error();
    try {
      return json->template get<T>();
    } catch (const std::exception& error) {
      return fail(Errc::bad_message, std::string{"result: "} + error.what());
    }
  }
}

/// The same from a Body, which it gives back. T may be Body itself.
template <class T>
Result<T> decode_value(Body body) {
  if constexpr (std::same_as<T, Body>) {
    return body;
  } else {
    return decode_item<T>(Item{body.encoding(), body.bytes(), body.count()});
  }
}

}  // namespace taskpool
