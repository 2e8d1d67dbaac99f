#pragma once

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "proto/items.hpp"
#include "proto/message.hpp"
#include "proto/result.hpp"
#include "taskpool/future.hpp"
#include "taskpool/value.hpp"

namespace taskpool {

namespace client {
class CollectJob;
}

/// Takes the outcomes of a map as they come. Called with the connection locked, by whichever thread reads: short, no
/// calls of the client. Each index comes once.
class MapSink {
 public:
  virtual ~MapSink() = default;
  /// `body` has been checked: packed, or an array, of `count` items.
  virtual void results(std::uint32_t first, std::uint32_t count, Encoding encoding,
                       std::span<const std::byte> body) = 0;
  /// One result that came by itself, through the arena.
  virtual void result(std::uint32_t index, const Item& item) = 0;
  virtual void failed(std::uint32_t first, std::uint32_t count, const ErrorHead& error) = 0;
};

/// A map whose outcomes all go into a sink. Input may run ahead of what the daemon takes: it waits in memory here, and
/// is sent while somebody waits. Move-only; destroying it cancels what has not ended.
class MapCall {
 public:
  MapCall();
  MapCall(std::shared_ptr<client::Connection> connection, std::shared_ptr<client::CollectJob> job);
  MapCall(MapCall&&) noexcept;
  MapCall& operator=(MapCall&&) noexcept;
  ~MapCall();

  bool valid() const { return job_ != nullptr; }
  /// Adds an item, or an array of `count` items; the bytes are copied. May wait for room in the arena. After an error
  /// the rest is ignored: wait() reports it.
  void add(const Item& item);
  /// Ends the map with an error of the caller's: an input that cannot be encoded.
  void fail(const Error& error);
  void finish();
  bool ready() const;
  bool wait_for(std::chrono::milliseconds timeout);
  /// Waits for the end. Error: why the job failed as a whole; the sink has been told of every item even then.
  Result<Done> wait();
  Result<std::uint64_t> cancel(CancelMode mode);
  std::string task() const;
  std::optional<Progress> progress() const;
  void on_progress(ProgressCallback callback);
  /// Items that have an outcome so far.
  std::uint64_t completed() const;

 private:
  std::shared_ptr<client::Connection> connection_;
  std::shared_ptr<client::CollectJob> job_;
};

/// Why a range of a map's items failed.
struct MapFailure {
  std::uint32_t first = 0;
  std::uint32_t count = 0;
  ErrorHead error;
};
/// "item 3: TYPE: DETAIL", with the code.
Error item_error(std::uint32_t index, const ErrorHead& error);

/// A sink that keeps the results as Rs, in order. R is default-constructible.
template <class R>
class Collector : public MapSink {
 public:
  void reserve(std::size_t items) { values_.reserve(items); }

  void results(std::uint32_t first, std::uint32_t count, Encoding encoding, std::span<const std::byte> body) override {
    if constexpr (kInPlace) {
      read(first, count, encoding, body);
    } else {
      chunks_.push_back({first, count, encoding, Bytes(body.begin(), body.end())});
    }
  }
  void result(std::uint32_t index, const Item& item) override {
    if constexpr (kInPlace) {
      if (values_.size() <= index) values_.resize(std::size_t{index} + 1);
      read_one(index, item);
    } else {
      singles_.emplace_back(index, Body{item.encoding, item.count, Bytes(item.bytes.begin(), item.bytes.end())});
    }
  }
  void failed(std::uint32_t first, std::uint32_t count, const ErrorHead& error) override {
    failures_.push_back({first, count, error});
  }

  /// After the end: the results. Error: the failure of the lowest index.
  Result<std::vector<R>> take(std::size_t total) {
    decode_chunks();
    const MapFailure* lowest = nullptr;
    for (const auto& failure : failures_)
      if (lowest == nullptr || failure.first < lowest->first) lowest = &failure;
    if (lowest != nullptr) return item_error(lowest->first, lowest->error);
    values_.resize(total);
    return std::move(values_);
  }
  /// After the end: a result or an error for each item.
  std::vector<Result<R>> take_each(std::size_t total) {
    decode_chunks();
    values_.resize(total);
    std::vector<Result<R>> each;
    each.reserve(total);
    for (std::size_t i = 0; i < total; ++i) each.emplace_back(R(std::move(values_[i])));
    for (const auto& failure : failures_)
      for (std::size_t i = failure.first; i < std::min<std::size_t>(total, std::size_t{failure.first} + failure.count);
           ++i)
        each[i] = to_error(failure.error);
    return each;
  }

 private:
  /// Numbers and text are read while the frame is at hand; what a user's from_json makes is read later, outside the
  /// lock.
  static constexpr bool kInPlace = std::is_arithmetic_v<R> || std::same_as<R, std::string> || std::same_as<R, Bytes>;
  struct Chunk {
    std::uint32_t first;
    std::uint32_t count;
    Encoding encoding;
    Bytes body;
  };

  void read(std::uint32_t first, std::uint32_t count, Encoding encoding, std::span<const std::byte> body) {
    const auto end = std::size_t{first} + count;
    if (values_.size() < end) values_.resize(end);
    if constexpr (ArrayElement<R>) {
      if (encoding == array_encoding<R>()) {
        if (count > 0) std::memcpy(values_.data() + first, body.data(), body.size());
        return;
      }
    }
    if (is_array(encoding)) {
      const auto size = element_bytes(encoding);
      for (std::uint32_t i = 0; i < count; ++i) read_one(first + i, {encoding, body.subspan(i * size, size), 1});
      return;
    }
    for (PackedItems items{count, body}; !items.done();) {
      const auto index = first + items.index();
      read_one(index, {encoding, items.next(), 1});
    }
  }
  void read_one(std::uint32_t index, const Item& item) {
    auto value = decode_item<R>(item);
    if (value) {
      values_[index] = std::move(*value);
    } else {
      MapFailure failure{index, 1, {}};
      failure.error.code = value.error().errc();
      failure.error.detail = value.error().detail;
      failures_.push_back(std::move(failure));
    }
  }
  void decode_chunks() {
    for (const auto& chunk : chunks_) read(chunk.first, chunk.count, chunk.encoding, chunk.body);
    chunks_.clear();
    for (const auto& [index, body] : singles_) {
      if (values_.size() <= index) values_.resize(std::size_t{index} + 1);
      read_one(index, {body.encoding(), body.bytes(), body.count()});
    }
    singles_.clear();
  }

  std::vector<R> values_;
  std::vector<Chunk> chunks_;
  std::vector<std::pair<std::uint32_t, Body>> singles_;
  std::vector<MapFailure> failures_;
};

/// A map under way: Future of all its results. Destroying it cancels what has not ended.
template <class R>
class MapFuture {
 public:
  MapFuture() = default;
  MapFuture(MapCall call, std::shared_ptr<Collector<R>> sink) : call_{std::move(call)}, sink_{std::move(sink)} {}

  bool valid() const { return call_.valid(); }
  bool ready() const { return call_.ready(); }
  bool wait_for(std::chrono::milliseconds timeout) { return call_.wait_for(timeout); }
  /// Waits, and takes the results in the order of the inputs. Error: of the job, or of the failed item with the lowest
  /// index, which the detail names.
  Result<std::vector<R>> get() {
    const auto done = call_.wait();
    if (!done) return done.error();
    return sink_->take(done->total);
  }
  /// Waits, and takes a result or an error for each input. Error: the job failed before it had a length.
  Result<std::vector<Result<R>>> get_each() {
    const auto done = call_.wait();
    if (!done) return done.error();
    return sink_->take_each(done->total);
  }
  Result<std::uint64_t> cancel(CancelMode mode = CancelMode::ask) { return call_.cancel(mode); }
  std::string task() const { return call_.task(); }
  std::uint64_t completed() const { return call_.completed(); }
  std::optional<Progress> progress() const { return call_.progress(); }
  void on_progress(ProgressCallback callback) { call_.on_progress(std::move(callback)); }

 private:
  MapCall call_;
  std::shared_ptr<Collector<R>> sink_;
};

}  // namespace taskpool
