#include <algorithm>

#include "tests/model/protocol.hpp"

namespace taskpool::model {

namespace {

enum ObjectWord : Location { kId, kVersion, kRoot, kCount };
enum EntryWord : Location { kSequence, kObject, kKey, kValue, kCheck };
enum TableWord : Location { kSlots = 2, kFirstSlot };

bool odd(Word word) { return word % 2 != 0; }

}  // namespace

Location place(Block block) {
  const auto index = static_cast<Location>(block - 1);
  return is_entry(block) ? Layout::entries + index * 5
                         : Layout::tables + (index - static_cast<Location>(Layout::kEntries)) * Layout::table_words;
}

Writer::Writer(History& history, Bug bug, Blocks blocks, bool recovering)
    : history_{history}, bug_{bug}, blocks_{blocks} {
  if (recovering) {
    recover();
    return;
  }
  for (Block block = 1; block <= blocks.entries; ++block) free_entries_.push_back(block);
  for (Block block = 1; block <= blocks.tables; ++block) free_tables_.push_back(Layout::kEntries + block);
}

Word Writer::load(const Change& change, Location location) const {
  const auto found = std::find_if(change.words.rbegin(), change.words.rend(),
                                  [&](const auto& word) { return word.first == location; });
  return found == change.words.rend() ? load(location) : found->second;
}

void Writer::store(Location location, Word value, Order order) {
  const auto kind = order == Order::release ? Event::Kind::release_store : Event::Kind::store;
  events_.push_back({kind, location, value});
  history_.apply(events_.back());
}

void Writer::fence() {
  events_.push_back({Event::Kind::fence});
  history_.apply(events_.back());
}

Block Writer::allocate(std::deque<Block>& free, Change& change) {
  if (free.empty()) throw std::logic_error{"the scenario needs more blocks"};
  change.fresh.push_back(free.front());
  free.pop_front();
  return change.fresh.back();
}

void Writer::end_fill(Block block) { store(place(block), next_life(block), Order::release); }

Word Writer::next_life(Block block) const {
  const auto sequence = load(place(block));
  if (bug_ == Bug::reuse_without_sequence) return 2;
  return sequence + (odd(sequence) ? 1 : 2);
}

/// The block's sequence is odd or it was never used, and whoever sees a word of the new filling sees that, too: the
/// last change ended with a fence.
void Writer::fill(Block block, const Put& put) {
  const auto at = place(block);
  store(at + kObject, load(object_place(put.object)));
  store(at + kKey, put.key);
  store(at + kValue, put.value);
  store(at + kCheck, check_of(put.key, put.value));
  end_fill(block);
}

Reference Writer::refer(Block block, bool filled) const {
  return (filled ? load(place(block)) : next_life(block)) / 2 << 8 | block;
}

/// The slot of the key, else with `for_insert` the one that it may have; 0 if there is none.
Location Writer::find(const Change& change, Word object, Word key, bool for_insert) const {
  const auto table = place(block_of(load(change, object_place(object) + kRoot)));
  const auto slots = load(table + kSlots);
  Location free = 0;
  for (Word step = 0; step < slots; ++step) {
    const auto slot = table + kFirstSlot + static_cast<Location>((key + step) % slots) * 2;
    const auto reference = load(change, slot + 1);
    if (reference == 0 && free == 0) free = slot;
    if (reference == 0 && load(change, slot) == 0) break;  // never used: the key is nowhere behind it
    // A block of this very change may be filled later only because of a seeded bug: its tag is enough then.
    if (reference != 0 && load(change, slot) == tag_of(key)) return slot;
  }
  return for_insert ? free : 0;
}

void Writer::put(Change& change, const Put& put) {
  auto slot = find(change, put.object, put.key, put.value != 0);
  const auto count = object_place(put.object) + kCount;
  if (std::ranges::find(change.objects, put.object) == change.objects.end()) change.objects.push_back(put.object);
  if (slot == 0 && put.value == 0) return;
  if (slot == 0) throw std::logic_error{"the scenario needs a larger table"};
  const auto old = load(change, slot + 1);
  if (old != 0) change.retired.push_back(block_of(old));
  if (put.value == 0) {
    change.words.emplace_back(slot + 1, 0);
    change.words.emplace_back(count, load(change, count) - 1);
    return;
  }
  const auto block = allocate(free_entries_, change);
  const bool late = bug_ == Bug::publish_before_fill;
  if (late)
    change.late_fills.emplace_back(block, put);
  else
    fill(block, put);
  if (old == 0) {
    change.words.emplace_back(slot, tag_of(put.key));
    change.words.emplace_back(count, load(change, count) + 1);
  }
  change.words.emplace_back(slot + 1, refer(block, !late));
}

void Writer::apply_words(std::span<const std::pair<Location, Word>> words) {
  for (const auto& [location, value] : words) store(location, value, Order::release);
}

void Writer::retire(Block block) {
  if (bug_ != Bug::reuse_without_sequence) store(place(block), load(place(block)) + 1);
  (is_entry(block) ? free_entries_ : free_tables_).push_back(block);
}

void Writer::commit(Change& change) {
  // The record begins with the versions to make odd: {their place, 0}.
  std::vector<std::pair<Location, Word>> record;
  for (const auto object : change.objects) record.emplace_back(object_place(object) + kVersion, 0);
  record.insert(record.end(), change.words.begin(), change.words.end());
  if (record.size() * 2 > Layout::kRecord) throw std::logic_error{"the scenario needs a larger record"};
  auto at = Layout::record;
  for (const auto& [location, value] : record) {
    store(at++, location);
    store(at++, value);
  }
  const bool ordered = bug_ != Bug::commit_not_ordered;
  store(Layout::record_count, record.size(), Order::release);
  if (ordered) fence();
  for (const auto object : change.objects) {
    const auto version = object_place(object) + kVersion;
    if (bug_ != Bug::version_not_odd) store(version, load(version) + 1);
  }
  if (ordered) fence();
  if (ordered)
    apply_words(change.words);
  else
    for (const auto& [location, value] : change.words) store(location, value);
  for (const auto& [block, put] : change.late_fills) fill(block, put);
  for (const auto object : change.objects) {
    const auto version = object_place(object) + kVersion;
    store(version, load(version) + (odd(load(version)) ? 1 : 2), Order::release);
  }
  fence();
  for (const auto block : change.retired) retire(block);
  store(Layout::record_count, 0, Order::release);
  if (bug_ != Bug::clear_not_ordered) fence();
}

void Writer::create(Word object, Word id, Word slots) {
  Change change;
  const auto at = object_place(object);
  const auto table = allocate(free_tables_, change);
  store(place(table) + kObject, id);
  store(place(table) + kSlots, slots);
  for (Location word = 0; word < slots * 2; ++word) store(place(table) + kFirstSlot + word, 0);
  end_fill(table);
  change.objects = {object};
  change.words = {{at + kRoot, refer(table)}, {at + kCount, 0}, {at + kId, id}};
  commit(change);
}

void Writer::remove(Word object) {
  Change change;
  const auto at = object_place(object);
  const auto table = block_of(load(at + kRoot));
  for (Word slot = 0; slot < load(place(table) + kSlots); ++slot) {
    const auto reference = load(place(table) + kFirstSlot + static_cast<Location>(slot) * 2 + 1);
    if (reference != 0) change.retired.push_back(block_of(reference));
  }
  change.retired.push_back(table);
  change.objects = {object};
  change.words = {{at + kId, 0}, {at + kRoot, 0}, {at + kCount, 0}};
  commit(change);
}

void Writer::change(std::span<const Put> puts) {
  Change change;
  for (const auto& one : puts) put(change, one);
  commit(change);
}

void Writer::grow(Word object, Word slots) {
  Change change;
  const auto at = object_place(object);
  const auto old = block_of(load(at + kRoot));
  const auto table = allocate(free_tables_, change);
  store(place(table) + kObject, load(at + kId));
  store(place(table) + kSlots, slots);
  std::vector<Word> filled(slots * 2, 0);
  for (Word slot = 0; slot < load(place(old) + kSlots); ++slot) {
    const auto from = place(old) + kFirstSlot + static_cast<Location>(slot) * 2;
    const auto tag = load(from), reference = load(from + 1);
    if (reference == 0) continue;
    auto to = (tag - tag_of(0)) % slots;
    while (filled[to * 2 + 1] != 0) to = (to + 1) % slots;
    filled[to * 2] = tag;
    filled[to * 2 + 1] = reference;
  }
  for (Location word = 0; word < filled.size(); ++word) store(place(table) + kFirstSlot + word, filled[word]);
  end_fill(table);
  change.objects = {object};
  change.words = {{at + kRoot, refer(table)}};
  change.retired = {old};
  commit(change);
}

void Writer::set_list(Word object, std::span<const Word> values) {
  Change change;
  const auto at = object_place(object);
  const auto old = block_of(load(at + kRoot));
  std::map<Word, Reference> items;
  for (Word slot = 0; slot < load(place(old) + kSlots); ++slot) {
    const auto reference = load(place(old) + kFirstSlot + static_cast<Location>(slot) * 2 + 1);
    items.emplace(load(place(block_of(reference)) + kValue), reference);
  }
  std::vector<Reference> kept;
  for (const auto value : values) {
    const auto found = items.find(value);
    if (found != items.end()) {
      kept.push_back(found->second);
      items.erase(found);
      continue;
    }
    const auto item = allocate(free_entries_, change);
    fill(item, {object, 0, value});
    kept.push_back(refer(item));
  }
  const auto node = allocate(free_tables_, change);
  store(place(node) + kObject, load(at + kId));
  store(place(node) + kSlots, kept.size());
  for (Location slot = 0; slot < kept.size(); ++slot) store(place(node) + kFirstSlot + slot * 2 + 1, kept[slot]);
  end_fill(node);
  for (const auto& [value, reference] : items) change.retired.push_back(block_of(reference));
  change.retired.push_back(old);
  change.objects = {object};
  change.words = {{at + kRoot, refer(node)}, {at + kCount, kept.size()}};
  commit(change);
}

void Writer::recover() {
  const auto count = load(Layout::record_count);
  std::vector<Location> versions;
  std::vector<std::pair<Location, Word>> words;
  for (Location pair = 0; pair < count; ++pair) {
    const auto location = static_cast<Location>(load(Layout::record + pair * 2));
    if (location < Layout::entries && (location - Layout::objects) % 4 == kVersion)
      versions.push_back(location);
    else
      words.emplace_back(location, load(Layout::record + pair * 2 + 1));
  }
  for (const auto version : versions)
    if (!odd(load(version))) store(version, load(version) + 1);
  fence();
  if (bug_ != Bug::lost_redo_record) apply_words(words);
  for (const auto version : versions) store(version, load(version) + 1, Order::release);
  store(Layout::record_count, 0, Order::release);
  fence();

  std::vector<bool> live(Layout::kEntries + Layout::kTables + 1, false);
  for (Word object = 0; object < Layout::kObjects; ++object) {
    const auto table = block_of(load(object_place(object) + kRoot));
    if (table == 0) continue;
    live[table] = true;
    for (Word slot = 0; slot < load(place(table) + kSlots); ++slot) {
      const auto reference = load(place(table) + kFirstSlot + static_cast<Location>(slot) * 2 + 1);
      live[block_of(reference)] = true;
    }
  }
  for (Block block = 1; block < live.size(); ++block) {
    const bool exists = is_entry(block) ? block <= blocks_.entries : block <= Layout::kEntries + blocks_.tables;
    if (live[block] || !exists) continue;
    if (!odd(load(place(block))) && bug_ != Bug::retired_by_death_trusted && bug_ != Bug::reuse_without_sequence)
      store(place(block), load(place(block)) + 1);
    (is_entry(block) ? free_entries_ : free_tables_).push_back(block);
  }
  if (bug_ != Bug::clear_not_ordered) fence();
}

std::map<Word, Word> Writer::entries(Word object) const {
  std::map<Word, Word> found;
  const auto table = block_of(load(object_place(object) + kRoot));
  if (table == 0) return found;
  for (Word slot = 0; slot < load(place(table) + kSlots); ++slot) {
    const auto block = block_of(load(place(table) + kFirstSlot + static_cast<Location>(slot) * 2 + 1));
    if (block == 0) continue;
    const auto at = place(block);
    if (odd(load(at)) || load(at + kCheck) != check_of(load(at + kKey), load(at + kValue)))
      throw Violation{"recovery finds an entry that is not whole"};
    if (!found.emplace(load(at + kKey), load(at + kValue)).second) throw Violation{"a key is there twice"};
  }
  if (found.size() != load(object_place(object) + kCount)) throw Violation{"the number of entries is wrong"};
  return found;
}

std::vector<Word> Writer::list(Word object) const {
  std::vector<Word> values;
  const auto node = block_of(load(object_place(object) + kRoot));
  for (Word slot = 0; slot < load(place(node) + kSlots); ++slot) {
    const auto at = place(block_of(load(place(node) + kFirstSlot + static_cast<Location>(slot) * 2 + 1)));
    if (odd(load(at)) || load(at + kCheck) != check_of(0, load(at + kValue)))
      throw Violation{"recovery finds an item that is not whole"};
    values.push_back(load(at + kValue));
  }
  return values;
}

}  // namespace taskpool::model
