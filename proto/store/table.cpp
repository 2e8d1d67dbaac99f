#include "proto/store/table.hpp"

#include <algorithm>
#include <cstring>
#include <string>

#include "proto/store/hash.hpp"

namespace taskpool::store {
namespace {

/// A table is replaced when more than 4 of 5 slots have a tag; the new one then has at most 1 of 2.
constexpr std::uint64_t kFullNumerator = 4, kFullDenominator = 5;
constexpr std::uint64_t kFirstSlots = 8;
/// Honest hashes make no run of this length at that load; a writer who looks for colliding keys would make the others
/// slow.
constexpr std::uint64_t kMaxRun = 4096;

/// How many entries of a large dict are sorted by age at a time.
constexpr std::size_t kKeptAges = 1024;

std::uint64_t order_of(const Core& core, Reference entry) {
  return core.word(entry.offset() + offsetof(BlockHeader, order));
}

std::uint64_t slot_offset(std::uint64_t table, std::uint64_t position) {
  return table + kSlotsOffset + position * sizeof(Slot);
}

bool has_key(const Core& core, Reference entry, KeyView key) {
  return core.about(entry.offset()).key_bytes == key.size() &&
         std::memcmp(view_entry(core, entry).key.data(), key.data(), key.size()) == 0;
}

Result<std::unique_ptr<Growth>> begin_growth(Record& record) {
  const std::uint64_t wanted = std::max(kFirstSlots, (record.count() + 1) * 2);
  if (wanted > slots_of_class(kClasses - 1))
    return fail(Errc::limit_reached, "dict: more than " + std::to_string(record.count()) + " entries");
  auto growth = std::make_unique<Growth>();
  growth->slots = slots_of_class(class_for(kSlotsOffset + wanted * sizeof(Slot)));
  return growth;
}

Result<void> allocate_table(Core& core, Growth& growth) {
  const auto table = core.allocate_block(class_for(kSlotsOffset + growth.slots * sizeof(Slot)));
  if (!table) return table.error();
  growth.table = *table;
  return {};
}

/// Zeroes the new table, then puts every entry of the old one into it. Nobody reads it yet. True: done.
bool fill_some(const Record& record, Growth& growth, std::size_t steps) {
  Core& core = record.core;
  for (; growth.zeroed < growth.slots && steps != 0; ++growth.zeroed, --steps) {
    std::byte* slot = core.at(slot_offset(growth.table, growth.zeroed));
    store_word(slot, 0);
    store_word(slot + sizeof(std::uint64_t), 0);
  }
  const Reference old = record.root();
  const std::uint64_t old_slots = old ? slots_of(core, old) : 0;
  // Homes grow with hashes, so that both tables are walked from their starts to their ends.
  for (; growth.scanned < old_slots && steps != 0; ++growth.scanned, --steps) {
    const std::uint64_t slot = slot_offset(old.offset(), growth.scanned);
    const std::uint64_t reference = record.tx.load(slot + offsetof(Slot, reference));
    if (reference == 0) continue;
    const std::uint64_t tag = record.tx.load(slot);
    std::uint64_t position = home_slot(tag, growth.slots);
    while (core.word(slot_offset(growth.table, position)) != 0)
      position = position + 1 == growth.slots ? 0 : position + 1;
    std::byte* place = core.at(slot_offset(growth.table, position));
    store_word(place, tag);
    store_word(place + offsetof(Slot, reference), reference);
    ++growth.filled;
  }
  return growth.zeroed == growth.slots && growth.scanned == old_slots;
}

/// Puts the new table in the place of the old one.
void finish_growth(Record& record, const Growth& growth) {
  record.tx.adopt(growth.table);
  store_word(record.core.at(growth.table + kFilledOffset), growth.filled);
  const Reference table = record.tx.describe(growth.table, record.id, growth.slots, {.kind = BlockKind::table});
  if (const Reference old = record.root()) record.drop(old);
  record.set_root(table);
  record.add_bytes(static_cast<std::int64_t>(block_bytes(record.core, table)));
}

}  // namespace

SlotPlace look_up(const Record& record, KeyView key, std::uint64_t hash) {
  SlotPlace place;
  const Reference table = record.root();
  if (!table) return place;
  const std::uint64_t slots = slots_of(record.core, table);
  std::uint64_t position = home_slot(hash, slots);
  bool is_own = false;
  for (std::uint64_t probes = 0; probes < slots; ++probes) {
    const std::uint64_t slot = slot_offset(table.offset(), position);
    const std::uint64_t tag = record.tx.load(slot);
    if (tag == 0) {
      if (place.free_slot == 0) {
        place.free_slot = slot;
        place.takes_new_tag = true;
      }
      place.is_crowded = probes > kMaxRun;
      break;
    }
    const Reference entry{record.tx.load(slot + offsetof(Slot, reference))};
    if (!entry) {
      // The slot that the key had before is best: a batch that erases and inserts it then never hides it from readers.
      if (place.free_slot == 0 || (tag == hash && !is_own)) place.free_slot = slot;
      is_own = is_own || tag == hash;
    } else if (tag == hash && has_key(record.core, entry, key)) {
      place.slot = slot;
      place.entry = entry;
      break;
    }
    position = position + 1 == slots ? 0 : position + 1;
  }
  return place;
}

void fetch_slot(const Core& core, Reference table, std::uint64_t hash) {
  constexpr int kToWrite = 1;
  __builtin_prefetch(core.at(slot_offset(table.offset(), home_slot(hash, slots_of(core, table)))), kToWrite);
}

void set_slot(Record& record, const SlotPlace& place, std::uint64_t hash, Reference entry) {
  const std::uint64_t table = record.root().offset();
  const std::uint64_t slot = place.slot != 0 ? place.slot : place.free_slot;
  if (place.slot == 0) {
    // The tag first: whoever sees the reference then sees whose it is.
    record.tx.store_in(table, slot, hash);
    if (place.takes_new_tag)
      record.tx.store_in(table, table + kFilledOffset, record.tx.load(table + kFilledOffset) + 1);
    record.set_count(record.count() + 1);
  }
  record.tx.store_in(table, slot + offsetof(Slot, reference), entry.word);
  if (place.slot != 0) record.drop(place.entry);
  record.add_bytes(static_cast<std::int64_t>(block_bytes(record.core, entry)));
  record.touch();
}

void erase_slot(Record& record, const SlotPlace& place) {
  record.tx.store_in(record.root().offset(), place.slot + offsetof(Slot, reference), 0);
  record.set_count(record.count() - 1);
  record.drop(place.entry);
  record.touch();
}

bool is_full(const Record& record) {
  const Reference table = record.root();
  if (!table) return true;
  const std::uint64_t filled = record.tx.load(table.offset() + kFilledOffset);
  return (filled + 1) * kFullDenominator > slots_of(record.core, table) * kFullNumerator;
}

Result<void> make_room(Record& record) {
  auto growth = begin_growth(record);
  if (!growth) return growth.error();
  const Reference old = record.root();
  if ((*growth)->slots + (old ? slots_of(record.core, old) : 0) > kInlineSteps) {
    record.state.growth = std::move(*growth);
    return fail(Errc::busy, "dict: its index grows");
  }
  if (const auto done = allocate_table(record.core, **growth); !done) return done;
  fill_some(record, **growth, SIZE_MAX);
  finish_growth(record, **growth);
  return {};
}

Result<bool> grow_some(Record& record, std::size_t steps) {
  if (!record.state.growth) return true;
  auto& growth = *record.state.growth;
  if (growth.table == 0) {
    // What fails here may be had after some was removed: a block that was freed, or a larger one.
    const auto prepared = record.core.allocator.prepare_block(class_for(kSlotsOffset + growth.slots * sizeof(Slot)));
    if (prepared && !*prepared) return false;
    if (const auto done = allocate_table(record.core, growth); !done) {
      record.state.growth.reset();
      return done.error();
    }
    return false;
  }
  if (!fill_some(record, growth, steps)) return false;
  finish_growth(record, growth);
  record.state.growth.reset();
  return true;
}

void stop_growing(Core& core, ObjectState& state) {
  if (state.growth && state.growth->table != 0) core.free_block(state.growth->table);
  state.growth.reset();
}

bool scan_ages(Record& record, std::size_t steps) {
  auto& ages = record.state.ages;
  const Reference table = record.root();
  if (!ages || (!ages->is_done && ages->table != table.word)) {
    ages = std::make_unique<Ages>();
    ages->table = table.word;
  }
  if (ages->is_done) return true;
  const auto is_older = [](const Ages::Age& a, const Ages::Age& b) { return a.order < b.order; };
  auto& found = ages->ages;
  const std::uint64_t slots = table ? slots_of(record.core, table) : 0;
  const std::size_t kept = slots > kInlineSteps ? kKeptAges : kInlineSteps;
  for (; ages->scanned < slots && steps != 0; ++ages->scanned, --steps) {
    const std::uint64_t slot = slot_offset(table.offset(), ages->scanned);
    const Reference entry{record.tx.load(slot + offsetof(Slot, reference))};
    if (!entry) continue;
    found.push_back({order_of(record.core, entry), record.tx.load(slot)});
    if (found.size() < 2 * kept) continue;
    const auto middle = found.begin() + static_cast<std::ptrdiff_t>(kept);
    std::nth_element(found.begin(), middle, found.end(), is_older);
    found.erase(found.begin(), middle);
    ages->is_cut = true;
  }
  if (ages->scanned < slots) return false;
  std::sort(found.begin(), found.end(), is_older);
  ages->is_done = true;
  return true;
}

void note_age(ObjectState& state, std::uint64_t count, std::uint64_t order, std::uint64_t tag) {
  if (!state.ages) return;
  // Not complete, or nobody asked for a long time: it is made again when somebody asks.
  if (!state.ages->is_done || state.ages->ages.size() > 2 * count + kKeptAges)
    state.ages.reset();
  else
    state.ages->ages.push_back({order, tag});
}

Result<std::optional<EntryView>> newest_entry(Record& record) {
  const Reference table = record.root();
  if (!table) return std::optional<EntryView>{};
  auto& ages = record.state.ages;
  if (ages && ages->is_done && ages->is_cut && ages->ages.empty()) {
    if (record.tx.has_touched(record.state.record))
      return fail(Errc::limit_reached, "batch: it takes too many entries");
    ages.reset();
  }
  const std::uint64_t slots = slots_of(record.core, table);
  if (!ages || !ages->is_done) {
    if (slots > kInlineSteps) {
      if (!ages) ages = std::make_unique<Ages>();  // Writer::work() sees that it is wanted
      return fail(Errc::busy, "dict: its entries are sorted by age");
    }
    scan_ages(record, SIZE_MAX);
  }
  // Entries that are gone may be dropped here for good: abort() drops all of it.
  for (; !ages->ages.empty(); ages->ages.pop_back()) {
    const auto [order, tag] = ages->ages.back();
    std::uint64_t position = home_slot(tag, slots);
    for (std::uint64_t probes = 0; probes < slots; ++probes, position = position + 1 == slots ? 0 : position + 1) {
      const std::uint64_t slot = slot_offset(table.offset(), position);
      const std::uint64_t here = record.tx.load(slot);
      if (here == 0) break;
      const Reference entry{record.tx.load(slot + offsetof(Slot, reference))};
      if (here != tag || !entry || order_of(record.core, entry) != order) continue;
      const EntryView view = view_entry(record.core, entry);
      if (!is_expired(view, record.tx.now_ns())) return std::optional{view};
    }
  }
  if (ages->is_cut) return newest_entry(record);
  return std::optional<EntryView>{};
}

}  // namespace taskpool::store
