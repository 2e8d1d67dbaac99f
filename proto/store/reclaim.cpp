#include "proto/store/core.hpp"
#include "proto/store/table.hpp"
#include "proto/store/tree.hpp"

namespace taskpool::store {

void Core::credit(ObjectId object, std::uint64_t bytes) {
  if (pending.is_open) {
    pending.freed.emplace_back(object, bytes);
    return;
  }
  const ObjectState* const found = objects.find(object);
  if (found == nullptr) return;
  const std::uint64_t place = found->record + offsetof(ObjectRecord, bytes);
  store_word(at(place), word(place) - bytes);
}

void Core::forget(ObjectId id, std::uint64_t record) {
  ObjectState& state = *objects.find(id);
  stop_growing(*this, state);
  stop_reversing(*this, state);
  objects.erase(id);
  allocator.free_object(record);
}

bool Core::reclaim(std::size_t steps) {
  while (!doomed.empty() && steps != 0) {
    Doomed& last = doomed.back();
    const std::uint64_t block = last.root.offset();
    const BlockKind kind = about(block).kind;
    const ObjectId object = last.object;
    const bool keeps_items = last.keeps_items;
    std::uint64_t bytes = 0;
    const auto free_one = [&](Reference reference) {
      bytes += block_bytes(*this, reference);
      free_block(reference.offset());
    };
    bool is_done = true;
    if (kind == BlockKind::table) {
      for (const std::uint64_t slots = slots_of(*this, last.root); last.position < slots && steps != 0;
           ++last.position, --steps) {
        const std::uint64_t slot = block + kSlotsOffset + last.position * sizeof(Slot);
        if (const Reference entry{word(slot + offsetof(Slot, reference))}) free_one(entry);
      }
      is_done = last.position == slots_of(*this, last.root);
    } else if (kind == BlockKind::node) {
      const NodeShape shape = node_shape(*this, last.root);
      if (shape.level == 0) {
        for (std::size_t index = 0; index < shape.size && !keeps_items; ++index)
          free_one(Reference{word(block + sizeof(BlockHeader) + index * sizeof(std::uint64_t))});
        steps -= std::min(steps, keeps_items ? 1 : shape.size);
      } else if (last.position < shape.size) {
        // Depth first: one child, then this node goes on. Never more entries than levels.
        const std::uint64_t child = word(block + sizeof(BlockHeader) + last.position++ * sizeof(Branch));
        doomed.push_back({Reference{child}, object, keeps_items});
        is_done = false;
        --steps;
      }
    } else {
      --steps;
    }
    if (is_done) {
      free_one(last.root);
      doomed.pop_back();
    }
    if (bytes != 0) credit(object, bytes);
  }
  return doomed.empty();
}

}  // namespace taskpool::store
