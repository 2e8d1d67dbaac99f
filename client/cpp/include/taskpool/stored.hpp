#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "proto/store/key.hpp"
#include "taskpool/body.hpp"
#include "taskpool/value.hpp"

/// Values and keys of the shared store: to bytes and back.
namespace taskpool {

/// A reference to an object of the store, as a value in another object. While it is stored there, the object lives on.
/// As JSON it is {"$ref": "ID"}, alone or anywhere inside of a value; Client::open() makes a handle of it.
struct ObjectRef {
  std::string id;
  bool operator==(const ObjectRef&) const = default;
};
void to_json(nlohmann::json& json, const ObjectRef& ref);
/// Throws what nlohmann/json throws if it is no reference.
void from_json(const nlohmann::json& json, ObjectRef& ref);

/// A value as the store keeps it. A view of what it was made of, where that is bytes.
struct StoredValue {
  Encoding encoding = Encoding::json;
  std::string text;                 ///< With `json`.
  std::span<const std::byte> view;  ///< With another encoding.
  std::vector<std::uint64_t> refs;  ///< The objects that it names.

  std::span<const std::byte> bytes() const { return encoding == Encoding::json ? as_bytes(text) : view; }
};

namespace value_detail {

/// Writes `json` into `value`, with the objects that it names. Error: `bad_argument`.
Result<void> store_json(StoredValue& value, const nlohmann::json& json);

template <class T>
inline constexpr bool kIsTuple = false;
template <class... T>
inline constexpr bool kIsTuple<std::tuple<T...>> = true;
template <class A, class B>
inline constexpr bool kIsTuple<std::pair<A, B>> = true;

}  // namespace value_detail

/// Encodes a value: `Bytes`, and spans of bytes, as `bytes`; spans of numbers as an array; a Body or an Item as it is;
/// all else as JSON. Error: `bad_argument`.
template <class T>
Result<StoredValue> encode_stored(const T& value) {
  using namespace value_detail;
  StoredValue stored;
  if constexpr (std::same_as<T, Item>) {
    stored.encoding = value.encoding;
    stored.view = value.bytes;
    if (value.encoding == Encoding::json) stored.text = as_text(value.bytes);
  } else if constexpr (std::same_as<T, Body>) {
    return encode_stored(Item{value.encoding(), value.bytes(), value.count()});
  } else if constexpr (BytesLike<T>) {
    stored.encoding = Encoding::bytes;
    stored.view = value;
  } else if constexpr (kIsSpan<T>) {
    using E = std::remove_const_t<typename T::element_type>;
    static_assert(ArrayElement<E>, "a span has to be of numbers");
    stored.encoding = array_encoding<E>();
    stored.view = std::as_bytes(value);
  } else if constexpr (std::same_as<T, bool> || std::is_arithmetic_v<T> || Text<T>) {
    if (auto done = append_json(stored.text, value); !done) return done.error();
  } else {
    try {
      const nlohmann::json json = value;
      if (auto done = store_json(stored, json); !done) return done.error();
    } catch (const std::exception& error) {
      return fail(Errc::bad_argument, std::string{"value: "} + error.what());
    }
  }
  return stored;
}

/// Reads a value as a T, as decode_item() does. T may also be Body: the bytes are copied then.
template <class T>
Result<T> decode_stored(Encoding encoding, std::span<const std::byte> bytes) {
  const auto element = element_bytes(encoding);
  const auto count = element == 0 ? 1 : static_cast<std::uint32_t>(bytes.size() / element);
  if constexpr (std::same_as<T, Body>) {
    return Body{encoding, count, Bytes(bytes.begin(), bytes.end())};
  } else {
    return decode_item<T>(Item{encoding, bytes, count});
  }
}

/// A key in its canonical bytes, most often without an allocation. Not to be copied.
class EncodedKey {
 public:
  EncodedKey() = default;
  EncodedKey(const EncodedKey&) = delete;
  EncodedKey& operator=(const EncodedKey&) = delete;

  store::KeyView view() const { return long_.empty() ? buffer_.view() : as_bytes(long_); }

  /// Makes it the key of a value: nullptr, numbers and enumerations (1, 1.0 and true are one key), text, `Bytes`,
  /// tuples and pairs of these, a store::Key, JSON (see store::key_from_json), or what nlohmann/json converts. Error:
  /// `bad_key`.
  template <class K>
  Result<void> encode(const K& value) {
    using namespace value_detail;
    if constexpr (std::same_as<K, std::nullptr_t>) {
      buffer_.set_null();
    } else if constexpr (std::same_as<K, store::Key>) {
      long_ = value.bytes();
    } else if constexpr (std::is_enum_v<K>) {
      return encode(static_cast<std::underlying_type_t<K>>(value));
    } else if constexpr (std::integral<K> && std::is_signed_v<K>) {
      buffer_.set_integer(value);
    } else if constexpr (std::integral<K>) {
      buffer_.set_unsigned(value);
    } else if constexpr (std::is_floating_point_v<K>) {
      buffer_.set_real(static_cast<double>(value));
    } else if constexpr (BytesLike<K>) {
      return fits(buffer_.set_bytes(value));
    } else if constexpr (Text<K>) {
      return fits(buffer_.set_text(value));
    } else if constexpr (kIsTuple<K>) {
      return std::apply([this](const auto&... each) { return encode_tuple(each...); }, value);
    } else {
      try {
        return encode_json(value);
      } catch (const std::exception& error) {
        return fail(Errc::bad_key, std::string{"key: "} + error.what());
      }
    }
    return {};
  }

 private:
  static Result<void> fits(bool fitted);
  Result<void> encode_json(const nlohmann::json& value);
  Result<void> set_members(std::span<const std::string> members);

  template <class... T>
  Result<void> encode_tuple(const T&... members) {
    std::vector<std::string> kept;
    Result<void> done;
    const auto add = [&](const auto& member) {
      EncodedKey key;
      if (done) done = key.encode(member);
      kept.emplace_back(as_text(key.view()));
    };
    (add(members), ...);
    if (!done) return done;
    return set_members(kept);
  }

  store::KeyBuffer buffer_;
  std::string long_;  ///< If not empty, the key.
};

/// Reads a key back. What was true or 1.0 comes as 1. Error: `bad_message` if it is no K.
template <class K>
Result<K> decode_key(store::KeyView key) {
  if constexpr (std::same_as<K, store::Key>) {
    return store::parse_key(key);
  } else if constexpr (std::same_as<K, std::string>) {
    if (!key.empty() && key[0] == static_cast<std::byte>(store::KeyKind::text))
      return std::string{as_text(key.subspan(1))};
    return value_detail::mismatch("a text as key", store::key_to_json(key));
  } else if constexpr (std::same_as<K, Bytes>) {
    if (!key.empty() && key[0] == static_cast<std::byte>(store::KeyKind::bytes))
      return Bytes(key.begin() + 1, key.end());
    return value_detail::mismatch("bytes as key", store::key_to_json(key));
  } else {
    const auto json = store::key_to_json(key);
    if constexpr (ArrayElement<K>) {
      K value{};
      if (!value_detail::number_from_json(json, value)) return value_detail::mismatch("a number as key", json);
      return value;
    } else if constexpr (std::same_as<K, bool>) {
      if (json != 0 && json != 1) return value_detail::mismatch("0 or 1 as key", json);
      return json == 1;
    } else if constexpr (std::same_as<K, nlohmann::json>) {
      return json;
    } else {
      try {
        return json.template get<K>();
      } catch (const std::exception& error) {
        return fail(Errc::bad_message, std::string{"key: "} + error.what());
      }
    }
  }
}

}  // namespace taskpool
