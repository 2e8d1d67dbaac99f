#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <vector>

#include "daemon/store/objects.hpp"
#include "proto/store/writer.hpp"

/// The operations that read and write: each is a function of a transaction and an object, and knows nothing of
/// sessions, waiting or frames.
namespace taskpool::store {

/// What a `changed` frame says.
enum class ChangeKind : std::uint32_t { set = 1, deleted, expired, other, gone, lagged };

/// What has to be done once a batch was committed. One is used again and again, so that it keeps its memory.
struct Effects {
  struct Change {
    Object* object;
    ChangeKind kind;
    std::string key;
  };
  struct Expiring {
    Object* object;
    std::string key;
    std::uint64_t when_ns;  ///< CLOCK_BOOTTIME.
  };
  std::vector<Change> changes;  ///< Of objects that are watched.
  std::vector<Expiring> expiring;
  std::vector<Object*> unlinked;           ///< Some value that named objects may have gone from these.
  std::deque<std::vector<ObjectId>> refs;  ///< Of values on their way into the segment.
  std::vector<ArenaRef> placed;            ///< Values of the answer, in the session's arena.
  void clear() {
    changes.clear();
    expiring.clear();
    unlinked.clear();
    refs.clear();
    placed.clear();
  }
};

/// One frame's work.
struct Batch {
  Client& client;
  Home& home;
  Writer& writer;
  Transaction& tx;
  BodyWriter& out;
  Effects& effects;

  // For the operations.

  /// What to store, out of an argument. Errors: `bad_message` (no such place in the arena), `unknown_object` (refs).
  Result<EntryInput> input(Object& object, const Argument& argument, std::uint64_t expires_ns = 0);
  /// The bytes of an argument, wherever they are.
  Result<std::span<const std::byte>> bytes(const Argument& argument);
  /// Appends a stored value to the current result. Error: `out_of_space`.
  Result<void> put(const EntryView& entry);
  void note(Object& object, ChangeKind kind, std::span<const std::byte> key = {});
  /// The end of a time to live in ms, of an operation's argument; 0: none. Error: `bad_argument`.
  Result<std::uint64_t> expiry(const Operation& operation, std::size_t index) const;
};

/// Does one operation of kind `read` or `write`, and writes its result to batch.out. Errors as PROTOCOL.md says, and
/// `busy`: the object needs Writer::work() first.
Result<void> apply(Batch& batch, Object& object, const Operation& operation);

// By type.
Result<void> apply_any(Batch& batch, Object& object, const Operation& operation);
Result<void> apply_mapping(Batch& batch, Object& object, const Operation& operation);
Result<void> apply_list(Batch& batch, Object& object, const Operation& operation);
Result<void> apply_value(Batch& batch, Object& object, const Operation& operation);
Result<void> apply_array(Batch& batch, Object& object, const Operation& operation);

/// A stored value's references, out of the segment.
std::vector<ObjectId> copy_refs(const RefList& refs);

/// A key as people read it, for an error's detail.
std::string describe_key(std::span<const std::byte> key);

}  // namespace taskpool::store
