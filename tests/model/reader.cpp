#include "tests/model/protocol.hpp"

namespace taskpool::model {

/// An attempt that knew everything and yet fails would fail for ever.
void Reader::check_progress() const {
  if (memory_.knew_everything()) throw Violation{"a reader is stuck"};
}

std::optional<Word> Reader::get(Word object, Word id, Word key, const std::vector<std::uint32_t>& state) {
  for (;;) {
    memory_.begin_attempt(state);
    if (!holds(object, id)) return std::nullopt;
    Word value = 0;
    switch (try_get(object, id, key, value)) {
      case Outcome::found: return value;
      case Outcome::absent: return 0;
      case Outcome::again: check_progress();
    }
  }
}

Reader::Outcome Reader::try_get(Word object, Word id, Word key, Word& value) {
  const auto at = object_place(object) + 2;
  const auto root = memory_.load(at, Order::acquire);
  if (!is_table(block_of(root))) return Outcome::again;
  const auto outcome = probe(block_of(root), id, key, value);
  if (outcome != Outcome::absent) return outcome;
  // A miss counts only in the table that still is the object's.
  memory_.acquire_fence();
  if (bug_ == Bug::old_root_trusted) return Outcome::absent;
  return memory_.load(at, Order::relaxed) == root ? Outcome::absent : Outcome::again;
}

Reader::Outcome Reader::probe(Block table, Word id, Word key, Word& value) {
  const auto head = place(table);
  const auto slots = memory_.load(head + 2, Order::relaxed);
  if (slots > Layout::kSlots || memory_.load(head + 1, Order::relaxed) != id) return Outcome::again;
  for (Word step = 0; step < slots; ++step) {
    const auto slot = head + 3 + static_cast<Location>((key + step) % slots) * 2;
    const auto tag = memory_.load(slot, Order::acquire);
    if (tag == 0) return Outcome::absent;
    if (tag != tag_of(key)) continue;
    const auto reference = memory_.load(slot + 1, Order::acquire);
    if (reference == 0) continue;
    if (!is_entry(block_of(reference))) return Outcome::again;
    const auto block = place(block_of(reference));
    const auto sequence = memory_.load(block, Order::acquire);
    if (bug_ == Bug::life_not_compared ? sequence % 2 != 0 : !names(reference, sequence)) return Outcome::again;
    const bool same = memory_.load(block + 1, Order::relaxed) == id && memory_.load(block + 2, Order::relaxed) == key;
    value = memory_.load(block + 3, Order::relaxed);
    const auto check = memory_.load(block + 4, Order::relaxed);
    memory_.acquire_fence();
    if (bug_ != Bug::no_second_check && memory_.load(block, Order::relaxed) != sequence) return Outcome::again;
    if (!same) continue;  // another key of the same tag
    if (check != check_of(key, value)) throw Violation{"a reader has a torn or foreign value"};
    return Outcome::found;
  }
  return Outcome::absent;
}

std::optional<std::pair<std::vector<Word>, Word>> Reader::get_many(Word object, Word id, std::span<const Word> keys,
                                                                   const std::vector<std::uint32_t>& state) {
  const auto at = object_place(object);
  for (;;) {
    memory_.begin_attempt(state);
    if (!holds(object, id)) return std::nullopt;
    const auto version = memory_.load(at + 1, Order::acquire);
    std::vector<Word> values;
    const auto count = memory_.load(at + 3, Order::relaxed);
    bool whole = version % 2 == 0;
    for (std::size_t index = 0; whole && index < keys.size(); ++index) {
      values.push_back(0);
      whole = try_get(object, id, keys[index], values.back()) != Outcome::again;
    }
    memory_.acquire_fence();
    if (whole && memory_.load(at + 1, Order::relaxed) == version) return std::pair{values, count};
    check_progress();
  }
}

std::optional<std::vector<Word>> Reader::list(Word object, Word id, const std::vector<std::uint32_t>& state) {
  for (;;) {
    memory_.begin_attempt(state);
    if (!holds(object, id)) return std::nullopt;
    const auto root = memory_.load(object_place(object) + 2, Order::acquire);
    std::vector<Word> values;
    const auto outcome = try_list(id, root, values);
    memory_.acquire_fence();
    const bool same = bug_ == Bug::list_root_trusted || memory_.load(object_place(object) + 2, Order::relaxed) == root;
    if (same && outcome == Outcome::found) {
      for (const auto value : values)
        if (value == 0) throw Violation{"a reader has a torn or foreign item"};
      return values;
    }
    check_progress();
  }
}

/// Reads what hangs below the root; an item that is not whole is 0, and counts only if the root has not changed.
Reader::Outcome Reader::try_list(Word id, Reference root, std::vector<Word>& values) {
  if (!is_table(block_of(root))) return Outcome::again;
  const auto node = place(block_of(root));
  const auto slots = memory_.load(node + 2, Order::relaxed);
  if (slots > Layout::kSlots || memory_.load(node + 1, Order::relaxed) != id) return Outcome::again;
  for (Location slot = 0; slot < slots; ++slot) {
    const auto reference = memory_.load(node + 3 + slot * 2 + 1, Order::acquire);
    if (!is_entry(block_of(reference))) return Outcome::again;
    const auto item = place(block_of(reference));
    const bool mine = memory_.load(item + 1, Order::relaxed) == id;
    const auto value = memory_.load(item + 3, Order::relaxed);
    const auto check = memory_.load(item + 4, Order::relaxed);
    values.push_back(mine && check == check_of(0, value) ? value : 0);
  }
  return Outcome::found;
}

}  // namespace taskpool::model
