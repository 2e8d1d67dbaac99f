#include "proto/store/recovery_walk.hpp"

#include <algorithm>

#include "proto/store/hash.hpp"
#include "proto/store/recovery.hpp"
#include "proto/store/table.hpp"
#include "proto/store/tree.hpp"

namespace taskpool::store {
namespace {

/// How many slots ahead their blocks are fetched: a walk waits for memory more than for anything else.
constexpr std::uint64_t kAhead = 12;

/// No number beyond this is believed: the ones after it must not run out.
constexpr std::uint64_t kMaxObjectId = std::uint64_t{1} << 62;

std::uint64_t slot_at(Reference table, std::uint64_t position) {
  return table.offset() + kSlotsOffset + position * sizeof(Slot);
}

}  // namespace

RecoveryWalk::RecoveryWalk(Core& core) : core_(core), used_bytes_(core.allocator.used_bytes()) {}

void RecoveryWalk::say(std::string message) {
  if (messages_.size() < kMaxRecoveryMessages - 1)
    messages_.push_back(std::move(message));
  else
    ++unsaid_;
}

std::vector<std::string> RecoveryWalk::take_messages() {
  if (unsaid_ != 0) messages_.push_back("and " + std::to_string(unsaid_) + " more");
  unsaid_ = 0;
  return std::move(messages_);
}

void RecoveryWalk::find_slabs() {
  const std::uint64_t units = used_bytes_ / kUnitBytes;
  slab_of_unit_.assign(units, 0);
  const auto word_of = [&](std::uint64_t unit) { return core_.word(kUnitMapOffset + unit * sizeof(std::uint64_t)); };
  std::size_t places = 0;
  for (std::uint64_t unit = first_slab_offset(core_.memory.size()) / kUnitBytes; unit < units;) {
    const UnitWord word = UnitWord::unpack(word_of(unit));
    const bool is_kind =
        word.kind == SlabKind::blocks || (word.kind == SlabKind::objects && word.size_class == kObjectClass);
    std::uint64_t length = 1;
    bool is_sound = is_kind && word.size_class < kClasses && word.slab_unit == unit && word.pack() == word_of(unit);
    if (is_sound) {
      length = slab_bytes(word.size_class) / kUnitBytes;
      is_sound = length <= units - unit;
      for (std::uint64_t each = 1; is_sound && each < length; ++each) is_sound = word_of(unit + each) == word.pack();
    }
    if (!is_sound) {
      say("unit " + std::to_string(unit) + ": damaged, not used any more");
      ++unit;
      continue;
    }
    slabs_.push_back({unit * kUnitBytes, word.kind, word.size_class, places});
    places += slabs_.back().places();
    std::fill_n(slab_of_unit_.begin() + static_cast<std::ptrdiff_t>(unit), length,
                static_cast<std::uint32_t>(slabs_.size()));
    unit += length;
  }
  used_.assign(places, false);
}

const Slab* RecoveryWalk::find_slab(std::uint64_t offset) const {
  if (offset >= used_bytes_) return nullptr;
  const std::uint32_t number = slab_of_unit_[offset / kUnitBytes];
  return number != 0 ? &slabs_[number - 1] : nullptr;
}

bool RecoveryWalk::is_version(std::uint64_t offset) const {
  const Slab* slab = find_slab(offset);
  return slab != nullptr && slab->kind == SlabKind::objects &&
         (offset - slab->offset) % kObjectBytes == offsetof(ObjectRecord, version);
}

void RecoveryWalk::prefetch(std::uint64_t reference) const {
  const std::uint64_t offset = Reference{reference}.offset();
  if (offset < used_bytes_) __builtin_prefetch(core_.at(offset));
}

/// Takes the block as part of the object, or says why it cannot be.
const char* RecoveryWalk::claim(Reference reference, BlockKind kind, Tally& tally) {
  const std::uint64_t block = reference.offset();
  const Slab* slab = find_slab(block);
  if (slab == nullptr || slab->kind != SlabKind::blocks) return "it lies in no slab";
  const std::size_t number = (block - slab->offset) / class_bytes(slab->size_class);
  if (number >= slab->places() || slab->offset + number * class_bytes(slab->size_class) != block)
    return "it begins inside a block";
  const BlockAbout about = core_.about(block);
  if (!reference.names(core_.word(block + offsetof(BlockHeader, sequence)))) return "the block is not the one meant";
  if (about.size_class != slab->size_class || about.kind != kind ||
      core_.word(block + offsetof(BlockHeader, object)) != static_cast<std::uint64_t>(tally.id))
    return "the block's header is damaged";
  if (used_[slab->first_place + number]) return "the block is used twice";
  used_[slab->first_place + number] = true;
  tally.bytes += class_bytes(slab->size_class);
  return nullptr;
}

/// Takes back what claim() took: its content turned out to be damaged.
const char* RecoveryWalk::disown(Reference reference, Tally& tally, const char* fault) {
  const Slab& slab = *find_slab(reference.offset());
  used_[slab.first_place + (reference.offset() - slab.offset) / class_bytes(slab.size_class)] = false;
  tally.bytes -= class_bytes(slab.size_class);
  return fault;
}

const char* RecoveryWalk::claim_entry(Reference reference, bool has_key, Tally& tally) {
  if (const char* fault = claim(reference, BlockKind::entry, tally)) return fault;
  const char* fault = find_entry_fault(reference, has_key);
  return fault == nullptr ? nullptr : disown(reference, tally, fault);
}

const char* RecoveryWalk::find_entry_fault(Reference reference, bool has_key) const {
  const std::uint64_t block = reference.offset();
  const BlockAbout about = core_.about(block);
  if (about.key_bytes > kMaxKeyBytes || about.value_bytes > kMaxStoreValueBytes || (about.flags & ~kAllBlockFlags) != 0)
    return "the block's header is damaged";
  std::uint64_t refs = 0;
  if (about.flags & kHasRefs) {
    const auto before = static_cast<std::uint64_t>(std::popcount<unsigned>(about.flags & (kHasWriter | kHasExpiry)));
    refs = core_.word(block + sizeof(BlockHeader) + before * sizeof(std::uint64_t));
    if (refs > kMaxValueRefs) return "the block's references are damaged";
  }
  if (class_for(entry_bytes(about, refs)) > about.size_class) return "the block's lengths are damaged";
  const EntryView entry = view_entry(core_, reference);
  if (has_key ? !check_key(entry.key).has_value() : !entry.key.empty()) return "its key is damaged";
  return nullptr;
}

void RecoveryWalk::walk_objects() {
  for (const Slab& slab : slabs_) {
    if (slab.kind != SlabKind::objects) continue;
    for (std::size_t number = 0; number < slab.places(); ++number)
      walk_object(slab.offset + number * kObjectBytes, slab.first_place + number);
  }
}

void RecoveryWalk::walk_object(std::uint64_t record, std::size_t place) {
  const std::uint64_t number = core_.word(record + offsetof(ObjectRecord, id));
  if (number == 0) return;
  Tally tally;
  tally.id = static_cast<ObjectId>(number);
  tally.what = "object " + std::to_string(number);
  const std::uint64_t about = core_.word(record + offsetof(ObjectRecord, about));
  const ObjectTypeRow* type = find_type(about & 0xff);
  const bool is_known = core_.objects.contains(tally.id);
  if (type == nullptr || is_known || number > kMaxObjectId) {
    say(tally.what + ": dropped, " + (type == nullptr ? "its type" : "its number") + " is damaged");
    repair(record + offsetof(ObjectRecord, id), 0);
    return;
  }
  if (number >= core_.word(offsetof(SegmentHeader, next_object))) {
    say(tally.what + ": its number had not been given");
    repair(offsetof(SegmentHeader, next_object), number + 1);
  }
  tally.what += " (" + std::string{type->name} + ")";
  used_[place] = true;
  core_.objects[tally.id].record = record;
  tally.next_order = core_.word(record + offsetof(ObjectRecord, next_order));
  const std::uint64_t version = core_.word(record + offsetof(ObjectRecord, version));
  if (version % 2 != 0) repair(record + offsetof(ObjectRecord, version), version + 1);

  const std::size_t root_place = record + offsetof(ObjectRecord, root);
  const Reference root{core_.word(root_place)};
  const char* fault = nullptr;
  switch (type->shape) {
    case Shape::dict:
      if (root) walk_dict(record, root, tally);
      break;
    case Shape::list:
      if (root) walk_list(record, root, tally);
      break;
    case Shape::value:
      if (!root) break;
      fault = claim_entry(root, false, tally);
      if (fault == nullptr) tally.count = 1;
      break;
    case Shape::array:
      if (!root) break;
      fault = claim(root, BlockKind::words, tally);
      if (fault == nullptr) {
        const std::uint64_t bytes = core_.about(root.offset()).value_bytes;
        tally.count = bytes / sizeof(std::uint64_t);
        if (bytes % sizeof(std::uint64_t) != 0 || tally.count == 0 ||
            class_for(sizeof(BlockHeader) + bytes) > core_.about(root.offset()).size_class) {
          fault = disown(root, tally, "its length is damaged");
          tally.count = 0;
        }
      }
      break;
  }
  if (fault != nullptr) {
    say(tally.what + ": its content is dropped: " + fault);
    repair(root_place, 0);
  }
  const std::uint64_t count_place = record + offsetof(ObjectRecord, count);
  if (core_.word(count_place) != tally.count) {
    say(tally.what + ": it said that it has " + std::to_string(core_.word(count_place)) + " entries, and has " +
        std::to_string(tally.count));
    repair(count_place, tally.count);
  }
  if (core_.word(record + offsetof(ObjectRecord, next_order)) < tally.next_order)
    repair(record + offsetof(ObjectRecord, next_order), tally.next_order);
  // What was doomed and is free now counts until here: no damage.
  repair(record + offsetof(ObjectRecord, bytes), tally.bytes);
}

void RecoveryWalk::walk_dict(std::uint64_t record, Reference root, Tally& tally) {
  const char* fault = claim(root, BlockKind::table, tally);
  const std::uint64_t slots = fault == nullptr ? slots_of(core_, root) : 0;
  // A table fills its class, which may be smaller than that of its block.
  if (fault == nullptr && (slots > slots_of_class(core_.about(root.offset()).size_class) ||
                           slots != slots_of_class(class_for(kSlotsOffset + slots * sizeof(Slot)))))
    fault = "its length is damaged";
  if (fault != nullptr) {
    say(tally.what + ": its entries are dropped: its table is damaged: " + fault);
    repair(record + offsetof(ObjectRecord, root), 0);
    return;
  }
  // A run ends at the first tag 0: where the last one before each slot is, also around the end.
  std::uint64_t last_end = UINT64_MAX;  // none yet
  for (std::uint64_t position = slots; position-- > 0;)
    if (core_.word(slot_at(root, position)) == 0) {
      last_end = position;
      break;
    }
  bool has_end = last_end != UINT64_MAX;
  bool is_before_start = true;  // last_end lies behind the end of the table, as it were
  bool is_misplaced = !has_end;
  std::uint64_t filled = 0;
  std::vector<Slot> entries;
  for (std::uint64_t position = 0; position < slots; ++position) {
    const std::uint64_t slot = slot_at(root, position);
    if (position + kAhead < slots) prefetch(core_.word(slot + kAhead * sizeof(Slot) + offsetof(Slot, reference)));
    const std::uint64_t tag = core_.word(slot);
    const Reference entry{core_.word(slot + offsetof(Slot, reference))};
    if (tag != 0)
      ++filled;
    else {
      last_end = position;
      is_before_start = false;
    }
    if (!entry) continue;
    if (const char* wrong = claim_entry(entry, true, tally)) {
      say(tally.what + ": an entry is dropped: " + wrong);
      repair(slot + offsetof(Slot, reference), 0);
      continue;
    }
    ++tally.count;
    const EntryView view = view_entry(core_, entry);
    tally.next_order = std::max(tally.next_order, view.order + 1);
    const std::uint64_t hash = hash_key(view.key, core_.seed);
    entries.push_back({hash, entry.word});
    const std::uint64_t home = home_slot(hash, slots);
    const bool wraps = home > position;
    const bool is_reachable = is_before_start ? !wraps || last_end < home : !wraps && last_end < home;
    if (tag != hash || (has_end && !is_reachable)) is_misplaced = true;
  }
  if (is_misplaced) {
    say(tally.what + ": its table is damaged and made again");
    rebuild_table(root, std::move(entries), tally);
  } else if (core_.word(root.offset() + kFilledOffset) != filled) {
    say(tally.what + ": its table's load was damaged");
    repair(root.offset() + kFilledOffset, filled);
  }
}

/// Where it is, because there is no allocator yet: its entries are known to be sound, and fit.
void RecoveryWalk::rebuild_table(Reference table, std::vector<Slot> entries, Tally& tally) {
  const std::uint64_t slots = slots_of(core_, table);
  // One slot stays empty, so that every run ends.
  while (entries.size() >= slots) {
    (void)disown(Reference{entries.back().reference}, tally, "");
    entries.pop_back();
    --tally.count;
  }
  for (std::uint64_t position = 0; position < slots; ++position) {
    repair(slot_at(table, position), 0);
    repair(slot_at(table, position) + offsetof(Slot, reference), 0);
  }
  for (const Slot& entry : entries) {
    std::uint64_t position = home_slot(entry.tag, slots);
    while (core_.word(slot_at(table, position)) != 0) position = position + 1 == slots ? 0 : position + 1;
    repair(slot_at(table, position), entry.tag);
    repair(slot_at(table, position) + offsetof(Slot, reference), entry.reference);
  }
  repair(table.offset() + kFilledOffset, entries.size());
}

void RecoveryWalk::walk_list(std::uint64_t record, Reference root, Tally& tally) {
  BrokenList list;
  list.id = tally.id;
  std::uint64_t items = 0;
  int level = -1;
  const char* fault = walk_node(root, 0, tally, list, items, level);
  tally.count = list.items.size();
  if (fault == nullptr) return;
  say(tally.what + ": its tree is damaged and made again: " + fault);
  // The count and the tree are replaced together, later; until then the old ones stay.
  tally.count = core_.word(record + offsetof(ObjectRecord, count));
  broken_lists_.push_back(std::move(list));
}

/// Returns the first fault below; goes on behind it. `level` is what the node must have, or -1, and becomes what it
/// has.
const char* RecoveryWalk::walk_node(Reference node, unsigned depth, Tally& tally, BrokenList& list,
                                    std::uint64_t& items, int& level) {
  if (const char* fault = claim(node, BlockKind::node, tally)) return fault;
  const NodeShape shape = node_shape(core_, node);
  const bool is_leaf = shape.level == 0;
  const BlockAbout about = core_.about(node.offset());
  if (shape.size == 0 || shape.size > (is_leaf ? kLeafItems : kBranches) ||
      about.size_class < (is_leaf ? kLeafClass : kBranchClass) || depth + shape.level > kMaxLevel)
    return disown(node, tally, "a node's header is damaged");
  list.nodes.push_back(node.word);
  const char* fault = level >= 0 && static_cast<unsigned>(level) != shape.level ? "a node has another level" : nullptr;
  level = static_cast<int>(shape.level);
  const std::uint64_t first = node.offset() + sizeof(BlockHeader);
  if (is_leaf) {
    for (std::size_t index = 0; index < shape.size; ++index)
      prefetch(core_.word(first + index * sizeof(std::uint64_t)));
    for (std::size_t index = 0; index < shape.size; ++index) {
      const Reference item{core_.word(first + index * sizeof(std::uint64_t))};
      if (const char* wrong = claim_entry(item, false, tally)) {
        say(tally.what + ": an item is dropped: " + wrong);
        fault = wrong;
        continue;
      }
      list.items.push_back(item.word);
      ++items;
    }
    return fault;
  }
  for (std::size_t index = 0; index < shape.size; ++index) {
    const std::uint64_t place = first + index * sizeof(Branch);
    std::uint64_t below = 0;
    int below_level = level - 1;
    const char* wrong = walk_node(Reference{core_.word(place)}, depth + 1, tally, list, below, below_level);
    if (wrong == nullptr && below != core_.word(place + offsetof(Branch, items))) wrong = "a node has another count";
    if (wrong != nullptr) fault = wrong;
    items += below;
  }
  return fault;
}

}  // namespace taskpool::store
