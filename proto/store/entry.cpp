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
  EntryView view;
  const auto next = [&at] {
    const std::uint64_t word = load_word(at);
    at += sizeof word;
    return word;
  };
  view.writer_uid = about.flags & kHasWriter ? static_cast<std::uint32_t>(next()) : core.owner_uid;
  if (about.flags & kHasExpiry) view.expires_ns = next();
  if (about.flags & kHasRefs) {
    const std::uint64_t refs = next();
    view.refs = RefList{at, refs};
    at += refs * sizeof(std::uint64_t);
  }
  view.key = {at, about.key_bytes};
  view.value = {at + padded(about.key_bytes), about.value_bytes};
  view.encoding = about.encoding;
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
  BlockAbout about{.key_bytes = static_cast<std::uint16_t>(key.size()),
                   .value_bytes = static_cast<std::uint32_t>(entry.value.size()),
                   .encoding = entry.encoding};
  if (core.writers || entry.writer_uid != core.owner_uid) about.flags |= kHasWriter;
  if (entry.expires_ns != 0) about.flags |= kHasExpiry;
  if (!entry.refs.empty()) about.flags |= kHasRefs;
  const unsigned size_class = class_for(entry_bytes(about, entry.refs.size()));
  if (core.writers)
    if (const auto may = core.check_writer(entry.writer_uid, class_bytes(size_class)); !may) return may.error();
  const auto block = tx.allocate(size_class);
  if (!block) return block.error();
  if (core.writers) {
    const auto bytes = class_bytes(core.about(*block).size_class);
    if (bytes != class_bytes(size_class))
      if (const auto may = core.check_writer(entry.writer_uid, bytes); !may) return may.error();
    core.charge_writer(entry.writer_uid, static_cast<std::int64_t>(bytes));
  }
  std::byte* at = core.at(*block) + sizeof(BlockHeader);
  const auto append = [&at](std::uint64_t word) {
    store_word(at, word);
    at += sizeof word;
  };
  if (about.flags & kHasWriter) append(entry.writer_uid);
  if (about.flags & kHasExpiry) append(entry.expires_ns);
  if (about.flags & kHasRefs) {
    append(entry.refs.size());
    for (const ObjectId id : entry.refs) append(static_cast<std::uint64_t>(id));
  }
  at = copy_in(key, at);
  copy_in(entry.value, at);
  return tx.describe(*block, object, order, about);
}

std::uint64_t block_bytes(const Core& core, Reference reference) {
  return class_bytes(core.about(reference.offset()).size_class);
}

}  // namespace taskpool::store
