#pragma once

#include <bit>
#include <optional>
#include <span>
#include <vector>

#include "taskpool/object.hpp"

namespace taskpool {

/// One shared value. Errors: as Object.
template <class T>
class Value : public Object {
 public:
  Value() = default;
  explicit Value(Object object) : Object{std::move(object)} {}

  /// Reads the shared memory.
  Result<T> get() const {
    auto value = read_as<T>([this](std::span<std::byte> into) { return read_value(into); },
                            [this] { return call(store::Code::value_get, {}); });
    if (!value) return value.error();
    if (!*value) return fail(Errc::unknown_key, "it has no value yet");
    return std::move(**value);
  }
  Result<void> set(const T& value) const {
    const auto encoded = encode_stored(value);
    if (!encoded) return encoded.error();
    return done(call(store::Code::value_set, {StoreArgument::value(*encoded)}));
  }
  Future<void> set_async(const T& value) const {
    const auto encoded = encode_stored(value);
    if (!encoded) return Future<void>{failed(encoded.error())};
    return Future<void>{call_async(store::Code::value_set, {StoreArgument::value(*encoded)})};
  }
  /// Adds to a number, and returns the sum. Errors: `wrong_type`, `out_of_range` (beyond 64 bits).
  Result<T> incr(const T& by = T{1}) const requires std::is_arithmetic_v<T> {
    const auto encoded = encode_stored(by);
    if (!encoded) return encoded.error();
    return taken<T>(call(store::Code::value_incr, {StoreArgument::value(*encoded)}));
  }
  /// Sets it if it is `expected` now, byte by byte as stored. False: it is something else.
  Result<bool> compare_and_set(const T& expected, const T& value) const {
    const auto before = encode_stored(expected);
    if (!before) return before.error();
    const auto after = encode_stored(value);
    if (!after) return after.error();
    return unless(Errc::changed, call(store::Code::value_compare_and_set,
                                      {StoreArgument::value(*before), StoreArgument::value(*after)}));
  }
};

/// A shared array of numbers, of fixed length; the elements begin as 0. Negative indexes count from the end; beyond:
/// `out_of_range`. Errors: as Object.
template <ArrayElement T>
class Array : public Object {
 public:
  Array() = default;
  explicit Array(Object object) : Object{std::move(object)} {}

  Result<std::uint64_t> size() const { return count(); }
  /// Reads the shared memory.
  Result<T> get(std::int64_t index) const {
    auto one = slice(index, index == -1 ? kEnd : index + 1);
    if (!one) return one.error();
    if (one->empty()) return fail(Errc::out_of_range, "the array has no element " + std::to_string(index));
    return one->front();
  }
  /// Elements from `begin` up to `end`, cut to what is there; all of one moment.
  Result<std::vector<T>> slice(std::int64_t begin = 0, std::int64_t end = kEnd) const {
    const auto words = words_between(begin, end);
    if (!words) return words.error();
    std::vector<T> elements;
    elements.reserve(words->size());
    for (const auto word : *words) elements.push_back(from_word(word));
    return elements;
  }
  Result<void> set(std::int64_t index, T value) const {
    return done(call(store::Code::array_set, {StoreArgument::integer(index), numbers({&value, 1})}));
  }
  /// Sets elements from `begin` on, as one. Error: `out_of_range` if not all fit.
  Result<void> set_slice(std::int64_t begin, std::span<const T> values) const {
    return done(call(store::Code::array_set_slice, {StoreArgument::integer(begin), numbers(values)}));
  }
  /// Adds to an element, and returns the sum. Error: `out_of_range` if that is beyond T.
  Result<T> incr(std::int64_t index, T by = T{1}) const {
    return taken<T>(call(store::Code::array_incr, {StoreArgument::integer(index), numbers({&by, 1})}));
  }
  /// Sets an element if it is `expected` now. False: it is something else.
  Result<bool> compare_and_set(std::int64_t index, T expected, T value) const {
    return unless(Errc::changed, call(store::Code::array_compare_and_set,
                                      {StoreArgument::integer(index), numbers({&expected, 1}), numbers({&value, 1})}));
  }

  /// Error: `wrong_type` if it has other elements, or not so many.
  Result<void> check(std::size_t length) const { return check_array(array_encoding<T>(), length); }

 private:
  static StoreArgument numbers(std::span<const T> values) {
    return {static_cast<std::uint8_t>(array_encoding<T>()), std::as_bytes(values), {}, 0, false};
  }
  /// PROTOCOL.md, section 6: integers are extended to a word, a fraction is there as a double.
  static T from_word(std::uint64_t word) {
    if constexpr (std::is_floating_point_v<T>) {
      return static_cast<T>(std::bit_cast<double>(word));
    } else {
      return static_cast<T>(word);
    }
  }
};

/// Shared attributes: a dict whose keys are text and whose values may be of any type each. Errors: as Object;
/// `unknown_key` for an attribute that was never set.
class Namespace : public Object {
 public:
  Namespace() = default;
  explicit Namespace(Object object) : Object{std::move(object)} {}

  template <class T>
  Result<T> get(const std::string& attribute) const {
    EncodedKey key;
    if (auto done = key.encode(attribute); !done) return done.error();
    auto value = read_as<T>([&](std::span<std::byte> into) { return read(key.view(), into); },
                            [&] { return call(store::Code::get, {StoreArgument::key(key.view())}); });
    if (!value) return value.error();
    if (!*value) return fail(Errc::unknown_key, "there is no attribute " + attribute);
    return std::move(**value);
  }
  template <class T>
  Result<void> set(const std::string& attribute, const T& value) const {
    EncodedKey key;
    if (auto done = key.encode(attribute); !done) return done.error();
    const auto encoded = encode_stored(value);
    if (!encoded) return encoded.error();
    return done(call(store::Code::set, {StoreArgument::key(key.view()), StoreArgument::value(*encoded)}));
  }
  Result<bool> erase(const std::string& attribute) const {
    EncodedKey key;
    if (auto done = key.encode(attribute); !done) return done.error();
    return unless(Errc::unknown_key, call(store::Code::erase, {StoreArgument::key(key.view())}));
  }
  /// The attributes that are set, in the order in which they first were.
  Result<std::vector<std::string>> attributes() const;
};

}  // namespace taskpool
