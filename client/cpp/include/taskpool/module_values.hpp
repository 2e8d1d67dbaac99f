#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "proto/module_abi.h"

/// How the values of C++ functions become items and back. A part of taskpool/module.hpp.
namespace taskpool {

/// The item is not what the function takes. A function may throw it too; the caller gets `bad_argument`.
class BadArgument : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The result cannot be sent. The caller gets `not_encodable`.
class NotEncodable : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// An item as it came, or as it shall go: for functions that take or return anything. It does not own its bytes, which
/// live as long as the call.
struct RawItem {
  std::uint8_t encoding = TASKPOOL_NONE;  ///< TASKPOOL_JSON, ...
  std::span<const std::byte> bytes;
};

namespace module {

using Json = nlohmann::json;

/// The array encoding whose elements are Ts; TASKPOOL_NONE if there is none (bool and characters).
template <class T>
constexpr std::uint8_t element_encoding() {
  if constexpr (std::is_same_v<T, float>)
    return TASKPOOL_F32;
  else if constexpr (std::is_same_v<T, double>)
    return TASKPOOL_F64;
  else if constexpr (!std::is_integral_v<T> || std::is_same_v<T, bool> || std::is_same_v<T, char> ||
                     std::is_same_v<T, wchar_t> || std::is_same_v<T, char8_t> || std::is_same_v<T, char16_t> ||
                     std::is_same_v<T, char32_t>)
    return TASKPOOL_NONE;
  else if constexpr (sizeof(T) == 1)
    return std::is_signed_v<T> ? TASKPOOL_I8 : TASKPOOL_U8;
  else if constexpr (sizeof(T) == 2)
    return std::is_signed_v<T> ? TASKPOOL_I16 : TASKPOOL_U16;
  else if constexpr (sizeof(T) == 4)
    return std::is_signed_v<T> ? TASKPOOL_I32 : TASKPOOL_U32;
  else
    return std::is_signed_v<T> ? TASKPOOL_I64 : TASKPOOL_U64;
}
template <class T>
concept Number = (element_encoding<T>() != TASKPOOL_NONE);

// Kinds of parameters and results that have rules of their own; all others are nlohmann/json's.
template <class T>
inline constexpr bool is_byte_view = std::is_same_v<T, std::span<const std::byte>>;
template <class T>
inline constexpr bool is_bytes = is_byte_view<T> || std::is_same_v<T, std::vector<std::byte>>;
template <class T>
inline constexpr bool is_text = std::is_same_v<T, std::string> || std::is_same_v<T, std::string_view>;
template <class T>
inline constexpr bool is_number_vector = false;
template <Number T>
inline constexpr bool is_number_vector<std::vector<T>> = true;
template <class T>
inline constexpr bool is_number_view = false;
template <Number T>
inline constexpr bool is_number_view<std::span<const T>> = true;
template <class T>
concept Numbers = is_number_vector<T> || is_number_view<T>;

/// What a type is called in signatures and errors.
template <class T>
std::string type_name() {
  if constexpr (std::is_void_v<T>)
    return "none";
  else if constexpr (std::is_same_v<T, bool>)
    return "bool";
  else if constexpr (std::is_integral_v<T>)
    return "int";
  else if constexpr (std::is_floating_point_v<T>)
    return "float";
  else if constexpr (is_text<T>)
    return "text";
  else if constexpr (is_bytes<T>)
    return "bytes";
  else if constexpr (std::is_same_v<T, RawItem>)
    return "anything";
  else if constexpr (Numbers<T>)
    return "list of " + type_name<std::remove_const_t<typename T::value_type>>();
  else if constexpr (requires { typename T::mapped_type; })
    return "object";
  else if constexpr (requires {
                       typename T::value_type;
                       requires !std::is_same_v<T, Json>;
                     })
    return "list";
  else
    return "json";
}

inline std::string encoding_name(std::uint8_t encoding) {
  constexpr std::array names{"i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "f32", "f64"};
  if (encoding == TASKPOOL_NONE) return "nothing";
  if (encoding == TASKPOOL_BYTES) return "bytes";
  if (encoding >= TASKPOOL_I8 && encoding <= TASKPOOL_F64)
    return "an array of " + std::string{names[static_cast<std::size_t>(encoding - TASKPOOL_I8)]};
  return encoding == TASKPOOL_JSON ? "json" : "an encoding that this runtime does not read";
}

/// A short piece of the value, for an error.
inline std::string shown(const Json& value) {
  constexpr std::size_t most = 40;
  auto text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > most) text = text.substr(0, most) + "...";
  return text;
}

template <class T>
BadArgument wrong_type(const std::string& argument, const std::string& got) {
  return BadArgument{argument + ": want " + type_name<T>() + ", got " + got};
}

/// An integer or float that must fit a T.
template <class T, class From>
T checked_number(From value, const std::string& argument) {
  if constexpr (std::is_floating_point_v<T>) {
    return static_cast<T>(value);
  } else {
    bool fits = false;
    if constexpr (std::is_integral_v<From>) {
      fits = std::in_range<T>(value);
    } else {
      const From bound = std::ldexp(From{1}, std::numeric_limits<T>::digits);  // a float exactly, unlike the largest T
      fits = value < bound && value >= (std::is_signed_v<T> ? -bound : From{0}) && std::trunc(value) == value;
    }
    if (fits) return static_cast<T>(value);
    throw BadArgument{argument + ": want int of " + std::to_string(std::numeric_limits<T>::min()) + " to " +
                      std::to_string(std::numeric_limits<T>::max()) + ", got " + std::to_string(value)};
  }
}

template <class T>
T number_from_json(const Json& value, const std::string& argument) {
  if (value.is_number_unsigned()) return checked_number<T>(value.template get<std::uint64_t>(), argument);
  if (value.is_number_integer()) return checked_number<T>(value.template get<std::int64_t>(), argument);
  if constexpr (std::is_floating_point_v<T>)
    if (value.is_number_float()) return static_cast<T>(value.template get<double>());
  throw wrong_type<T>(argument, shown(value));
}

/// Calls `visit` with each number of an array item.
template <class Visit>
void each_number(const taskpool_call& call, const Visit& visit) {
  const auto all = [&](auto type) {
    using T = decltype(type);
    const auto* const numbers = static_cast<const T*>(call.input);
    for (std::uint32_t i = 0; i < call.input_count; ++i) visit(numbers[i]);
  };
  switch (call.encoding) {
    case TASKPOOL_I8: return all(std::int8_t{});
    case TASKPOOL_I16: return all(std::int16_t{});
    case TASKPOOL_I32: return all(std::int32_t{});
    case TASKPOOL_I64: return all(std::int64_t{});
    case TASKPOOL_U8: return all(std::uint8_t{});
    case TASKPOOL_U16: return all(std::uint16_t{});
    case TASKPOOL_U32: return all(std::uint32_t{});
    case TASKPOOL_U64: return all(std::uint64_t{});
    case TASKPOOL_F32: return all(float{});
    default: return all(double{});
  }
}

inline bool is_array_item(const taskpool_call& call) { return call.encoding >= TASKPOOL_I8; }
inline std::string_view item_text(const taskpool_call& call) {
  return {static_cast<const char*>(call.input), call.input_bytes};
}
inline std::span<const std::byte> item_bytes(const taskpool_call& call) {
  return {static_cast<const std::byte*>(call.input), call.input_bytes};
}
inline Json item_json(const taskpool_call& call) {
  const auto text = item_text(call);
  auto value = Json::parse(text.begin(), text.end(), nullptr, false);
  if (value.is_discarded()) throw BadArgument{"the item is not valid JSON"};
  return value;
}

/// One number that is the whole item, without building a JSON tree. False: something else, or not plain.
template <Number T>
bool read_plain_number(std::string_view text, T& into) {
  const char* const end = text.data() + text.size();
  const char* digits = text.data() + (text.starts_with('-') ? 1 : 0);
  if (digits == end || *digits < '0' || *digits > '9')
    return false;                                         // also what from_chars takes and JSON does not: inf
  if (*digits == '0' && digits + 1 != end) return false;  // 007, but also 0.5: not the common case
  const auto [stop, error] = std::from_chars(text.data(), end, into);
  return error == std::errc{} && stop == end && *(end - 1) != '.';
}

/// Keeps one argument for the time of the call, with what it views. `T` is the parameter's type without reference.
template <class T>
class Argument {
 public:
  /// The argument is the whole item.
  void read_item(const taskpool_call& call, const std::string& name) {
    if constexpr (std::is_same_v<T, RawItem>) {
      value_ = RawItem{call.encoding, item_bytes(call)};
      return;
    } else {
      if constexpr (Number<T>)
        if (call.encoding == TASKPOOL_JSON && read_plain_number(item_text(call), value_)) return;
      if (call.encoding == TASKPOOL_JSON) return read_json(item_json(call), name);
      if constexpr (is_bytes<T> || is_text<T>) {
        if (call.encoding == TASKPOOL_BYTES) return view(item_bytes(call));
      }
      if constexpr (Numbers<T>)
        if (is_array_item(call)) return read_array(call, name);
      if constexpr (std::is_same_v<T, Json>) {
        if (is_array_item(call)) {
          value_ = Json::array();
          return each_number(call, [&](auto number) { value_.push_back(number); });
        }
      }
      throw wrong_type<T>(name, encoding_name(call.encoding));
    }
  }

  /// The argument is an element of the item, or the item itself.
  void read_json(const Json& value, const std::string& name) {
    if constexpr (Number<T>) {
      value_ = number_from_json<T>(value, name);
    } else if constexpr (std::is_same_v<T, bool>) {
      if (!value.is_boolean()) throw wrong_type<T>(name, shown(value));
      value_ = value.template get<bool>();
    } else if constexpr (is_text<T> || is_bytes<T>) {
      if (!value.is_string()) throw wrong_type<T>(name, shown(value));
      storage_ = value.template get<std::string>();
      view(std::as_bytes(std::span{storage_}));
    } else if constexpr (Numbers<T>) {
      if (!value.is_array()) throw wrong_type<T>(name, shown(value));
      using Element = std::remove_const_t<typename T::value_type>;
      storage_.reserve(value.size());
      for (std::size_t i = 0; i < value.size(); ++i)
        storage_.push_back(number_from_json<Element>(value[i], name + ", element " + std::to_string(i + 1)));
      value_ = take_storage();
    } else if constexpr (std::is_same_v<T, RawItem>) {
      throw BadArgument{name + ": only a single argument can be of any encoding"};
    } else {
      try {
        value.get_to(value_);
      } catch (const Json::exception& error) {
        throw BadArgument{name + ": want " + type_name<T>() + ", got " + shown(value) + " (" + error.what() + ")"};
      }
    }
  }

  T& get() { return value_; }

 private:
  /// Text and bytes live in a string, lists of numbers in a vector of them; other types need nothing.
  template <class U>
  struct StorageOf {
    using type = std::string;
  };
  template <Numbers U>
  struct StorageOf<U> {
    using type = std::vector<std::remove_const_t<typename U::value_type>>;
  };

  void view(std::span<const std::byte> bytes) {
    if constexpr (is_text<T>)
      value_ = T{reinterpret_cast<const char*>(bytes.data()), bytes.size()};
    else if constexpr (is_byte_view<T>)
      value_ = bytes;
    else
      value_.assign(bytes.begin(), bytes.end());
  }

  void read_array(const taskpool_call& call, const std::string& name) {
    using Element = std::remove_const_t<typename T::value_type>;
    if (call.encoding == element_encoding<Element>()) {
      const std::span numbers{static_cast<const Element*>(call.input), call.input_count};
      if constexpr (is_number_view<T>)
        value_ = numbers;
      else
        value_.assign(numbers.begin(), numbers.end());
      return;
    }
    storage_.reserve(call.input_count);
    each_number(call, [&](auto number) {
      storage_.push_back(checked_number<Element>(number, name + ", element " + std::to_string(storage_.size() + 1)));
    });
    value_ = take_storage();
  }

  auto take_storage() {
    if constexpr (is_number_view<T>)
      return T{storage_};
    else
      return std::move(storage_);
  }

  T value_{};
  typename StorageOf<T>::type storage_;
};

/// Writes short text straight to where the result is sent from.
template <class Write>
bool write_text(const taskpool_call* call, const Write& write) {
  constexpr std::size_t most = 64;
  auto* const begin = static_cast<char*>(call->host->reserve(call, TASKPOOL_JSON, most));
  if (begin == nullptr) return false;
  call->host->commit(call, static_cast<std::uint64_t>(write(begin, begin + most) - begin));
  return true;
}

template <class T>
bool write_number(const taskpool_call* call, T value) {
  if constexpr (std::is_integral_v<T>) {
    return write_text(call, [&](char* begin, char* end) { return std::to_chars(begin, end, value).ptr; });
  } else {
    if (!std::isfinite(value)) throw NotEncodable{"JSON has no form of " + std::to_string(value)};
    return write_text(call, [&](char* begin, char* end) {
      char* stop = std::to_chars(begin, end, value).ptr;
      if (std::none_of(begin, stop, [](char c) { return c == '.' || c == 'e'; })) {
        *stop++ = '.';  // a float stays one
        *stop++ = '0';
      }
      return stop;
    });
  }
}

/// Tells the runtime of an object of the store that the result names.
inline void refer(const taskpool_call* call, const std::string& object) {
  if (call->host->refer(call, object.c_str()) != 0)
    throw NotEncodable{"the result names object '" + object + "': no id, or more than 1024 objects"};
}

/// Tells it of all that are named as {"$ref": ID}.
inline void refer_to_all(const taskpool_call* call, const Json& value) {
  if (!value.is_structured()) return;
  if (value.is_object() && value.size() == 1) {
    const auto id = value.find("$ref");
    if (id != value.end() && id->is_string()) return refer(call, id->template get_ref<const std::string&>());
  }
  for (const auto& inner : value) refer_to_all(call, inner);
}

inline bool write_json(const taskpool_call* call, const Json& value) {
  refer_to_all(call, value);
  std::string text;
  try {
    text = value.dump();
  } catch (const Json::exception& error) {  // text that is not UTF-8
    throw NotEncodable{error.what()};
  }
  return call->host->result(call, TASKPOOL_JSON, text.data(), text.size()) == 0;
}

/// Makes what a function returned the result of the call. False: there was no room; the error is set.
template <class T>
bool write_result(const taskpool_call* call, const T& value) {
  if constexpr (Number<T>) {
    return write_number(call, value);
  } else if constexpr (std::is_same_v<T, RawItem>) {
    return call->host->result(call, value.encoding, value.bytes.data(), value.bytes.size()) == 0;
  } else if constexpr (is_bytes<T>) {
    return call->host->result(call, TASKPOOL_BYTES, value.data(), value.size()) == 0;
  } else if constexpr (Numbers<T>) {
    using Element = std::remove_const_t<typename T::value_type>;
    if (is_array_item(*call))  // who sends an array understands one
      return call->host->result(call, element_encoding<Element>(), value.data(), value.size() * sizeof(Element)) == 0;
    return write_json(call, Json(std::vector<Element>(value.begin(), value.end())));
  } else {
    return write_json(call, Json(value));
  }
}

}  // namespace module
}  // namespace taskpool
