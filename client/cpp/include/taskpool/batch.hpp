#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "taskpool/object.hpp"

namespace taskpool {

/// A key and a value on their way.
struct EncodedEntry {
  EncodedKey key;
  StoredValue value;

  template <class K, class V>
  Result<void> encode(const K& of_key, const V& of_value) {
    if (auto done = key.encode(of_key); !done) return done;
    auto encoded = encode_stored(of_value);
    if (!encoded) return encoded.error();
    value = std::move(*encoded);
    return {};
  }
  StoreArgument key_argument() const { return StoreArgument::key(key.view()); }
  StoreArgument value_argument() const { return StoreArgument::value(value); }
};

/// What the operations of a batch gave, in their order.
class BatchResult {
 public:
  explicit BatchResult(std::vector<StoreResult> results) : results_{std::move(results)} {}
  std::size_t size() const { return results_.size(); }
  /// What an operation gave: the sum of an incr, what a pop took. Once for each.
  template <class T>
  Result<T> get(std::size_t operation) {
    if (operation >= results_.size() || results_[operation].empty())
      return fail(Errc::bad_argument, "that operation of the batch gave nothing");
    return decode_value<T>(std::move(results_[operation].front()));
  }

 private:
  std::vector<StoreResult> results_;
};

/// Operations that are done as one: all, or none at the first error, whose detail names the operation. On objects of
/// one user or group. At most 1,024 (`limit_reached`), of values up to 64 KiB (`body_too_large`), 1 MiB together.
///
///     auto batch = client.batch();
///     batch.incr(accounts, "ada", -10).incr(accounts, "bob", 10);
///     auto sums = batch.commit();
class Batch {
 public:
  explicit Batch(std::shared_ptr<client::Session> session) : session_{std::move(session)} {}
  /// One for the session of an object.
  explicit Batch(const Object& object) : session_{object.session_} {}

  /// Only if the object still has that version; else commit() fails with `changed`.
  Batch& expect(const Object& object, std::uint64_t version) {
    return add(store::Code::expect, object, {StoreArgument::integer(static_cast<std::int64_t>(version))});
  }
  Batch& clear(const Object& object) { return add(store::Code::clear, object, {}); }

  template <class Dict, class K, class V>
  Batch& set(const Dict& dict, const K& key, const V& value) {
    EncodedEntry entry;
    if (auto done = entry.encode(key, value); !done) return refuse(done.error());
    return add(store::Code::set, dict, {entry.key_argument(), entry.value_argument()});
  }
  template <class Dict, class K>
  Batch& erase(const Dict& dict, const K& key) {
    return add_with_key(store::Code::erase, dict, key);
  }
  template <class Dict, class K>
  Batch& pop(const Dict& dict, const K& key) {
    return add_with_key(store::Code::pop_key, dict, key);
  }
  template <class Dict, class K, class V>
  Batch& incr(const Dict& dict, const K& key, const V& by) {
    EncodedEntry entry;
    if (auto done = entry.encode(key, by); !done) return refuse(done.error());
    return add(store::Code::incr, dict, {entry.key_argument(), entry.value_argument()});
  }
  template <class List, class V>
  Batch& append(const List& list, const V& value) {
    return add_with_value(store::Code::list_append, list, value);
  }
  /// Of a Value object.
  template <class Value, class V>
  Batch& assign(const Value& object, const V& value) {
    return add_with_value(store::Code::value_set, object, value);
  }

  /// Any operation that PROTOCOL.md allows here, untyped.
  Batch& add(store::Code code, const Object& object, std::initializer_list<StoreArgument> arguments);

  bool empty() const { return count_ == 0; }
  /// True if one more operation of usual size may not fit.
  bool is_full() const;
  /// Does it, and empties the batch. Errors: of the first operation that failed; nothing was done then.
  Result<BatchResult> commit();
  /// The same without waiting.
  Future<void> commit_async();

 private:
  template <class K>
  Batch& add_with_key(store::Code code, const Object& object, const K& key) {
    EncodedKey encoded;
    if (auto done = encoded.encode(key); !done) return refuse(done.error());
    return add(code, object, {StoreArgument::key(encoded.view())});
  }
  template <class V>
  Batch& add_with_value(store::Code code, const Object& object, const V& value) {
    auto encoded = encode_stored(value);
    if (!encoded) return refuse(encoded.error());
    return add(code, object, {StoreArgument::value(*encoded)});
  }
  Batch& refuse(const Error& error) {
    if (!error_) error_ = error;
    return *this;
  }

  std::shared_ptr<client::Session> session_;
  Bytes body_;  ///< The operations, but for the numbers of their objects.
  std::uint32_t count_ = 0;
  std::vector<std::pair<std::size_t, std::shared_ptr<client::Opened>>> targets_;  ///< Where the numbers go.
  std::optional<Error> error_;  ///< The first operation that could not be added.
};

}  // namespace taskpool
