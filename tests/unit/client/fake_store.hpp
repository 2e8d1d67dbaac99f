#pragma once

#include <optional>
#include <string_view>

#include "fake_server.hpp"
#include "proto/store/writer.hpp"
#include "proto/store_body.hpp"

namespace taskpool::test {

/// A segment of the store, in which a test plays the daemon.
class FakeSegment {
 public:
  FakeSegment();

  /// A new object.
  store::ObjectInfo make(store::ObjectType type);
  /// Sets an entry of a dict to a JSON text.
  void put(const store::ObjectInfo& object, std::string_view key, std::string_view json);
  /// Appends an item to a list.
  void append(const store::ObjectInfo& object, std::string_view json);
  /// The word that readers look at to see whether the object is being changed.
  void set_version(const store::ObjectInfo& object, std::uint64_t version);
  std::uint64_t version(const store::ObjectInfo& object) const;
  store::Writer& writer() { return *writer_; }
  /// Makes a change.
  void change(const std::function<Result<void>(store::Transaction&)>& what);

  /// Takes an `object_open` and answers it with that object.
  Frame open(Peer& peer, const store::ObjectInfo& object, bool with_segment = true) const;
  void answer_open(Peer& peer, const Frame& open, const store::ObjectInfo& object, bool with_segment = true) const;

 private:
  Fd memory_;
  std::span<std::byte> bytes_;
  std::optional<store::Writer> writer_;
};

/// One operation of a `store` frame, its arguments copied.
struct StoreRequest {
  store::Code code;
  std::uint32_t target = 0;
  struct Value {
    std::uint8_t encoding = 0;
    std::string bytes;
    std::vector<std::uint64_t> refs;
  };
  std::vector<Value> values;

  std::int64_t integer(std::size_t index) const;
};
std::vector<StoreRequest> operations_of(const Frame& frame);
/// The next frame, of the op `store`, which has one operation.
StoreRequest next_operation(Peer& peer, Frame* frame = nullptr);

/// Answers a `store` frame: each result a list of JSON texts; without any, one empty result.
void reply_to(Peer& peer, const Frame& frame, const std::vector<std::vector<std::string>>& results = {{}});
/// The same with integers.
void reply_integers(Peer& peer, const Frame& frame, const std::vector<std::int64_t>& values);

}  // namespace taskpool::test
