#pragma once

#include <optional>

#include "proto/store/core.hpp"

/// The index of a dict: decisions about slots. Private to proto/store/. Layout: `Slot` in layout.hpp.
namespace taskpool::store {

/// What a look-up of a key found.
struct SlotPlace {
  std::uint64_t slot = 0;       ///< Where the key is; 0: nowhere.
  Reference entry;              ///< What is there.
  std::uint64_t free_slot = 0;  ///< Where it could go; 0: there is no table.
  bool takes_new_tag = false;   ///< That slot was never used.
  bool is_crowded = false;      ///< The run is so long that only keys made for it can be the cause.
};
SlotPlace look_up(const Record& record, KeyView key, std::uint64_t hash);
/// Has the slot where that begins fetched, of the table at this root.
void fetch_slot(const Core& core, Reference table, std::uint64_t hash);

/// Stores an entry for a key that look_up() did not find, or over what it found.
void set_slot(Record& record, const SlotPlace& place, std::uint64_t hash, Reference entry);
/// Takes away what look_up() found.
void erase_slot(Record& record, const SlotPlace& place);

/// Makes room for one key more: at once for a small table; else begins and answers `busy`.
Result<void> make_room(Record& record);
/// True if the slot that a new key would take is one too many.
bool is_full(const Record& record);
/// A slice of what make_room() began. True: done.
Result<bool> grow_some(Record& record, std::size_t steps);
/// Gives up what make_room() began.
void stop_growing(Core& core, ObjectState& state);

/// The entry inserted last; `busy` until scan_ages() is done.
Result<std::optional<EntryView>> newest_entry(Record& record);
/// A slice of what that needs. True: done.
bool scan_ages(Record& record, std::size_t steps);
/// A key was inserted.
void note_age(ObjectState& state, std::uint64_t count, std::uint64_t order, std::uint64_t tag);

/// The slots of the table at that root.
inline std::uint64_t slots_of(const Core& core, Reference table) {
  return core.word(table.offset() + offsetof(BlockHeader, order));
}
/// True if the entry has an expiry that has passed.
inline bool is_expired(const EntryView& entry, std::uint64_t now_ns) {
  return entry.expires_ns != 0 && entry.expires_ns <= now_ns;
}

}  // namespace taskpool::store
