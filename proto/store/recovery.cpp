#include "proto/store/recovery.hpp"

#include "proto/store/core.hpp"
#include "proto/store/hash.hpp"
#include "proto/store/reader.hpp"
#include "proto/store/recovery_walk.hpp"
#include "proto/store/tree.hpp"

namespace taskpool::store {
namespace {

/// Applies a transaction that was decided; drops one that is damaged.
void complete_transaction(Core& core, RecoveryWalk& walk) {
  const std::uint64_t place = kRedoOffset + offsetof(RedoRecord, committed);
  const std::uint64_t pairs = core.word(place);
  if (pairs == 0) return;
  const std::uint64_t first_slab = first_slab_offset(core.memory.size());
  bool is_sound = pairs <= kMaxRedoWords;
  std::uint64_t check = pairs;
  const auto pair_at = [&](std::uint64_t index) {
    const std::uint64_t at = kRedoOffset + offsetof(RedoRecord, pairs) + index * sizeof(RedoPair);
    return RedoPair{core.word(at), core.word(at + sizeof(std::uint64_t))};
  };
  for (std::uint64_t index = 0; is_sound && index < pairs; ++index) {
    const auto [offset, value] = pair_at(index);
    check = redo_check(check, offset, value);
    is_sound = offset == offsetof(SegmentHeader, next_object) ||
               (offset % sizeof(std::uint64_t) == 0 && offset >= first_slab && offset < core.allocator.used_bytes());
  }
  is_sound = is_sound && check == core.word(kRedoOffset + offsetof(RedoRecord, check));
  if (is_sound) {
    // As commit() does, which may have come this far or not: readers of whole objects are told first.
    for (std::uint64_t index = 0; index < pairs; ++index) {
      const std::uint64_t offset = pair_at(index).offset;
      if (walk.is_version(offset)) store_word(core.at(offset), core.word(offset) | 1);
    }
    release_fence();
    for (std::uint64_t index = 0; index < pairs; ++index)
      store_word(core.at(pair_at(index).offset), pair_at(index).value, std::memory_order_release);
  } else {
    walk.say("a change that was being made is dropped: its record is damaged");
  }
  release_fence();
  store_word(core.at(place), 0, std::memory_order_release);
}

/// What nothing refers to is free, and says so to readers that come late.
void free_the_rest(Core& core, const RecoveryWalk& walk) {
  for (const Slab& slab : walk.slabs()) {
    const std::size_t bytes = class_bytes(slab.size_class);
    for (std::size_t number = 0, places = slab.places(); number < places; ++number) {
      if (walk.is_used(slab.first_place + number)) {
        core.allocator.add_live(slab.size_class);
        continue;
      }
      const std::uint64_t place = slab.offset + number * bytes;
      if (slab.kind == SlabKind::blocks) {
        const std::uint64_t sequence = core.word(place);
        if (sequence != 0 && sequence % 2 == 0) store_word(core.at(place), sequence + 1);
      }
      core.allocator.add_free(place, slab.size_class, slab.kind);
    }
  }
  release_fence();
}

}  // namespace

/// What needs the writer's inside.
class Recovery {
 public:
  static Writer make_writer(std::unique_ptr<Core> core) { return Writer{std::move(core)}; }

  /// The tree of a list whose own was damaged.
  static Result<void> rebuild(Writer& writer, const BrokenList& list, bool keeps_items) {
    auto tx = writer.begin(0);
    auto record = writer.open(tx, list.id, Shape::list);
    if (!record) return record.error();
    for (const std::uint64_t node : list.nodes) record->drop(Reference{node});
    Reference root;
    if (keeps_items) {
      const auto tree = build_tree(*record, list.items);
      if (!tree) return tree.error();
      root = *tree;
    } else {
      for (const std::uint64_t item : list.items) record->drop(Reference{item});
    }
    record->set_root(root);
    record->set_count(keeps_items ? list.items.size() : 0);
    record->touch();
    return tx.commit();
  }

  /// The object that knows the names of the others, which must be there.
  static Result<void> make_names(Writer& writer) {
    auto tx = writer.begin(0);
    const std::uint64_t next = tx.load(offsetof(SegmentHeader, next_object));
    tx.store(offsetof(SegmentHeader, next_object), static_cast<std::uint64_t>(ObjectId::names));
    if (auto made = writer.create_object(tx, {}); !made) return made.error();
    tx.store(offsetof(SegmentHeader, next_object), std::max<std::uint64_t>(next, 2));
    return tx.commit();
  }
};

Result<Recovered> recover(std::span<std::byte> memory, Extend extend) {
  const auto segment = Segment::open(memory, nullptr);
  if (!segment) return segment.error();
  const std::uint64_t used = load_word(memory.data() + offsetof(SegmentHeader, used_bytes));
  if (memory.size() % kUnitBytes != 0 || used % kUnitBytes != 0)
    return fail(Errc::bad_segment, "segment: its header is damaged");
  if (segment->is_superseded()) return fail(Errc::bad_segment, "segment: it is superseded");
  if (auto extended = extend(used); !extended) return fail(Errc::store_full, "store: " + extended.error().detail);

  auto core = std::make_unique<Core>(memory, std::move(extend));
  RecoveryWalk walk{*core};
  walk.find_slabs();
  complete_transaction(*core, walk);
  walk.walk_objects();
  free_the_rest(*core, walk);
  Core& inside = *core;
  Writer writer = Recovery::make_writer(std::move(core));
  for (const BrokenList& list : walk.broken_lists()) {
    if (Recovery::rebuild(writer, list, true)) continue;
    walk.say("object " + std::to_string(static_cast<std::uint64_t>(list.id)) +
             ": its items are dropped: no room for a tree");
    if (auto emptied = Recovery::rebuild(writer, list, false); !emptied) return emptied.error();
  }
  const ObjectState* const names = inside.objects.find(ObjectId::names);
  const auto type_of = [&](const ObjectState& state) {
    return inside.word(state.record + offsetof(ObjectRecord, about)) & 0xff;
  };
  if (names == nullptr || type_of(*names) != static_cast<std::uint64_t>(ObjectType::dict)) {
    walk.say("the names of the objects are lost");
    if (names != nullptr) {
      auto tx = writer.begin(0);
      if (auto removed = writer.remove(tx, ObjectId::names); !removed) return removed.error();
      if (auto done = tx.commit(); !done) return done.error();
    }
    if (auto made = Recovery::make_names(writer); !made) return made.error();
  }
  return Recovered{std::move(writer), walk.take_messages()};
}

}  // namespace taskpool::store
