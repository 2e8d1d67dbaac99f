#pragma once

#include <functional>
#include <iterator>
#include <optional>
#include <utility>

#include "taskpool/map_stream.hpp"
#include "taskpool/value.hpp"

namespace taskpool {

/// One output of an imap.
template <class R>
struct Indexed {
  std::uint64_t index = 0;  ///< Of its input, from 0.
  Result<R> value;
};

/// The outputs of a map that pulls its inputs as they are needed, at most a window ahead. Move-only; destroying it
/// cancels what has not ended. Use from one thread. `for (auto& [index, value] : imap)` works too.
template <class R>
class Imap {
 public:
  /// Gives the next input to `push`, or returns false when there is none. Error: that input cannot be encoded: the map
  /// ends there.
  using Feed = std::function<Result<bool>(const std::function<void(const Item&)>& push)>;

  Imap(MapStream stream, Feed feed) : stream_{std::move(stream)}, feed_{std::move(feed)} {}

  /// Waits for an output; nothing after the last. A failed task is an output whose value is its error.
  std::optional<Indexed<R>> next() {
    refill();
    const auto outcome = stream_.next();
    if (!outcome) {
      if (!input_error_) return std::nullopt;
      Indexed<R> last{stream_.pushed(), std::move(*input_error_)};
      input_error_.reset();
      return last;
    }
    if (!outcome->ok()) return Indexed<R>{outcome->index, to_error(*outcome->error)};
    return Indexed<R>{outcome->index, decode_item<R>(outcome->value)};
  }
  /// Once next() has returned nothing: the job's totals. Error: why it failed as a whole; each of its inputs told that
  /// too, if there were any.
  Result<Done> done() const {
    auto done = stream_.done();
    if (done && refused_) return *refused_;
    return done;
  }
  Result<std::uint64_t> cancel(CancelMode mode = CancelMode::ask) {
    stop();
    return stream_.cancel(mode);
  }

  class Iterator {
   public:
    using value_type = Indexed<R>;
    using difference_type = std::ptrdiff_t;
    Iterator() = default;
    explicit Iterator(Imap* imap) : imap_{imap} { ++*this; }
    Indexed<R>& operator*() const { return *imap_->current_; }
    Indexed<R>* operator->() const { return &*imap_->current_; }
    Iterator& operator++() {
      imap_->current_ = imap_->next();
      return *this;
    }
    void operator++(int) { ++*this; }
    bool operator==(std::default_sentinel_t) const { return !imap_->current_; }

   private:
    Imap* imap_ = nullptr;
  };
  Iterator begin() { return Iterator{this}; }
  std::default_sentinel_t end() const { return {}; }

 private:
  void stop() {
    held_.reset();
    if (std::exchange(feed_, nullptr)) stream_.finish();
  }
  /// The job ended before this input came. Each item that was pushed tells of its end; if all had their outcomes,
  /// done() alone.
  void refuse(const Error& error) {
    refused_ = error;
    stop();
  }
  void refill() {
    if (held_) {
      const auto pushed = stream_.try_push({held_->encoding, held_bytes_, held_->count});
      if (!pushed) return refuse(pushed.error());
      if (!*pushed) return;
      held_.reset();
    }
    while (feed_ && !held_) {
      const auto more = feed_([&](const Item& item) {
        const auto pushed = stream_.try_push(item);
        if (!pushed) refused_ = pushed.error();
        if (!pushed || *pushed) return;
        held_ = item;
        held_bytes_.assign(item.bytes.begin(), item.bytes.end());
      });
      if (!more) input_error_ = more.error();
      if (refused_ || !more || !*more) return stop();
    }
  }

  MapStream stream_;
  Feed feed_;
  std::optional<Item> held_;  ///< An input that did not fit the window yet.
  Bytes held_bytes_;
  std::optional<Error> input_error_;
  std::optional<Error> refused_;  ///< Why an input that had been pulled was not taken.
  std::optional<Indexed<R>> current_;
};

}  // namespace taskpool
