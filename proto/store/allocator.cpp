#include "proto/store/allocator.hpp"

#include <algorithm>
#include <string>

#include "proto/store/words.hpp"

namespace taskpool::store {
namespace {

/// As long as fewer blocks of a class wait to be used again, never used ones come first: the more wait, the longer each
/// rests.
constexpr std::size_t kResting = 64;

/// Memory that prepare_block() makes at a time: some 10 to 20 us.
constexpr std::size_t kPrepareBytes = kUnitBytes;

}  // namespace

std::uint64_t Allocator::used_bytes() const { return load_word(memory_.data() + offsetof(SegmentHeader, used_bytes)); }

Result<std::uint64_t> Allocator::allocate(List& list, unsigned size_class, SlabKind kind) {
  if (!list.has_free())
    if (auto added = add_slab(list, size_class, kind); !added) return added.error();
  std::uint64_t place;
  if (list.fresh != list.fresh_end && list.freed.size() < kResting) {
    place = list.fresh;
    list.fresh += class_bytes(size_class);
  } else {
    place = list.freed.front();
    list.freed.pop_front();
  }
  live_bytes_ += class_bytes(size_class);
  return place;
}

Result<std::uint64_t> Allocator::next_end(unsigned size_class) const {
  const std::uint64_t begin = used_bytes();
  const std::uint64_t bytes = slab_bytes(size_class);
  if (bytes <= memory_.size() - begin) return begin + bytes;
  return fail(Errc::store_full,
              "store: all of its " + std::to_string(memory_.size()) + " bytes are in use (store_max_bytes)");
}

Result<void> Allocator::extend(std::uint64_t end) {
  if (auto extended = extend_(end); !extended) return fail(Errc::store_full, "store: " + extended.error().detail);
  return {};
}

Result<bool> Allocator::prepare_block(unsigned size_class) {
  if (blocks_[size_class].has_free()) return true;
  const auto end = next_end(size_class);
  if (!end) return end.error();
  const auto next = std::min(std::max(prepared_, used_bytes()) + kPrepareBytes, *end);
  if (auto extended = extend(next); !extended) return extended.error();
  prepared_ = next;
  return next == *end;
}

std::optional<Allocator::Larger> Allocator::allocate_larger(unsigned size_class) {
  for (unsigned larger = size_class + 1; larger < kClasses; ++larger)
    if (blocks_[larger].has_free()) return Larger{allocate_block(larger).value(), larger};
  return std::nullopt;
}

Result<void> Allocator::add_slab(List& list, unsigned size_class, SlabKind kind) {
  const std::uint64_t begin = used_bytes();
  const std::uint64_t bytes = slab_bytes(size_class);
  const auto end = next_end(size_class);
  if (!end) return end.error();
  if (auto extended = extend(*end); !extended) return extended;
  // Every record of a slab is there for recovery. The memory is new, and zero, unless damage has left something in it.
  for (std::uint64_t place = begin; kind == SlabKind::objects && place + kObjectBytes <= begin + bytes;
       place += kObjectBytes)
    store_word(memory_.data() + place + offsetof(ObjectRecord, id), 0);
  UnitWord word{kind, static_cast<std::uint8_t>(size_class), static_cast<std::uint32_t>(begin / kUnitBytes)};
  for (std::uint64_t unit = begin / kUnitBytes; unit < (begin + bytes) / kUnitBytes; ++unit)
    store_word(memory_.data() + kUnitMapOffset + unit * sizeof(std::uint64_t), word.pack());
  store_word(memory_.data() + offsetof(SegmentHeader, used_bytes), begin + bytes, std::memory_order_release);
  list.fresh = begin;
  list.fresh_end = begin + slab_blocks(size_class) * class_bytes(size_class);
  return {};
}

void Allocator::free_block(std::uint64_t block, unsigned size_class) {
  live_bytes_ -= class_bytes(size_class);
  blocks_[size_class].freed.push_back(block);
}

void Allocator::free_object(std::uint64_t record) {
  live_bytes_ -= kObjectBytes;
  objects_.freed.push_back(record);
}

void Allocator::add_free(std::uint64_t place, unsigned size_class, SlabKind kind) {
  (kind == SlabKind::objects ? objects_ : blocks_[size_class]).freed.push_back(place);
}

}  // namespace taskpool::store
