#pragma once

#include <functional>
#include <span>

#include "proto/store/core.hpp"

/// A list's tree: copied on write along one path, but for the replacement of an item. Private to proto/store/. Layout:
/// `Branch` in layout.hpp.
namespace taskpool::store {

/// The item at `index`, below the count.
Reference item_at(const Record& record, std::uint64_t index);
/// Puts another item in its place, in the leaf itself.
void replace_item(Record& record, std::uint64_t index, Reference item);
/// `index` at most the count.
Result<void> insert_items(Record& record, std::uint64_t index, std::span<const std::uint64_t> items);
/// [first, first + count) within the count.
Result<void> remove_items(Record& record, std::uint64_t first, std::uint64_t count);
/// Reverses a list: at once if it is short, or if reverse_some() has prepared it; else begins and answers `busy`.
Result<void> reverse_items(Record& record);
/// A slice of the preparation. True: done.
Result<bool> reverse_some(Record& record, std::size_t steps);
void stop_reversing(Core& core, ObjectState& state);

/// A new tree over `items`, written by `tx`; nothing for none. Its bytes are added to the record's.
Result<Reference> build_tree(Record& record, std::span<const std::uint64_t> items);

/// Visits at most `count` items from `index` on; returns the index behind the last.
std::uint64_t visit_items(const Record& record, std::uint64_t index, std::uint64_t count,
                          const std::function<void(Reference)>& visit);

/// The level and number of children in a node's `order` word.
struct NodeShape {
  unsigned level = 0;
  std::size_t size = 0;
  static NodeShape unpack(std::uint64_t word) {
    return {static_cast<unsigned>(word & 0xff), static_cast<std::size_t>(word >> 8)};
  }
  std::uint64_t pack() const { return level | std::uint64_t{size} << 8; }
};
inline NodeShape node_shape(const Core& core, Reference node) {
  return NodeShape::unpack(core.word(node.offset() + offsetof(BlockHeader, order)));
}

}  // namespace taskpool::store
