#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "proto/result.hpp"
#include "proto/store/layout.hpp"

namespace taskpool::store {

struct Core;
struct Doomed;

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
  /// A word of a block: at once if the block is new, because nobody can reach it.
  void store_in(std::uint64_t block, std::uint64_t offset, std::uint64_t value);
  /// True if store_in() changed a word of a block that others may read.
  bool has_changed_blocks() const;
  /// The version of the record at `offset` changes with this.
  void touch(std::uint64_t record);
  bool has_touched(std::uint64_t record) const;
  /// More words than a transaction may change were stored.
  bool has_overflowed() const;
  /// A block to be filled, free again if the transaction is abandoned. `store_full`.
  Result<std::uint64_t> allocate(unsigned size_class);
  /// Takes over a block from Core::allocate_block() that was filled in slices.
  void adopt(std::uint64_t block);
  /// Writes the header of a new block, whose class it keeps. From then on the result may be stored.
  Reference describe(std::uint64_t block, ObjectId object, std::uint64_t order, BlockAbout about);
  /// True if this transaction allocated the block.
  bool is_new(std::uint64_t block) const;
  /// The block is no longer referred to: free after commit().
  void retire(std::uint64_t block);
  /// The same for all that can be reached from it, in slices later.
  void doom(const Doomed& doomed);
  /// Hands back the blocks that it allocated: they outlive it.
  std::vector<std::uint64_t> disown();

 private:
  friend class Writer;
  explicit Transaction(Core& core);
  void clear();
  Core* core_;
};

}  // namespace taskpool::store
