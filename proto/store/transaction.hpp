#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "proto/result.hpp"
#include "proto/store/layout.hpp"

namespace taskpool::store {

struct Core;

/// One change of a segment: any number of operations that become visible to whoever survives a crash all together or
/// not at all. A list of words to store, kept privately until commit() puts it into the redo record and then applies
/// it; blocks are filled directly, because nobody can reach them before. Begun by Writer::begin(); one at a time;
/// destroyed without commit() it changes nothing.
///
/// After an operation failed the transaction can only be abandoned.
class Transaction {
 public:
  Transaction(Transaction&& other) noexcept;
  Transaction& operator=(Transaction&&) = delete;
  ~Transaction();

  /// Makes everything visible. `limit_reached`: it changes more than kMaxRedoWords words; nothing happened. Otherwise
  /// it cannot fail.
  Result<void> commit();
  /// Gives everything up, as the destructor does.
  void abort();
  /// Nanoseconds of CLOCK_BOOTTIME as told to begin(): entries that expired by then count as absent.
  std::uint64_t now_ns() const;

  // For the operations (table, tree, writer), not for their callers:

  /// The word at `offset` as this transaction sees it.
  std::uint64_t load(std::uint64_t offset) const;
  /// Words are applied in the order in which they were first stored.
  void store(std::uint64_t offset, std::uint64_t value);
  /// The version of the record at `offset` changes with this.
  void touch(std::uint64_t record);
  /// A free block of `size_class`, its header still to be written by publish_block(); freed if the transaction is
  /// abandoned. `store_full`.
  Result<std::uint64_t> allocate(unsigned size_class);
  /// Writes the header of a filled block. Afterwards the result may be stored.
  Reference finish_block(std::uint64_t block, ObjectId object, std::uint64_t order, std::uint64_t lengths,
                         BlockAbout about);
  /// True if this transaction allocated the block: nobody else reads it yet.
  bool is_new(std::uint64_t block) const;
  /// The block is no longer referred to: free after commit(), or at once if it is new.
  void retire(std::uint64_t block);

 private:
  friend class Writer;
  explicit Transaction(Core& core) : core_(&core) {}
  Core* core_;
};

}  // namespace taskpool::store
