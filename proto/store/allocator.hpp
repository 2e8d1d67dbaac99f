#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <span>

#include "proto/result.hpp"
#include "proto/store/layout.hpp"

namespace taskpool::store {

/// Hands out a segment's blocks and object records. What is free is known only here, in private memory; in the segment
/// a free block is one that nothing refers to. Single-threaded.
class Allocator {
 public:
  using Extend = std::function<Result<void>(std::size_t bytes)>;

  Allocator(std::span<std::byte> memory, Extend extend) : memory_(memory), extend_(std::move(extend)) {}

  /// The place of a free block of that class. The one that was freed first comes first, so that a slow reader has the
  /// most time. `store_full`: the segment's bound, or `extend` failed.
  Result<std::uint64_t> allocate_block(unsigned size_class) {
    return allocate(blocks_[size_class], size_class, SlabKind::blocks);
  }
  /// Makes some of the memory exist that a block of that class takes, so that allocate_block() need not make all of it
  /// at once. True: it is all there, or the class has a free block. `store_full`.
  Result<bool> prepare_block(unsigned size_class);
  /// For when there is no more memory: a block of a larger class, the smallest that is free, as it is; its class stays.
  struct Larger {
    std::uint64_t block;
    unsigned size_class;
  };
  std::optional<Larger> allocate_larger(unsigned size_class);
  Result<std::uint64_t> allocate_object() { return allocate(objects_, kObjectClass, SlabKind::objects); }
  /// Gives back what was handed out.
  void free_block(std::uint64_t block, unsigned size_class);
  void free_object(std::uint64_t record);
  /// Recovery: a place of a slab that nothing uses; one that is used.
  void add_free(std::uint64_t place, unsigned size_class, SlabKind kind);
  void add_live(unsigned size_class) { live_bytes_ += class_bytes(size_class); }

  std::uint64_t live_bytes() const { return live_bytes_; }
  std::uint64_t used_bytes() const;

 private:
  struct List {
    std::deque<std::uint64_t> freed;
    std::uint64_t fresh = 0;  ///< The rest of the newest slab: [fresh, fresh_end).
    std::uint64_t fresh_end = 0;
    bool has_free() const { return !freed.empty() || fresh != fresh_end; }
  };
  Result<std::uint64_t> allocate(List& list, unsigned size_class, SlabKind kind);
  Result<void> add_slab(List& list, unsigned size_class, SlabKind kind);
  /// Where a slab that is added now would end.
  Result<std::uint64_t> next_end(unsigned size_class) const;
  Result<void> extend(std::uint64_t end);

  std::span<std::byte> memory_;
  Extend extend_;
  std::array<List, kClasses> blocks_;
  List objects_;
  std::uint64_t prepared_ = 0;  ///< Memory exists up to here, and not only up to used_bytes(), if that is less.
  std::uint64_t live_bytes_ = 0;
};

}  // namespace taskpool::store
