#pragma once

#include <chrono>
#include <concepts>
#include <functional>
#include <optional>
#include <ranges>
#include <string>
#include <utility>
#include <vector>

#include "taskpool/batch.hpp"
#include "taskpool/object.hpp"

namespace taskpool {

/// A shared dict. Keys are compared by value and type ("1" is not 1, but 1, 1.0 and true are one key), and keep the
/// order in which they were inserted. Values travel as JSON, or as bytes (V = Bytes, Body). Errors: as Object.
template <class K, class V>
class Dict : public Object {
 public:
  using Ttl = std::optional<std::chrono::milliseconds>;

  Dict() = default;
  explicit Dict(Object object) : Object{std::move(object)} {}

  /// The value, or nothing. Reads the shared memory: about as fast as a hash map of one's own.
  Result<std::optional<V>> get(const K& key) const {
    EncodedKey encoded;
    if (auto done = encoded.encode(key); !done) return done.error();
    return read_as<V>([&](std::span<std::byte> into) { return read(encoded.view(), into); },
                      [&] { return call(store::Code::get, {StoreArgument::key(encoded.view())}); });
  }
  /// The same where it has to be there. Error: `unknown_key`.
  Result<V> at(const K& key) const {
    auto value = get(key);
    if (!value) return value.error();
    if (!*value) return fail(Errc::unknown_key, "the dict has no such entry");
    return std::move(**value);
  }
  /// Copies the value's bytes, as they are stored, into `into`; returns their size, or nothing. Error:
  /// `body_too_large`.
  Result<std::optional<std::size_t>> get_into(const K& key, std::span<std::byte> into) const {
    EncodedKey encoded;
    if (auto done = encoded.encode(key); !done) return done.error();
    return copy_entry(encoded.view(), into);
  }
  Result<bool> contains(const K& key) const {
    EncodedKey encoded;
    if (auto done = encoded.encode(key); !done) return done.error();
    return has_entry(encoded.view());
  }
  /// Entries; some of them may have expired.
  Result<std::uint64_t> size() const { return count(); }

  /// Sets an entry; with `ttl` it is gone after that. Replaces value and time to live of one that is there.
  Result<void> set(const K& key, const V& value, Ttl ttl = {}) const {
    EncodedEntry entry;
    if (auto done = entry.encode(key, value); !done) return done.error();
    if (!ttl) return done(call(store::Code::set, {entry.key_argument(), entry.value_argument()}));
    return done(
        call(store::Code::set, {entry.key_argument(), entry.value_argument(), StoreArgument::integer(ttl->count())}));
  }
  /// The same without waiting. Goes out when somebody waits, at 32 KB, or at Client::flush(), in order.
  Future<void> set_async(const K& key, const V& value) const {
    EncodedEntry entry;
    if (auto done = entry.encode(key, value); !done) return Future<void>{failed(done.error())};
    return Future<void>{call_async(store::Code::set, {entry.key_argument(), entry.value_argument()})};
  }
  /// Deletes an entry; false: there was none.
  Result<bool> erase(const K& key) const {
    EncodedKey encoded;
    if (auto done = encoded.encode(key); !done) return done.error();
    return unless(Errc::unknown_key, call(store::Code::erase, {StoreArgument::key(encoded.view())}));
  }
  /// Deletes an entry and returns its value, or nothing.
  Result<std::optional<V>> pop(const K& key) const {
    EncodedKey encoded;
    if (auto done = encoded.encode(key); !done) return done.error();
    return taken_or<V>(Errc::unknown_key, call(store::Code::pop_key, {StoreArgument::key(encoded.view())}));
  }
  /// Deletes the entry that was inserted last and returns it; nothing: the dict is empty.
  Result<std::optional<std::pair<K, V>>> pop_item() const {
    auto result = call(store::Code::pop_item, {});
    if (!result && result.error().errc() == Errc::unknown_key) return std::nullopt;
    if (result && result->empty()) return std::nullopt;
    if (!result) return result.error();
    auto key = decode_key<K>(result->front().bytes());
    if (!key) return key.error();
    auto value = taken<V>(std::move(result), 1);
    if (!value) return value.error();
    return std::pair{std::move(*key), std::move(*value)};
  }
  /// The value that is there; `value` is set first if there is none.
  Result<V> get_or_set(const K& key, const V& value, Ttl ttl = {}) const {
    EncodedEntry entry;
    if (auto done = entry.encode(key, value); !done) return done.error();
    if (!ttl) return taken<V>(call(store::Code::get_or_set, {entry.key_argument(), entry.value_argument()}));
    return taken<V>(call(store::Code::get_or_set,
                         {entry.key_argument(), entry.value_argument(), StoreArgument::integer(ttl->count())}));
  }
  /// Adds to a number, and returns the sum; what is not there counts as 0. Errors: `wrong_type` (no number),
  /// `out_of_range` (beyond 64 bits).
  Result<V> incr(const K& key, const V& by = V{1}) const requires std::is_arithmetic_v<V> {
    EncodedEntry entry;
    if (auto done = entry.encode(key, by); !done) return done.error();
    return taken<V>(call(store::Code::incr, {entry.key_argument(), entry.value_argument()}));
  }
  Future<V> incr_async(const K& key, const V& by = V{1}) const requires std::is_arithmetic_v<V> {
    EncodedEntry entry;
    if (auto done = entry.encode(key, by); !done) return Future<V>{failed(done.error())};
    return Future<V>{call_async(store::Code::incr, {entry.key_argument(), entry.value_argument()})};
  }
  /// Sets the entry if it is `expected` now, byte by byte as stored; nothing: if it is not there. False: it is
  /// something else.
  Result<bool> compare_and_set(const K& key, const std::optional<V>& expected, const V& value) const {
    EncodedEntry entry;
    if (auto done = entry.encode(key, value); !done) return done.error();
    StoredValue before;
    before.encoding = Encoding::none;
    if (expected) {
      auto encoded = encode_stored(*expected);
      if (!encoded) return encoded.error();
      before = std::move(*encoded);
    }
    return unless(Errc::changed, call(store::Code::compare_and_set,
                                      {entry.key_argument(), StoreArgument::value(before), entry.value_argument()}));
  }
  /// Gives an entry a new time to live; nothing: for ever. False: there is none.
  Result<bool> expire(const K& key, Ttl ttl) const {
    EncodedKey encoded;
    if (auto done = encoded.encode(key); !done) return done.error();
    return unless(Errc::unknown_key, call(store::Code::expire, {StoreArgument::key(encoded.view()),
                                                                StoreArgument::integer(ttl ? ttl->count() : -1)}));
  }
  /// Sets many entries: any range of pairs. As one up to 1,024 of them that fit a frame; more in several steps.
  template <std::ranges::input_range Entries>
  Result<void> update(Entries&& entries) const {
    auto batch = Batch{*this};
    std::vector<Future<void>> under_way;
    for (const auto& [key, value] : entries) {
      if (batch.is_full()) under_way.push_back(batch.commit_async());
      batch.set(*this, key, value);
    }
    Result<void> done = batch.empty() ? Result<void>{} : Object::done(batch.commit());
    for (auto& each : under_way)
      if (auto one = each.get(); !one && done) done = one;
    return done;
  }
  Result<void> clear() const { return done(call(store::Code::clear, {})); }
  /// Replaces all entries by these if the object still has that version: see Snapshot, version(). False: it has not.
  /// Error: `limit_reached` above 1,022 entries or a frame's size.
  template <std::ranges::input_range Entries>
  Result<bool> replace_if(std::uint64_t version, Entries&& entries) const {
    auto batch = Batch{*this};
    batch.expect(*this, version).clear(*this);
    for (const auto& [key, value] : entries) batch.set(*this, key, value);
    return unless(Errc::changed, batch.commit());
  }

  /// Everything at one moment, in the order of insertion.
  Result<std::vector<std::pair<K, V>>> items() const {
    std::vector<std::pair<K, V>> all;
    auto done = each([&](store::KeyView key, Encoding encoding, std::span<const std::byte> bytes) -> Result<void> {
      auto decoded = decode_key<K>(key);
      if (!decoded) return decoded.error();
      auto value = decode_stored<V>(encoding, bytes);
      if (!value) return value.error();
      all.emplace_back(std::move(*decoded), std::move(*value));
      return {};
    });
    if (!done) return done.error();
    return all;
  }
  Result<std::vector<K>> keys() const {
    std::vector<K> all;
    auto done = each([&](store::KeyView key, Encoding, std::span<const std::byte>) -> Result<void> {
      auto decoded = decode_key<K>(key);
      if (!decoded) return decoded.error();
      all.push_back(std::move(*decoded));
      return {};
    });
    if (!done) return done.error();
    return all;
  }
  Result<std::vector<V>> values() const {
    std::vector<V> all;
    auto done = each([&](store::KeyView, Encoding encoding, std::span<const std::byte> bytes) -> Result<void> {
      auto value = decode_stored<V>(encoding, bytes);
      if (!value) return value.error();
      all.push_back(std::move(*value));
      return {};
    });
    if (!done) return done.error();
    return all;
  }
  /// Walks a dict of any size page by page, in no order and not at one moment: a key that is there all the time comes
  /// at least once. `visit(key, value)` returns whether to go on.
  template <class Visit>
  Result<void> scan(const Visit& visit) const {
    store::Cursor cursor;
    store::Page page;
    for (;;) {
      auto more = scan_page(cursor, page);
      if (!more) return more.error();
      for (const auto& entry : page.entries) {
        auto key = decode_key<K>(page.key(entry));
        if (!key) return key.error();
        auto value = decode_stored<V>(static_cast<Encoding>(entry.encoding), page.value(entry));
        if (!value) return value.error();
        if (!visit(std::move(*key), std::move(*value))) return {};
      }
      if (!*more) return {};
    }
  }

  using Object::watch;
  /// Tells of the changes of one entry, which need not be there.
  Result<Watch> watch(const K& key) const {
    EncodedKey encoded;
    if (auto done = encoded.encode(key); !done) return done.error();
    return start_watch(&encoded);
  }
};

}  // namespace taskpool
