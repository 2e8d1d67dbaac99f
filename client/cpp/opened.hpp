#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "client/cpp/pending.hpp"
#include "proto/message.hpp"
#include "proto/store/reader.hpp"
#include "taskpool/fd.hpp"
#include "taskpool/stored.hpp"

namespace taskpool::client {

class Session;

/// A segment of the store, mapped for reading. Stays mapped as long as somebody reads it, also after its connection.
class StoreSegment {
 public:
  /// Maps what the daemon sent. Errors: `bad_message`, `system`, `bad_segment`.
  static Result<std::shared_ptr<StoreSegment>> map(const Fd& file, std::uint64_t bytes);
  StoreSegment(const StoreSegment&) = delete;
  StoreSegment& operator=(const StoreSegment&) = delete;
  ~StoreSegment();

  const store::Segment& reader() const { return *reader_; }

 private:
  explicit StoreSegment(std::span<const std::byte> bytes) : bytes_{bytes} {}

  std::span<const std::byte> bytes_;
  std::optional<store::Segment> reader_;
};

/// What the daemon said of an object when it was opened. Constant.
struct View {
  std::shared_ptr<StoreSegment> segment;
  store::ObjectView object;
  std::string id;
  bool created = false;
  Encoding typecode = Encoding::none;
  std::uint64_t length = 0;
  const View* older = nullptr;  ///< Kept, as a thread may be reading by it.
};

/// An object that handles share. The connection numbers it, and opens it again after a break; who reads uses its view,
/// without a lock, also in a forked child. The last handle's end closes it.
class Opened {
 public:
  /// `value`: what a new `value` object is.
  Opened(const std::shared_ptr<Session>& session, store::ObjectType type, ObjectOpen open, StoredValue value,
         std::shared_ptr<Opened> lock);
  Opened(const Opened&) = delete;
  Opened& operator=(const Opened&) = delete;
  ~Opened();

  const std::string& name() const { return name_; }
  store::ObjectType type() const {
    const auto* const now = view();
    return now != nullptr ? now->object.type : type_;
  }
  /// Null until it was opened for the first time.
  const View* view() const { return view_.load(std::memory_order_acquire); }

 private:
  friend class Connection;
  friend class OpenReply;
  /// Replaces the view. Under the connection's lock.
  void show(std::unique_ptr<View> view);

  const std::weak_ptr<Session> session_;  ///< Not kept: a session keeps objects that are on their way.
  const std::string name_;
  const store::ObjectType type_;  ///< What it was opened as.
  ObjectOpen open_;               ///< What to ask for. Under the connection's lock.
  const std::string value_;       ///< Of a new value object: the item.
  const Encoding value_encoding_;
  const std::shared_ptr<Opened> lock_;  ///< A condition's.
  std::atomic<const View*> view_{nullptr};

  // Under the connection's lock.
  const Connection* owner_ = nullptr;  ///< Whose number it has: another one after a fork.
  std::uint32_t number_ = 0;
  std::uint64_t epoch_ = 0;  ///< The connection for which the number was sent.
};

/// The reply to `object_open`.
class OpenReply : public Reply {
 public:
  explicit OpenReply(std::shared_ptr<Opened> opened) : opened_{std::move(opened)} {}
  Result<bool> accept(Connection& connection, const FrameView& frame, std::span<Fd> fds) override;

 private:
  std::shared_ptr<Opened> opened_;
};

}  // namespace taskpool::client
