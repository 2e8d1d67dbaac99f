#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <ranges>
#include <string>
#include <tuple>
#include <vector>

#include "taskpool/future.hpp"
#include "taskpool/imap.hpp"
#include "taskpool/map_call.hpp"
#include "taskpool/options.hpp"
#include "taskpool/value.hpp"

namespace taskpool {

class Client;
namespace client {
class Session;
struct Destination;
struct Prepared;
struct OwnedPool;
}  // namespace client

/// A function and its options, sent to the daemon once and named by a number since: the fastest way to call it again
/// and again. Copyable, thread-safe; registered anew by itself after a reconnection.
class PreparedCall {
 public:
  PreparedCall() = default;
  PreparedCall(std::shared_ptr<client::Session> session, std::shared_ptr<client::Prepared> prepared)
      : session_{std::move(session)}, prepared_{std::move(prepared)} {}

  /// Runs the function and waits. Errors: as Pool::apply().
  Result<Body> apply(const Item& item) const;
  Result<Body> apply(std::span<const std::byte> bytes) const { return apply(Item::raw(bytes)); }
  /// The argument is read where it was built. The buffer may be used again once this returns.
  Result<Body> apply(const UpBuffer& argument, Encoding encoding = Encoding::bytes) const;
  /// The bytes are copied. Small calls are collected: they go out when somebody waits, at 32 KB, or at Client::flush().
  RawFuture apply_async(const Item& item) const;
  /// The buffer is given back when the call ends.
  RawFuture apply_async(UpBuffer argument, Encoding encoding = Encoding::bytes) const;

 private:
  std::shared_ptr<client::Session> session_;
  std::shared_ptr<client::Prepared> prepared_;
};

/// One of the daemon's pools, and options for what is run there. Copyable, thread-safe. The last copy of one that came
/// from Client::open_pool() closes the pool.
///
/// Errors of every call: `unknown_function`, `unknown_pool`, `bad_argument` (nothing ran); `queue_full`, `draining`,
/// `daemon_gone` (nothing ran: try again later); `task_failed` (detail is the exception's type and message);
/// `worker_lost`, `out_of_memory`, `outcome_unknown` (it may have run in part); `timed_out`; `cancelled`; `bad_message`
/// (the result is no R).
class Pool {
 public:
  Pool() = default;
  Pool(std::shared_ptr<client::Session> session, std::string name, std::shared_ptr<client::OwnedPool> owned = nullptr)
      : session_{std::move(session)}, name_{std::move(name)}, owned_{std::move(owned)} {}

  const std::string& name() const { return name_; }
  /// This pool with other options: `pool.with({.timeout = 5s}).apply<int>("square", 3)`.
  Pool with(CallOptions options) const {
    Pool other = *this;
    other.options_ = std::move(options);
    return other;
  }

  /// Runs `function` once and waits for its result. How arguments travel: encode_arguments(). R may be void, Body,
  /// Bytes, nlohmann::json, or what decode_item() reads.
  template <class R, class... T>
  Result<R> apply(const std::string& function, const T&... arguments) const {
    const auto encoded = encode_arguments(arguments...);
    if (!encoded) return encoded.error();
    auto body = apply_item(function, encoded->item());
    if (!body) return body.error();
    return decode_value<R>(std::move(*body));
  }
  /// The same without waiting. Small calls are collected: they go out when somebody waits, at 32 KB, or at
  /// Client::flush().
  template <class R, class... T>
  Future<R> apply_async(const std::string& function, const T&... arguments) const {
    const auto encoded = encode_arguments(arguments...);
    if (!encoded) return Future<R>{failed(encoded.error())};
    return Future<R>{apply_item_async(function, encoded->item())};
  }

  /// Runs `function` for each input and returns the results in the order of the inputs, waiting until the job ends. A
  /// contiguous range of numbers with a number as R goes as an array; else as JSON. R is what decode_item() reads and
  /// can be default-constructed; nlohmann::json takes anything. Error: of the job, or of the failed item with the
  /// lowest index, which the detail names.
  template <class R, std::ranges::input_range Inputs>
  Result<std::vector<R>> map(const std::string& function, Inputs&& inputs, const MapOptions& options = {}) const {
    return map_async<R>(function, std::forward<Inputs>(inputs), options).get();
  }
  /// The same with a result or an error for each input.
  template <class R, std::ranges::input_range Inputs>
  Result<std::vector<Result<R>>> map_each(const std::string& function, Inputs&& inputs,
                                          const MapOptions& options = {}) const {
    return map_async<R>(function, std::forward<Inputs>(inputs), options).get_each();
  }
  /// The same without waiting for the results. The inputs are copied or encoded before this returns.
  template <class R, std::ranges::input_range Inputs>
  MapFuture<R> map_async(const std::string& function, Inputs&& inputs, const MapOptions& options = {}) const {
    using Input = std::ranges::range_value_t<Inputs>;
    if constexpr (std::ranges::contiguous_range<Inputs> && std::ranges::sized_range<Inputs> && ArrayElement<Input> &&
                  ArrayElement<R>) {
      if (!options.force_json) {
        const std::span<const Input> values{std::ranges::data(inputs), std::ranges::size(inputs)};
        return map_array<R>(function, values, options);
      }
    }
    return map_items<R>(function, inputs, options, [](const Input& input) { return encode_arguments(input); });
  }
  /// map() over tuples: each is the argument list of one call.
  template <class R, std::ranges::input_range Inputs>
  Result<std::vector<R>> starmap(const std::string& function, Inputs&& inputs, const MapOptions& options = {}) const {
    return starmap_async<R>(function, std::forward<Inputs>(inputs), options).get();
  }
  template <class R, std::ranges::input_range Inputs>
  MapFuture<R> starmap_async(const std::string& function, Inputs&& inputs, const MapOptions& options = {}) const {
    using Input = std::ranges::range_value_t<Inputs>;
    return map_items<R>(function, inputs, options, [](const Input& input) {
      return std::apply([](const auto&... each) { return encode_arguments(each...); }, input);
    });
  }

  /// Runs `function` for inputs that are pulled as they are needed, at most `options.window` ahead of the last output
  /// that was taken. Outputs come in the order of the inputs. `inputs` is a range (moved in; an lvalue has to outlive
  /// the Imap), or a callable that returns std::optional<Input>, empty at the end.
  template <class R, class Inputs>
  Imap<R> imap(const std::string& function, Inputs&& inputs, const MapOptions& options = {}) const {
    return start_imap<R>(function, std::forward<Inputs>(inputs), options, true);
  }
  /// The same with outputs as they come; each has its index.
  template <class R, class Inputs>
  Imap<R> imap_unordered(const std::string& function, Inputs&& inputs, const MapOptions& options = {}) const {
    return start_imap<R>(function, std::forward<Inputs>(inputs), options, false);
  }

  /// The untyped forms.
  Result<Body> apply_item(const std::string& function, const Item& item) const;
  RawFuture apply_item_async(const std::string& function, const Item& item) const;
  MapCall start_map(const std::string& function, std::shared_ptr<MapSink> sink, const MapOptions& options,
                    Encoding result_element = Encoding::none) const;
  MapStream start_stream(const std::string& function, const StreamOptions& stream, const MapOptions& options) const;
  PreparedCall prepare(const std::string& function) const;

  /// Starts a task that outlives this session, and returns its id: see Client::wait(), fetch(), cancel().
  template <class... T>
  Result<std::string> submit(const std::string& function, const T&... arguments) const {
    const auto encoded = encode_arguments(arguments...);
    if (!encoded) return encoded.error();
    return submit_item(function, encoded->item());
  }
  Result<std::string> submit_item(const std::string& function, const Item& item) const;
  /// Starts a map that outlives this session, and returns its id: see Client::wait(), fetch_map(), cancel(). The inputs
  /// travel as those of map<R>().
  template <class R, std::ranges::input_range Inputs>
  Result<std::string> submit_map(const std::string& function, Inputs&& inputs, const MapOptions& options = {}) const {
    using Input = std::ranges::range_value_t<Inputs>;
    if constexpr (std::ranges::contiguous_range<Inputs> && std::ranges::sized_range<Inputs> && ArrayElement<Input> &&
                  ArrayElement<R>) {
      if (!options.force_json) {
        const std::span<const Input> values{std::ranges::data(inputs), std::ranges::size(inputs)};
        if (values.size() > kMaxJobItems) return fail(Errc::limit_reached, "input: too many elements for one job");
        std::optional<Item> all{
            Item{array_encoding<Input>(), std::as_bytes(values), static_cast<std::uint32_t>(values.size())}};
        return submit_items(function, options, [&] { return std::exchange(all, std::nullopt); });
      }
    }
    auto at = std::ranges::begin(inputs);
    Arguments encoded;
    return submit_items(function, options, [&]() -> Result<std::optional<Item>> {
      if (at == std::ranges::end(inputs)) return std::optional<Item>{};
      auto next = encode_arguments(*at);
      if (!next) return next.error();
      encoded = std::move(*next);
      ++at;
      return std::optional<Item>{encoded.item()};
    });
  }
  /// The same, untyped: Client::submit_map().
  Result<std::string> submit_items(const std::string& function, const MapOptions& options,
                                   const std::function<Result<std::optional<Item>>()>& feed) const;

  /// Changes the number of workers; `limit_reached` above 1024.
  Result<void> resize(std::uint32_t workers) const;
  /// A paused pool accepts tasks but starts none.
  Result<void> pause() const;
  Result<void> resume() const;
  /// What the pool can run: PROTOCOL.md, `functions`.
  Result<nlohmann::json> functions() const;
  /// Ends a pool that open_pool() opened, and waits until its workers are gone. Queued tasks run first, unless
  /// `terminate`.
  Result<void> close(bool terminate = false) const;

 private:
  RawFuture failed(const Error& error) const;
  Client client() const;
  client::Destination destination_of(const std::string& function, const MapOptions* map = nullptr,
                                     Encoding result_element = Encoding::none) const;

  template <class R, class Input>
  MapFuture<R> map_array(const std::string& function, std::span<const Input> values, const MapOptions& options) const {
    auto sink = std::make_shared<Collector<R>>();
    auto call = start_map(function, sink, options, array_encoding<R>());
    sink->reserve(values.size());
    // An item counts its elements in 32 bits; more than a job may have are refused by add().
    constexpr std::size_t kPart = std::size_t{1} << 31;
    for (std::size_t at = 0; at < values.size(); at += kPart) {
      const auto part = values.subspan(at, std::min(kPart, values.size() - at));
      call.add({array_encoding<Input>(), std::as_bytes(part), static_cast<std::uint32_t>(part.size())});
    }
    call.finish();
    return {std::move(call), std::move(sink)};
  }
  template <class R, class Inputs, class Encode>
  MapFuture<R> map_items(const std::string& function, Inputs& inputs, const MapOptions& options, Encode encode) const {
    auto sink = std::make_shared<Collector<R>>();
    auto call = start_map(function, sink, options);
    if constexpr (std::ranges::sized_range<Inputs>) sink->reserve(std::ranges::size(inputs));
    for (auto&& input : inputs) {
      const auto encoded = encode(input);
      if (!encoded) {
        call.fail(encoded.error());
        break;
      }
      call.add(encoded->item());
    }
    call.finish();
    return {std::move(call), std::move(sink)};
  }
  template <class R, class Inputs>
  Imap<R> start_imap(const std::string& function, Inputs&& inputs, const MapOptions& options, bool ordered) const {
    StreamOptions stream;
    stream.ordered = ordered;
    stream.window_items = std::max<std::uint32_t>(options.window, 1);
    using Feed = typename Imap<R>::Feed;
    Feed feed;
    using Plain = std::remove_cvref_t<Inputs>;
    if constexpr (std::ranges::range<Plain>) {
      // Held by pointer: std::function wants copyable captures, and iterators must stay valid when the Imap moves.
      struct Source {
        std::conditional_t<std::is_lvalue_reference_v<Inputs>, Inputs, Plain> range;
        std::optional<std::ranges::iterator_t<std::remove_reference_t<Inputs>>> at;
      };
      auto source = std::shared_ptr<Source>(new Source{std::forward<Inputs>(inputs), std::nullopt});
      feed = [source](const auto& push) -> Result<bool> {
        if (!source->at) source->at = std::ranges::begin(source->range);
        if (*source->at == std::ranges::end(source->range)) return false;
        const auto encoded = encode_arguments(**source->at);
        if (!encoded) return encoded.error();
        push(encoded->item());
        ++*source->at;
        return true;
      };
    } else {
      auto source = std::make_shared<Plain>(std::forward<Inputs>(inputs));
      feed = [source](const auto& push) -> Result<bool> {
        const auto input = (*source)();
        if (!input) return false;
        const auto encoded = encode_arguments(*input);
        if (!encoded) return encoded.error();
        push(encoded->item());
        return true;
      };
    }
    return Imap<R>{start_stream(function, stream, options), std::move(feed)};
  }

  std::shared_ptr<client::Session> session_;
  std::string name_;
  std::shared_ptr<client::OwnedPool> owned_;
  CallOptions options_;
};

}  // namespace taskpool
