#pragma once

#include <functional>
#include <optional>
#include <ranges>
#include <vector>

#include "taskpool/batch.hpp"
#include "taskpool/object.hpp"

namespace taskpool {

/// A shared list. Adding and taking at either end, an item by its index, and inserting cost about the same at any
/// length, up to millions. Negative indexes count from the end; errors beyond: `out_of_range`. Other errors: as Object.
template <class T>
class List : public Object {
 public:
  List() = default;
  explicit List(Object object) : Object{std::move(object)} {}

  Result<std::uint64_t> size() const { return count(); }
  /// An item, read from the shared memory.
  Result<T> get(std::int64_t index) const {
    auto value = read_as<T>([&](std::span<std::byte> into) { return read_item(index, into); },
                            [&] { return call(store::Code::list_get, {StoreArgument::integer(index)}); });
    if (!value) return value.error();
    if (!*value) return fail(Errc::out_of_range, "the list has no item " + std::to_string(index));
    return std::move(**value);
  }
  Result<void> set(std::int64_t index, const T& value) const { return with_value(store::Code::list_set, index, value); }
  /// Inserts before an index, which is cut to the list's ends.
  Result<void> insert(std::int64_t index, const T& value) const {
    return with_value(store::Code::list_insert, index, value);
  }
  Result<void> append(const T& value) const {
    const auto encoded = encode_stored(value);
    if (!encoded) return encoded.error();
    return done(call(store::Code::list_append, {StoreArgument::value(*encoded)}));
  }
  /// The same without waiting. Goes out when somebody waits, at 32 KB, or at Client::flush(), in order.
  Future<void> append_async(const T& value) const {
    const auto encoded = encode_stored(value);
    if (!encoded) return Future<void>{failed(encoded.error())};
    return Future<void>{call_async(store::Code::list_append, {StoreArgument::value(*encoded)})};
  }
  /// Appends all of a range, as one; at most 8 MiB of it (`body_too_large`).
  template <std::ranges::input_range Values>
  Result<void> extend(Values&& values) const {
    return with_values(store::Code::list_extend, values);
  }
  /// Takes an item out: the last one by default.
  Result<T> pop(std::int64_t index = -1) const {
    return taken<T>(call(store::Code::list_pop, {StoreArgument::integer(index)}));
  }
  Result<void> erase(std::int64_t index) const {
    return done(call(store::Code::list_delete, {StoreArgument::integer(index)}));
  }
  Result<void> erase(std::int64_t begin, std::int64_t end) const {
    return done(call(store::Code::list_delete_slice, {StoreArgument::integer(begin), StoreArgument::integer(end)}));
  }
  Result<void> clear() const { return done(call(store::Code::clear, {})); }
  Result<void> reverse() const { return done(call(store::Code::list_reverse, {})); }
  /// Replaces everything, as one; at most 8 MiB of it.
  template <std::ranges::input_range Values>
  Result<void> assign(Values&& values) const {
    return with_values(store::Code::list_replace, values);
  }
  /// The same if the object still has that version: see items(), version(). False: it has not. At most 1 MiB.
  template <std::ranges::input_range Values>
  Result<bool> replace_if(std::uint64_t version, Values&& values) const {
    Bytes packed;
    if (auto done = pack(packed, values); !done) return done.error();
    auto batch = Batch{*this};
    batch.expect(*this, version).add(store::Code::list_replace, *this, {StoreArgument::items(packed)});
    return unless(Errc::changed, batch.commit());
  }
  /// Changes all of the list by `change(std::vector<T>&)`, which may run several times: until nobody else changed it
  /// meanwhile. For what needs the items' own order or equality: sorting, removing by value. Error: `too_busy` after 64
  /// times.
  template <class F>
  Result<void> modify(const F& change) const {
    for (unsigned attempt = 0; attempt < store::kReadTries; ++attempt) {
      std::uint64_t version = 0;
      auto all = items(&version);
      if (!all) return all.error();
      change(*all);
      const auto replaced = replace_if(version, *all);
      if (!replaced) return replaced.error();
      if (*replaced) return {};
    }
    return fail(Errc::too_busy, "the list kept changing");
  }

  /// All items of one moment, and the list's version then.
  Result<std::vector<T>> items(std::uint64_t* version = nullptr) const {
    std::vector<T> all;
    auto done = each(
        [&](store::KeyView, Encoding encoding, std::span<const std::byte> bytes) -> Result<void> {
          auto value = decode_stored<T>(encoding, bytes);
          if (!value) return value.error();
          all.push_back(std::move(*value));
          return {};
        },
        version);
    if (!done) return done.error();
    return all;
  }

 private:
  template <class Values>
  static Result<void> pack(Bytes& packed, Values&& values) {
    for (const T& value : values) {
      const auto encoded = encode_stored(value);
      if (!encoded) return encoded.error();
      if (auto done = pack_value(packed, *encoded); !done) return done;
    }
    return {};
  }
  template <class Values>
  Result<void> with_values(store::Code code, Values&& values) const {
    Bytes packed;
    if (auto packing = pack(packed, values); !packing) return packing;
    return done(call(code, {StoreArgument::items(packed)}));
  }
  Result<void> with_value(store::Code code, std::int64_t index, const T& value) const {
    const auto encoded = encode_stored(value);
    if (!encoded) return encoded.error();
    return done(call(code, {StoreArgument::integer(index), StoreArgument::value(*encoded)}));
  }
};

}  // namespace taskpool
