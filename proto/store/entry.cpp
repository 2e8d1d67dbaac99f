#include <cassert>
#include <string>

#include "proto/store/core.hpp"

namespace taskpool::store {

ObjectId RefList::operator[](std::size_t index) const {
  assert(index < size_);
  return static_cast<ObjectId>(load_word(words_ + index * sizeof(std::uint64_t)));
}

EntryView view_entry(const Core& core, Reference reference) {
  const std::uint64_t block = reference.offset();
  const std::byte* at = core.at(block) + sizeof(BlockHeader);
  const BlockAbout about = core.about(block);
  const std::uint64_t lengths = core.word(block + offsetof(BlockHeader, lengths));
  const auto key_bytes = static_cast<std::uint32_t>(lengths);
  const auto value_bytes = static_cast<std::uint32_t>(lengths >> 32);
  EntryView view;
  if (about.flags & kHasExpiry) {
    view.expires_ns = load_word(at);
    at += sizeof(std::uint64_t);
  }
  if (about.flags & kHasRefs) {
    view.refs = RefList{at + sizeof(std::uint64_t), load_word(at)};
    at += (1 + view.refs.size()) * sizeof(std::uint64_t);
  }
  view.key = {at, key_bytes};
  view.value = {at + padded(key_bytes), value_bytes};
  view.encoding = about.encoding;
  view.writer_uid = about.writer_uid;
  view.order = core.word(block + offsetof(BlockHeader, order));
  view.version = reference.word;
  return view;
}

Result<Reference> make_entry(Transaction& tx, Core& core, ObjectId object, std::uint64_t order, KeyView key,
                             const EntryInput& entry) {
  if (entry.value.size() > kMaxStoreValueBytes)
    return fail(Errc::body_too_large, "value: " + std::to_string(entry.value.size()) + " bytes, more than " +
                                          std::to_string(kMaxStoreValueBytes) + ": use a buffer");
  if (entry.refs.size() > kMaxValueRefs)
    return fail(Errc::limit_reached, "value: more than " + std::to_string(kMaxValueRefs) + " references");
  BlockAbout about{.writer_uid = entry.writer_uid, .encoding = entry.encoding};
  std::size_t bytes = sizeof(BlockHeader) + padded(key.size()) + padded(entry.value.size());
  if (entry.expires_ns != 0) {
    about.flags |= kHasExpiry;
    bytes += sizeof(std::uint64_t);
  }
  if (!entry.refs.empty()) {
    about.flags |= kHasRefs;
    bytes += (1 + entry.refs.size()) * sizeof(std::uint64_t);
  }
  const unsigned size_class = class_for(bytes);
  const auto block = tx.allocate(size_class);
  if (!block) return block.error();
  about.size_class = static_cast<std::uint8_t>(size_class);
  std::byte* at = core.at(*block) + sizeof(BlockHeader);
  const auto append = [&at](std::uint64_t word) {
    store_word(at, word);
    at += sizeof word;
  };
  if (about.flags & kHasExpiry) append(entry.expires_ns);
  if (about.flags & kHasRefs) {
    append(entry.refs.size());
    for (const ObjectId id : entry.refs) append(static_cast<std::uint64_t>(id));
  }
  at = copy_in(key, at);
  copy_in(entry.value, at);
  return tx.describe(*block, object, order, key.size() | std::uint64_t{entry.value.size()} << 32, about);
}

std::uint64_t block_bytes(const Core& core, Reference reference) {
  return class_bytes(core.about(reference.offset()).size_class);
}

}  // namespace taskpool::store
