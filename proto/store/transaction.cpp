#include "proto/store/transaction.hpp"

#include <algorithm>
#include <cassert>
#include <string>

#include "proto/store/core.hpp"
#include "proto/store/hash.hpp"

namespace taskpool::store {
namespace {

/// A power of two, and at most half full.
constexpr std::size_t kIndexSize = 8192;
static_assert(kMaxRedoWords * 2 <= kIndexSize);

std::size_t index_place(std::uint64_t offset) { return static_cast<std::size_t>(offset / 8 * kHash1 >> 51); }

std::uint64_t sequence_at(const Core& core, std::uint64_t block) {
  return core.word(block + offsetof(BlockHeader, sequence));
}

bool is_live(std::uint64_t sequence) { return sequence != 0 && sequence % 2 == 0; }

}  // namespace

Core::Core(std::span<std::byte> segment, Extend extend) : memory(segment), allocator(segment, std::move(extend)) {
  seed = word(offsetof(SegmentHeader, seed));
  owner_uid = static_cast<std::uint32_t>(word(offsetof(SegmentHeader, owner_uid)));
  pending.index.resize(kIndexSize);
}

void Core::free_block(std::uint64_t block) {
  const std::uint64_t sequence = sequence_at(*this, block);
  if (is_live(sequence)) store_word(at(block + offsetof(BlockHeader, sequence)), sequence + 1);
  const auto what = about(block);
  if (writers && (what.flags & kHasWriter) != 0)
    charge_writer(static_cast<std::uint32_t>(word(block + sizeof(BlockHeader))),
                  -static_cast<std::int64_t>(class_bytes(what.size_class)));
  allocator.free_block(block, what.size_class);
}

Result<void> Core::check_writer(std::uint32_t uid, std::uint64_t bytes) {
  if (!writers) return {};
  const auto& has = writers->bytes[uid];
  if (has + bytes <= writers->bound) return {};
  if (!doomed.empty()) (void)reclaim(kInlineSteps);
  if (has + bytes <= writers->bound) return {};
  return fail(Errc::store_full, "store: uid " + std::to_string(uid) + " has " + std::to_string(has) +
                                    " bytes of its own in it, of " + std::to_string(writers->bound) +
                                    " that one user may have (store_max_writer_bytes)");
}

void Core::charge_writer(std::uint32_t uid, std::int64_t bytes) {
  if (!writers) return;
  auto& has = writers->bytes[uid];
  // What was there before anybody counted is not counted when it goes.
  has = bytes < 0 && has < static_cast<std::uint64_t>(-bytes) ? 0 : has + static_cast<std::uint64_t>(bytes);
}

Transaction::Transaction(Core& core) : core_(&core) {
  assert(!core.pending.is_open && "one transaction at a time");
  core.pending.is_open = true;
}

Transaction::Transaction(Transaction&& other) noexcept : core_(std::exchange(other.core_, nullptr)) {}

Transaction::~Transaction() { abort(); }

std::uint64_t Transaction::now_ns() const { return core_->pending.now_ns; }

bool Transaction::has_overflowed() const { return core_->pending.overflowed; }

std::uint64_t Transaction::load(std::uint64_t offset) const {
  const Pending& pending = core_->pending;
  if (!pending.words.empty()) {
    for (std::size_t place = index_place(offset);; place = (place + 1) % kIndexSize) {
      const std::uint16_t number = pending.index[place];
      if (number == 0) break;
      if (pending.words[number - 1u].offset == offset) return pending.words[number - 1u].value;
    }
  }
  return core_->word(offset);
}

void Transaction::store(std::uint64_t offset, std::uint64_t value) {
  Pending& pending = core_->pending;
  std::size_t place = index_place(offset);
  for (;; place = (place + 1) % kIndexSize) {
    const std::uint16_t number = pending.index[place];
    if (number == 0) break;
    if (pending.words[number - 1u].offset == offset) {
      pending.words[number - 1u].value = value;
      return;
    }
  }
  if (pending.words.size() + pending.touched.size() >= kMaxRedoWords) {
    pending.overflowed = true;
    return;
  }
  pending.words.push_back({offset, value});
  pending.places.push_back(static_cast<std::uint16_t>(place));
  pending.index[place] = static_cast<std::uint16_t>(pending.words.size());
}

void Transaction::store_in(std::uint64_t block, std::uint64_t offset, std::uint64_t value) {
  if (is_new(block)) {
    store_word(core_->at(offset), value);
    return;
  }
  core_->pending.has_changed_blocks = true;
  store(offset, value);
}

bool Transaction::has_changed_blocks() const { return core_->pending.has_changed_blocks; }

void Transaction::touch(std::uint64_t record) {
  Pending& pending = core_->pending;
  if (has_touched(record)) return;
  if (pending.words.size() + pending.touched.size() >= kMaxRedoWords)
    pending.overflowed = true;
  else
    pending.touched.push_back(record);
}

bool Transaction::has_touched(std::uint64_t record) const {
  const auto& touched = core_->pending.touched;
  return std::find(touched.begin(), touched.end(), record) != touched.end();
}

Result<std::uint64_t> Core::allocate_block(unsigned size_class) {
  auto block = allocator.allocate_block(size_class);
  if (!block && block.error().errc() == Errc::store_full && !doomed.empty()) {
    (void)reclaim(kInlineSteps);
    block = allocator.allocate_block(size_class);
  }
  if (!block && block.error().errc() == Errc::store_full)
    if (const auto larger = allocator.allocate_larger(size_class)) {
      block = larger->block;
      size_class = larger->size_class;
    }
  if (!block) return block;
  // free_block() and describe() read the class, whatever becomes of the block.
  store_word(at(*block + offsetof(BlockHeader, about)),
             BlockAbout{.size_class = static_cast<std::uint8_t>(size_class)}.pack());
  return block;
}

Result<std::uint64_t> Transaction::allocate(unsigned size_class) {
  auto block = core_->allocate_block(size_class);
  if (block) adopt(*block);
  return block;
}

void Transaction::adopt(std::uint64_t block) { core_->pending.fresh.push_back(block); }

Reference Transaction::describe(std::uint64_t block, ObjectId object, std::uint64_t order, BlockAbout about) {
  std::byte* header = core_->at(block);
  about.size_class = core_->about(block).size_class;
  store_word(header + offsetof(BlockHeader, object), static_cast<std::uint64_t>(object));
  store_word(header + offsetof(BlockHeader, order), order);
  store_word(header + offsetof(BlockHeader, about), about.pack());
  return Reference::make(block, (sequence_at(*core_, block) | 1) + 1);
}

bool Transaction::is_new(std::uint64_t block) const { return !is_live(sequence_at(*core_, block)); }

void Transaction::retire(std::uint64_t block) { core_->pending.retired.push_back(block); }

void Transaction::doom(const Doomed& doomed) { core_->pending.doomed.push_back(doomed); }

std::vector<std::uint64_t> Transaction::disown() { return std::exchange(core_->pending.fresh, {}); }

Result<void> Transaction::commit() {
  Pending& pending = core_->pending;
  if (pending.overflowed) {
    abort();
    return fail(Errc::limit_reached, "batch: it changes more than " + std::to_string(kMaxRedoWords) + " words");
  }
  Core& core = *core_;
  // 1. The new blocks come to life, complete: a reference that a reader follows from here on finds all of them.
  for (const std::uint64_t block : pending.fresh)
    store_word(core.at(block + offsetof(BlockHeader, sequence)), (sequence_at(core, block) | 1) + 1,
               std::memory_order_release);
  // 2. The decision: from the store of the number on, whoever comes after a crash applies all of it.
  const std::uint64_t words = pending.words.size();
  const std::uint64_t pairs = words + pending.touched.size();
  std::uint64_t check = pairs;
  std::uint64_t at = kRedoOffset + offsetof(RedoRecord, pairs);
  const auto record_pair = [&](std::uint64_t offset, std::uint64_t value) {
    store_word(core.at(at), offset);
    store_word(core.at(at + 8), value);
    check = redo_check(check, offset, value);
    at += sizeof(RedoPair);
  };
  for (const auto& [offset, value] : pending.words) record_pair(offset, value);
  for (const std::uint64_t record : pending.touched) {
    const std::uint64_t version = record + offsetof(ObjectRecord, version);
    record_pair(version, (core.word(version) | 1) + 1);
  }
  store_word(core.at(kRedoOffset + offsetof(RedoRecord, check)), check);
  store_word(core.at(kRedoOffset + offsetof(RedoRecord, committed)), pairs, std::memory_order_release);
  release_fence();
  // 3. Readers of whole objects are told before the first word changes, and after the last one.
  for (const std::uint64_t record : pending.touched) {
    const std::uint64_t version = record + offsetof(ObjectRecord, version);
    store_word(core.at(version), core.word(version) | 1);
  }
  release_fence();
  for (const auto& [offset, value] : pending.words) store_word(core.at(offset), value, std::memory_order_release);
  for (const std::uint64_t record : pending.touched) {
    const std::uint64_t version = record + offsetof(ObjectRecord, version);
    store_word(core.at(version), core.word(version) + 1, std::memory_order_release);
  }
  // 4. What was replaced dies before anybody may fill it again.
  release_fence();
  for (const std::uint64_t block : pending.retired) core.free_block(block);
  store_word(core.at(kRedoOffset + offsetof(RedoRecord, committed)), 0, std::memory_order_release);
  release_fence();

  core.doomed.insert(core.doomed.end(), pending.doomed.begin(), pending.doomed.end());
  for (const auto& [id, record] : pending.removed) core.forget(id, record);
  clear();
  return {};
}

void Transaction::abort() {
  if (core_ == nullptr || !core_->pending.is_open) return;
  Core& core = *core_;
  for (const std::uint64_t block : core.pending.fresh) core.free_block(block);
  // They follow what the transaction did.
  for (const std::uint64_t record : core.pending.touched) {
    ObjectState* const found = core.objects.find(static_cast<ObjectId>(core.word(record + offsetof(ObjectRecord, id))));
    if (found != nullptr) found->ages.reset();
  }
  for (const ObjectId id : core.pending.created) {
    core.allocator.free_object(core.objects.find(id)->record);
    core.objects.erase(id);
  }
  clear();
}

void Transaction::clear() {
  Pending& pending = core_->pending;
  for (const std::uint16_t place : pending.places) pending.index[place] = 0;
  pending.words.clear();
  pending.places.clear();
  pending.touched.clear();
  pending.fresh.clear();
  pending.retired.clear();
  pending.doomed.clear();
  pending.created.clear();
  pending.removed.clear();
  pending.overflowed = false;
  pending.is_open = false;
  pending.has_changed_blocks = false;
  for (const auto& [object, bytes] : std::exchange(pending.freed, {})) core_->credit(object, bytes);
  core_ = nullptr;
}

}  // namespace taskpool::store
