#include "daemon/queue/block.hpp"

#include <algorithm>
#include <cstring>
#include <new>

namespace taskpool::queue {

void intrusive_ptr_add_ref(const Block* block) { ++block->references_; }

void intrusive_ptr_release(const Block* block) {
  if (--block->references_ != 0) return;
  if (block->quota_) block->quota_->take(block->quota_bytes());
  block->~Block();
  ::operator delete(const_cast<Block*>(block));
}

Block* Block::allocate(std::size_t bytes) {
  auto* block = new (::operator new(sizeof(Block) + bytes)) Block;
  block->size_ = static_cast<std::uint32_t>(bytes);
  return block;
}

BlockPtr Block::make(std::uint8_t flags, Encoding encoding, std::uint32_t first, std::uint32_t count,
                     std::span<const std::byte> body) {
  auto* block = allocate(body.size());
  block->first_ = first;
  block->count_ = count;
  block->encoding_ = encoding;
  block->in_arena_ = (flags & kInArena) != 0;
  if (!body.empty()) std::memcpy(block->data(), body.data(), body.size());
  return BlockPtr{block};
}

BlockPtr Block::make_single(std::uint8_t flags, Encoding encoding, std::uint32_t elements,
                            std::span<const std::byte> item) {
  auto* block = allocate(item.size());
  block->count_ = is_array(encoding) ? elements : 1;
  block->encoding_ = encoding;
  block->in_arena_ = (flags & kInArena) != 0;
  block->single_ = true;
  if (!item.empty()) std::memcpy(block->data(), item.data(), item.size());
  return BlockPtr{block};
}

void Block::count_in(const QuotaPtr& quota) const {
  quota_ = quota;
  quota_->add(quota_bytes());
}

Range Range::whole(BlockPtr block) {
  Range range;
  range.index = block->first();
  range.count = block->count();
  range.offset = block->is_packed() ? block->count() * static_cast<std::uint32_t>(sizeof(std::uint32_t)) : 0;
  range.block = std::move(block);
  return range;
}

std::size_t Range::packed_bytes(std::uint32_t items) const {
  const auto* table = block->bytes().data() + std::size_t{index - block->first()} * sizeof(std::uint32_t);
  std::size_t bytes = 0;
  for (std::uint32_t item = 0; item < items; ++item) bytes += load<std::uint32_t>(table + item * sizeof(std::uint32_t));
  return bytes;
}

Range Range::take_front(std::uint32_t most, std::size_t max_bytes) {
  Range front = *this;
  front.count = std::clamp<std::uint32_t>(most, 1, count);
  if (block->is_packed()) {
    const auto* table = block->bytes().data() + std::size_t{index - block->first()} * sizeof(std::uint32_t);
    std::size_t bytes = 0;
    std::uint32_t items = 0;
    while (items < front.count) {
      const auto size = load<std::uint32_t>(table + items * sizeof(std::uint32_t)) + sizeof(std::uint32_t);
      if (items > 0 && bytes + size > max_bytes) break;
      bytes += size;
      ++items;
    }
    front.count = items;
    offset += static_cast<std::uint32_t>(bytes - items * sizeof(std::uint32_t));
  } else if (!block->in_arena() && block->is_numbers()) {
    const auto fitting = static_cast<std::uint32_t>(max_bytes / element_bytes(block->encoding()));
    front.count = std::min(front.count, std::max<std::uint32_t>(fitting, 1));
  } else if (block->in_arena() && !block->is_numbers()) {
    front.count = std::min(front.count, static_cast<std::uint32_t>(max_bytes / sizeof(ArenaRef)));
  }
  index += front.count;
  count -= front.count;
  return front;
}

void Range::drop_front(std::uint32_t items) {
  if (block->is_packed()) offset += static_cast<std::uint32_t>(packed_bytes(items));
  index += items;
  count -= items;
}

std::pair<std::span<const std::byte>, std::span<const std::byte>> Range::body(ArenaRef& scratch) const {
  const auto all = block->bytes();
  const std::size_t position = index - block->first();
  if (block->is_packed())
    return {all.subspan(position * sizeof(std::uint32_t), std::size_t{count} * sizeof(std::uint32_t)),
            all.subspan(offset, packed_bytes(count))};
  if (block->is_single()) return {{}, all};
  const auto width = element_bytes(block->encoding());
  if (!block->in_arena()) return {{}, all.subspan(position * width, count * width)};
  if (!block->is_numbers()) return {{}, all.subspan(position * sizeof(ArenaRef), count * sizeof(ArenaRef))};
  const auto array = load<ArenaRef>(all.data());
  scratch = ArenaRef{array.segment, array.offset + position * width, count * width};
  return {{}, std::as_bytes(std::span{&scratch, 1})};
}

}  // namespace taskpool::queue
