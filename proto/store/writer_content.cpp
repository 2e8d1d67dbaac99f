#include <algorithm>
#include <cassert>

#include "proto/store/core.hpp"
#include "proto/store/hash.hpp"
#include "proto/store/table.hpp"
#include "proto/store/tree.hpp"
#include "proto/store/writer.hpp"

/// The operations of Writer on what objects contain.
namespace taskpool::store {
namespace {

/// Of an index that is 1 MB, and its entries five times as much: about what a core has to itself.
constexpr std::uint64_t kLargeSlots = 64 * 1024;

Error no_index(std::uint64_t index, std::uint64_t count) {
  return fail(Errc::out_of_range, "index " + std::to_string(index) + " of " + std::to_string(count));
}

std::uint64_t word_place(Reference words, std::uint64_t index) {
  return words.offset() + sizeof(BlockHeader) + index * sizeof(std::uint64_t);
}

}  // namespace

// Dicts.

Reference Writer::dict_table(ObjectId id) const {
  const ObjectState* const found = core_->objects.find(id);
  if (found == nullptr) return {};
  const std::uint64_t about = core_->word(found->record + offsetof(ObjectRecord, about));
  if (shape_of(static_cast<ObjectType>(about & 0xff)) != Shape::dict) return {};
  return Reference{core_->word(found->record + offsetof(ObjectRecord, root))};
}

bool Writer::is_large(ObjectId id) const {
  const Reference table = dict_table(id);
  return table && slots_of(*core_, table) >= kLargeSlots;
}

void Writer::fetch_ahead(ObjectId id, KeyView key) const {
  const Reference table = dict_table(id);
  if (table && !key.empty()) fetch_slot(*core_, table, hash_key(key, core_->seed));
}

Result<std::optional<EntryView>> Writer::find(Transaction& tx, ObjectId id, KeyView key) {
  const auto record = open(tx, id, Shape::dict);
  if (!record) return record.error();
  const SlotPlace place = look_up(*record, key, hash_key(key, core_->seed));
  if (place.slot == 0) return std::optional<EntryView>{};
  const EntryView entry = view_entry(*core_, place.entry);
  return is_expired(entry, tx.now_ns()) ? std::nullopt : std::optional{entry};
}

Result<bool> Writer::put(Transaction& tx, ObjectId id, KeyView key, const EntryInput& input) {
  auto record = change(tx, id, Shape::dict);
  if (!record) return record.error();
  if (auto checked = check_key(key); !checked) return checked.error();
  const std::uint64_t hash = hash_key(key, core_->seed);
  SlotPlace place = look_up(*record, key, hash);
  bool is_new = place.slot == 0;
  if (is_new && (place.free_slot == 0 || (place.takes_new_tag && is_full(*record)))) {
    if (auto made = make_room(*record); !made) return made.error();
    place = look_up(*record, key, hash);
  }
  if (is_new && place.is_crowded) return fail(Errc::limit_reached, "dict: too many keys of one hash");
  std::uint64_t order = 0;
  if (!is_new) {
    const EntryView old = view_entry(*core_, place.entry);
    is_new = is_expired(old, tx.now_ns());
    order = old.order;
  }
  if (is_new) {
    order = record->get(offsetof(ObjectRecord, next_order));
    record->set(offsetof(ObjectRecord, next_order), order + 1);
  }
  const auto entry = make_entry(tx, *core_, id, order, key, input);
  if (!entry) return entry.error();
  set_slot(*record, place, hash, *entry);
  if (is_new) note_age(record->state, record->count(), order, hash);
  return is_new;
}

Result<bool> Writer::erase(Transaction& tx, ObjectId id, KeyView key) {
  auto record = change(tx, id, Shape::dict);
  if (!record) return record.error();
  const SlotPlace place = look_up(*record, key, hash_key(key, core_->seed));
  if (place.slot == 0) return false;
  const bool was_there = !is_expired(view_entry(*core_, place.entry), tx.now_ns());
  erase_slot(*record, place);
  return was_there;
}

Result<std::optional<EntryView>> Writer::newest(Transaction& tx, ObjectId id) {
  auto record = change(tx, id, Shape::dict);
  if (!record) return record.error();
  return newest_entry(*record);
}

// Lists.

Result<EntryView> Writer::item(Transaction& tx, ObjectId id, std::uint64_t index) {
  const auto record = open(tx, id, Shape::list);
  if (!record) return record.error();
  if (index >= record->count()) return no_index(index, record->count());
  return view_entry(*core_, item_at(*record, index));
}

Result<void> Writer::set_item(Transaction& tx, ObjectId id, std::uint64_t index, const EntryInput& input) {
  auto record = change(tx, id, Shape::list);
  if (!record) return record.error();
  if (index >= record->count()) return no_index(index, record->count());
  const auto item = make_entry(tx, *core_, id, 0, {}, input);
  if (!item) return item.error();
  replace_item(*record, index, *item);
  return {};
}

Result<void> Writer::insert(Transaction& tx, ObjectId id, std::uint64_t index, std::span<const EntryInput> inputs) {
  auto record = change(tx, id, Shape::list);
  if (!record) return record.error();
  if (index > record->count()) return no_index(index, record->count());
  std::vector<std::uint64_t> items;
  items.reserve(inputs.size());
  for (const EntryInput& input : inputs) {
    const auto item = make_entry(tx, *core_, id, 0, {}, input);
    if (!item) return item.error();
    items.push_back(item->word);
  }
  return insert_items(*record, index, items);
}

Result<void> Writer::erase_items(Transaction& tx, ObjectId id, std::uint64_t first, std::uint64_t count) {
  auto record = change(tx, id, Shape::list);
  if (!record) return record.error();
  if (first > record->count() || count > record->count() - first) return no_index(first + count, record->count());
  return remove_items(*record, first, count);
}

Result<void> Writer::reverse(Transaction& tx, ObjectId id) {
  auto record = change(tx, id, Shape::list);
  if (!record) return record.error();
  return reverse_items(*record);
}

// Values and arrays.

Result<std::optional<EntryView>> Writer::value(Transaction& tx, ObjectId id) {
  const auto record = open(tx, id, Shape::value);
  if (!record) return record.error();
  const Reference root = record->root();
  return root ? std::optional{view_entry(*core_, root)} : std::nullopt;
}

Result<void> Writer::set_value(Transaction& tx, ObjectId id, const EntryInput& input) {
  auto record = change(tx, id, Shape::value);
  if (!record) return record.error();
  const auto entry = make_entry(tx, *core_, id, 0, {}, input);
  if (!entry) return entry.error();
  if (const Reference old = record->root()) record->drop(old);
  record->set_root(*entry);
  record->set_count(1);
  record->add_bytes(static_cast<std::int64_t>(block_bytes(*core_, *entry)));
  record->touch();
  return {};
}

Result<void> Writer::set_length(Transaction& tx, ObjectId id, std::uint64_t words) {
  auto record = change(tx, id, Shape::array);
  if (!record) return record.error();
  if (words > kMaxArrayWords)
    return fail(Errc::limit_reached, "array: more than " + std::to_string(kMaxArrayWords) + " elements");
  const std::vector<std::uint64_t> zeros(words);
  return replace_words(*record, zeros);
}

/// Another block with these words.
Result<void> Writer::replace_words(Record& record, std::span<const std::uint64_t> words) {
  Reference root;
  if (!words.empty()) {
    const unsigned size_class = class_for(sizeof(BlockHeader) + words.size_bytes());
    const auto block = record.tx.allocate(size_class);
    if (!block) return block.error();
    copy_in(std::as_bytes(words), core_->at(*block) + sizeof(BlockHeader));
    root =
        record.tx.describe(*block, record.id, 0,
                           {.value_bytes = static_cast<std::uint32_t>(words.size_bytes()), .kind = BlockKind::words});
    record.add_bytes(static_cast<std::int64_t>(block_bytes(*core_, root)));
  }
  if (const Reference old = record.root()) record.drop(old);
  record.set_root(root);
  record.set_count(words.size());
  record.touch();
  return {};
}

Result<std::uint64_t> Writer::word(Transaction& tx, ObjectId id, std::uint64_t index) {
  const auto record = open(tx, id, Shape::array);
  if (!record) return record.error();
  if (index >= record->count()) return no_index(index, record->count());
  return tx.load(word_place(record->root(), index));
}

Result<void> Writer::set_words(Transaction& tx, ObjectId id, std::uint64_t first,
                               std::span<const std::uint64_t> words) {
  auto record = change(tx, id, Shape::array);
  if (!record) return record.error();
  const std::uint64_t count = record->count();
  if (first > count || words.size() > count - first) return no_index(first + words.size(), count);
  if (words.empty()) return {};
  const Reference root = record->root();
  if (words.size() > kInPlaceWords) {
    std::vector<std::uint64_t> all(count);
    for (std::uint64_t index = 0; index < count; ++index) all[index] = tx.load(word_place(root, index));
    std::copy(words.begin(), words.end(), all.begin() + static_cast<std::ptrdiff_t>(first));
    return replace_words(*record, all);
  }
  for (std::size_t index = 0; index < words.size(); ++index)
    tx.store_in(root.offset(), word_place(root, first + index), words[index]);
  record->touch();
  return {};
}

bool Writer::visit_entries(ObjectId id, std::uint64_t& position, std::size_t steps,
                           const std::function<void(const EntryView&)>& visit) {
  auto tx = begin(0);
  const auto record = open(tx, id, {});
  if (!record) return false;
  const auto type = static_cast<ObjectType>(record->get(offsetof(ObjectRecord, about)) & 0xff);
  const Reference root = record->root();
  if (!root) return false;
  switch (shape_of(type)) {
    case Shape::dict: {
      const std::uint64_t slots = slots_of(*core_, root);
      for (; position < slots && steps != 0; ++position, --steps) {
        const std::uint64_t slot = root.offset() + kSlotsOffset + position * sizeof(Slot);
        if (const Reference entry{core_->word(slot + offsetof(Slot, reference))}) visit(view_entry(*core_, entry));
      }
      return position < slots;
    }
    case Shape::list:
      position = visit_items(*record, position, steps, [&](Reference item) { visit(view_entry(*core_, item)); });
      return position < record->count();
    case Shape::value:
      if (position++ == 0) visit(view_entry(*core_, root));
      return false;
    case Shape::array: break;
  }
  return false;
}

}  // namespace taskpool::store
