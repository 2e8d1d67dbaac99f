#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "proto/store/reader.hpp"
#include "proto/store_body.hpp"
#include "taskpool/future.hpp"
#include "taskpool/options.hpp"
#include "taskpool/stored.hpp"
#include "taskpool/watch.hpp"

/// What all objects of the shared store have in common. <taskpool/objects.hpp> has the typed ones.
namespace taskpool {

namespace client {
class Opened;
class Session;
}  // namespace client

class Lockable;

/// What to make where there is no such object yet.
struct ObjectSpec {
  store::ObjectType type = store::ObjectType::dict;
  StoredValue initial{};               ///< Of a value.
  Encoding typecode = Encoding::none;  ///< Of an array.
  std::uint64_t length = 0;            ///< Of an array.
  std::uint64_t maxsize = 0;           ///< Of a queue; 0: no bound.
  std::uint64_t value = 1;             ///< Of a semaphore.
  std::uint64_t parties = 0;           ///< Of a barrier.
  bool has_action = false;             ///< Of a barrier.
  const Lockable* lock = nullptr;      ///< Of a condition; null: one of its own.
};

/// An argument of a store operation, untyped; views the caller's bytes. PROTOCOL.md, section 3.5.
struct StoreArgument {
  std::uint8_t encoding = 0;
  std::span<const std::byte> bytes;
  std::span<const std::uint64_t> refs;
  std::int64_t number = 0;  ///< Instead of the bytes, if is_number.
  bool is_number = false;

  static StoreArgument key(store::KeyView key) { return {store::kKeyEncoding, key, {}, 0, false}; }
  static StoreArgument value(const StoredValue& value) {
    return {static_cast<std::uint8_t>(value.encoding), value.bytes(), value.refs, 0, false};
  }
  /// Nothing: what was not there, in compare_and_set.
  static StoreArgument none() { return {}; }
  static StoreArgument integer(std::int64_t value) {
    return {static_cast<std::uint8_t>(Encoding::i64), {}, {}, value, true};
  }
  /// Several values, written by pack_values().
  static StoreArgument items(std::span<const std::byte> packed) {
    return {store::kItemsEncoding, packed, {}, 0, false};
  }
};

/// Appends a value to a list of them. Error: `body_too_large` above 64 KiB, which has to go alone.
Result<void> pack_value(Bytes& packed, const StoredValue& value);

/// What an operation gave back, value by value.
using StoreResult = std::vector<Body>;

/// How long to wait. The longest is 24 days.
struct Patience {
  std::int64_t ms = -1;  ///< -1: as long as it takes; 0: not at all.
  static Patience forever() { return {}; }
  static Patience none() { return {0}; }
  static Patience up_to(std::chrono::milliseconds time) { return {std::max<std::int64_t>(time.count(), 0)}; }
};

/// The contents of a dict or a list at one moment.
struct Snapshot {
  store::Page page;           ///< Entries in the order of their insertion, or items.
  std::uint64_t version = 0;  ///< Of the object then: for replace_if().
};

/// An object of the shared store: a handle, copyable, thread-safe; copies share it. A named object lives until
/// remove(); an anonymous one as long as a handle, a running task or a reachable object refers to it.
///
/// What reads, reads the shared memory, without the daemon, also while the daemon is away. What changes something asks
/// the daemon, and has happened when it returns. After a reconnection, and in a forked child, handles go on by
/// themselves.
///
/// Errors of every operation: `unknown_object` (it was removed), `wrong_type`, `daemon_gone`, `outcome_unknown`; of
/// reads `bad_segment`; of those that store something `store_full`, `body_too_large` (8 MiB: use a Buffer),
/// `bad_argument`; of those with a key `bad_key`.
class Object {
 public:
  Object() = default;

  bool valid() const { return opened_ != nullptr; }
  /// Empty if it is anonymous.
  const std::string& name() const;
  store::ObjectType type() const;
  /// Opaque text that names it for ever: ids are not used again.
  std::string id() const;
  /// To store in another object.
  ObjectRef ref() const { return {id()}; }
  /// True if opening it made it.
  bool created() const;
  /// Changes with every change.
  Result<std::uint64_t> version() const {
    const auto now = stat();
    if (!now) return now.error();
    return now->version;
  }
  /// What its record says: owner, version, size and so on.
  Result<store::ObjectStat> stat() const;
  /// Deletes the object and its name. Handles of others get `unknown_object` from then on.
  Result<void> remove() const;
  /// Tells of every change from now on. Error: `limit_reached`.
  Result<Watch> watch() const { return start_watch(nullptr); }

  // Untyped, for programs that learn at run time what they have.

  /// One operation, waiting for its result; one that waits in the daemon ends with `timed_out`, or nothing, as
  /// PROTOCOL.md says.
  Result<StoreResult> call(store::Code code, std::initializer_list<StoreArgument> arguments) const;
  /// The same without waiting; sent with what follows, in order: it goes out when somebody waits, at 32 KB, or at
  /// Client::flush().
  RawFuture call_async(store::Code code, std::initializer_list<StoreArgument> arguments) const;
  /// The same without an answer, sent at once. What goes wrong, nobody learns.
  void tell(store::Code code, std::initializer_list<StoreArgument> arguments) const;

  // Reading the shared memory. Each of these reads once; the code says how it went.

  /// Copies the value of a dict's entry into `into`. What is too large for it is not copied; its size is told all the
  /// same.
  store::Read read(store::KeyView key, std::span<std::byte> into) const;
  store::Read read_item(std::int64_t index, std::span<std::byte> into) const;
  store::Read read_value(std::span<std::byte> into) const;
  store::ReadCode read_words(std::uint64_t first, std::span<std::uint64_t> into) const;
  /// Whether a dict has such an entry.
  store::Read find(store::KeyView key) const;
  /// All of a dict or a list, of one moment, in order. Where it keeps changing, the daemon stops its writes meanwhile,
  /// for a second at most.
  Result<Snapshot> read_all() const;

 protected:
  friend class Client;
  friend class Batch;
  Object(std::shared_ptr<client::Session> session, std::shared_ptr<client::Opened> opened)
      : session_{std::move(session)}, opened_{std::move(opened)} {}

  Result<Watch> start_watch(const EncodedKey* key) const;
  Result<std::uint64_t> count() const {
    const auto now = stat();
    if (!now) return now.error();
    return now->count;
  }
  /// Elements of an array from `begin` up to `end`, as Python's slices have it, at one moment.
  Result<std::vector<std::uint64_t>> words_between(std::int64_t begin, std::int64_t end) const;
  static constexpr std::int64_t kEnd = std::numeric_limits<std::int64_t>::max();
  /// Error: `wrong_type` if it is not such an array.
  Result<void> check_array(Encoding typecode, std::uint64_t length) const;
  Result<std::optional<std::size_t>> copy_entry(store::KeyView key, std::span<std::byte> into) const;
  Result<bool> has_entry(store::KeyView key) const;
  /// Reads the next page of a dict. False: it was the last.
  Result<bool> scan_page(store::Cursor& cursor, store::Page& page) const;
  /// Calls `visit(key, encoding, value)` for all of a dict or a list at one moment, until it fails.
  template <class Visit>
  Result<void> each(const Visit& visit, std::uint64_t* version = nullptr) const {
    const auto all = read_all();
    if (!all) return all.error();
    if (version != nullptr) *version = all->version;
    for (const auto& entry : all->page.entries) {
      auto visited = visit(all->page.key(entry), static_cast<Encoding>(entry.encoding), all->page.value(entry));
      if (!visited) return visited;
    }
    return {};
  }
  /// A call that ended before it began.
  RawFuture failed(const Error& error) const;
  static Item item_of(const Body& body) { return {body.encoding(), body.bytes(), body.count()}; }
  /// A result that is nothing but done.
  template <class T>
  static Result<void> done(const Result<T>& result) {
    if (!result) return result.error();
    return {};
  }
  /// Whether it is done; an error of that code says that it is not.
  template <class T>
  static Result<bool> unless(Errc code, const Result<T>& result) {
    if (result) return true;
    if (result.error().errc() == code) return false;
    return result.error();
  }
  /// The value of a result; nothing for an error of that code.
  template <class T>
  static Result<std::optional<T>> taken_or(Errc code, Result<StoreResult> result) {
    if (!result && result.error().errc() == code) return std::nullopt;
    auto value = taken<T>(std::move(result));
    if (!value) return value.error();
    return std::optional<T>{std::move(*value)};
  }
  /// The value at that place of a result. Error: `bad_message` if it is not there.
  template <class T>
  static Result<T> taken(Result<StoreResult> result, std::size_t index = 0) {
    if (!result) return result.error();
    if (result->size() <= index) return fail(Errc::bad_message, "the daemon's reply lacks a value");
    return decode_value<T>(std::move((*result)[index]));
  }

  /// Reads by `read` into a buffer that is large enough, and decodes; nothing if there is nothing. Where the entry kept
  /// changing, `ask` gets it from the daemon.
  template <class T, class Read, class Ask>
  Result<std::optional<T>> read_as(const Read& read, const Ask& ask) const {
    constexpr std::size_t kSmallBytes = 1024;
    std::byte small[kSmallBytes];  // not zeroed: most reads need a few bytes of it
    Bytes large;
    std::span<std::byte> into{small};
    for (unsigned attempt = 0; attempt < store::kReadTries; ++attempt) {
      const store::Read got = read(into);
      if (got.code == store::ReadCode::absent) return std::nullopt;
      if (got.code == store::ReadCode::too_busy) break;
      if (got.code != store::ReadCode::found) {
        if (auto again = recover(got.code); !again) return again.error();
        continue;
      }
      if (got.bytes > into.size()) {
        large.resize(got.bytes);
        into = large;
        continue;
      }
      auto value = decode_stored<T>(static_cast<Encoding>(got.encoding), into.first(got.bytes));
      if (!value) return value.error();
      return std::optional<T>{std::move(*value)};
    }
    auto result = ask();
    if (!result) {
      if (result.error().errc() == Errc::unknown_key) return std::nullopt;
      return result.error();
    }
    if (result->empty()) return std::nullopt;
    auto value = decode_value<T>(std::move(result->front()));
    if (!value) return value.error();
    return std::optional<T>{std::move(*value)};
  }
  /// What to do about a read that failed: nothing but to try again, or the error that it is.
  Result<void> recover(store::ReadCode code) const;

 private:
  std::shared_ptr<client::Session> session_;
  std::shared_ptr<client::Opened> opened_;
};

}  // namespace taskpool
