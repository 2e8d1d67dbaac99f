#pragma once

#include <chrono>
#include <optional>

#include "taskpool/object.hpp"

namespace taskpool {

/// A shared queue: first in, first out; bounded if it was made with a `maxsize`. Who waits is served in the order of
/// coming. Errors: as Object.
template <class T>
class Queue : public Object {
 public:
  Queue() = default;
  explicit Queue(Object object) : Object{std::move(object)} {}

  /// Waits for room.
  Result<void> put(const T& value) const {
    const auto put = put_for(value, Patience::forever());
    if (!put) return put.error();
    return {};
  }
  /// False: there was no room.
  Result<bool> try_put(const T& value) const { return put_for(value, Patience::none()); }
  /// The same after waiting so long.
  Result<bool> put_for(const T& value, std::chrono::milliseconds timeout) const {
    return put_for(value, Patience::up_to(timeout));
  }
  /// Puts without waiting, also for an answer. Goes out when somebody waits, at 32 KB, or at Client::flush(), in order.
  Future<void> put_async(const T& value) const {
    const auto encoded = encode_stored(value);
    if (!encoded) return Future<void>{failed(encoded.error())};
    return Future<void>{
        call_async(store::Code::queue_put, {StoreArgument::value(*encoded), StoreArgument::integer(-1)})};
  }

  /// Waits for an item, and takes it.
  Result<T> get() const { return taken<T>(call(store::Code::queue_get, {StoreArgument::integer(-1)})); }
  /// Nothing: there is none.
  Result<std::optional<T>> try_get() const { return get_for(Patience::none()); }
  /// The same after waiting so long.
  Result<std::optional<T>> get_for(std::chrono::milliseconds timeout) const {
    return get_for(Patience::up_to(timeout));
  }
  Result<std::optional<T>> get_for(Patience patience) const {
    return taken_or<T>(Errc::timed_out, call(store::Code::queue_get, {StoreArgument::integer(patience.ms)}));
  }

  /// Items in it now; others may be at work on it.
  Result<std::uint64_t> size() const { return count(); }
  Result<bool> empty() const {
    const auto items = count();
    if (!items) return items.error();
    return *items == 0;
  }
  /// Whether a bounded one has no room.
  Result<bool> full() const {
    const auto result = call(store::Code::queue_state, {});
    if (!result) return result.error();
    if (result->size() < 2) return fail(Errc::bad_message, "the daemon's reply lacks a value");
    const auto items = decode_item<std::int64_t>(item_of(result->at(0)));
    const auto bound = decode_item<std::int64_t>(item_of(result->at(1)));
    if (!items || !bound) return fail(Errc::bad_message, "the daemon's reply is no number");
    return *bound > 0 && *items >= *bound;
  }
  Result<void> clear() const { return done(call(store::Code::clear, {})); }

 private:
  Result<bool> put_for(const T& value, Patience patience) const {
    const auto encoded = encode_stored(value);
    if (!encoded) return encoded.error();
    return unless(Errc::timed_out,
                  call(store::Code::queue_put, {StoreArgument::value(*encoded), StoreArgument::integer(patience.ms)}));
  }
};

/// A queue that knows when all that was put into it is done.
template <class T>
class JoinableQueue : public Queue<T> {
 public:
  JoinableQueue() = default;
  explicit JoinableQueue(Object object) : Queue<T>{std::move(object)} {}

  /// An item that was taken is done. Error: `out_of_range` if there were not so many.
  Result<void> task_done() const { return this->done(this->call(store::Code::task_done, {})); }
  /// Waits until everything that was put is done.
  Result<void> join() const { return this->done(this->call(store::Code::queue_join, {StoreArgument::integer(-1)})); }
  /// The same for so long. False: something is not done yet.
  Result<bool> join_for(std::chrono::milliseconds timeout) const {
    return this->unless(Errc::timed_out,
                        this->call(store::Code::queue_join, {StoreArgument::integer(Patience::up_to(timeout).ms)}));
  }
};

}  // namespace taskpool
