#pragma once

#include <string>
#include <vector>

#include "proto/store/core.hpp"

/// Walks everything in a segment that may have been damaged. Private to proto/store/.
namespace taskpool::store {

/// A slab that the unit map describes correctly.
struct Slab {
  std::uint64_t offset = 0;
  SlabKind kind = SlabKind::none;
  unsigned size_class = 0;
  std::size_t first_place = 0;  ///< The number of its first place among those of all slabs.

  std::size_t places() const { return slab_blocks(size_class); }
};

/// A list that has to get another tree, once there is an allocator again.
struct BrokenList {
  ObjectId id = ObjectId::none;
  std::vector<std::uint64_t> items;
  std::vector<std::uint64_t> nodes;  ///< Of the old tree, those that are sound.
};

/// The walk: which places are in use, and what was wrong. It repairs words where they are, each by one store, so that
/// it may be repeated after a crash.
class RecoveryWalk {
 public:
  explicit RecoveryWalk(Core& core);

  /// Reads the unit map: what slabs there are.
  void find_slabs();
  /// Whether an object's version lies there.
  bool is_version(std::uint64_t offset) const;
  /// Every object and what it contains; fills Core::objects.
  void walk_objects();

  const std::vector<Slab>& slabs() const { return slabs_; }
  bool is_used(std::size_t place) const { return used_[place]; }
  std::vector<BrokenList>& broken_lists() { return broken_lists_; }
  void say(std::string message);
  std::vector<std::string> take_messages();

 private:
  struct Tally {
    ObjectId id = ObjectId::none;
    std::string what;  ///< "object 5 (dict)"
    std::uint64_t count = 0;
    std::uint64_t bytes = kObjectBytes;
    std::uint64_t next_order = 0;
  };
  const Slab* find_slab(std::uint64_t offset) const;
  void walk_object(std::uint64_t record, std::size_t place);
  void walk_dict(std::uint64_t record, Reference root, Tally& tally);
  void walk_list(std::uint64_t record, Reference root, Tally& tally);
  const char* walk_node(Reference node, unsigned depth, Tally& tally, BrokenList& list, std::uint64_t& items,
                        int& level);
  const char* claim(Reference reference, BlockKind kind, Tally& tally);
  const char* claim_entry(Reference reference, bool has_key, Tally& tally);
  const char* find_entry_fault(Reference reference, bool has_key) const;
  const char* disown(Reference reference, Tally& tally, const char* fault);
  void rebuild_table(Reference table, std::vector<Slot> entries, Tally& tally);
  void repair(std::uint64_t offset, std::uint64_t value) { store_word(core_.at(offset), value); }
  void prefetch(std::uint64_t reference) const;

  Core& core_;
  std::uint64_t used_bytes_;
  std::vector<Slab> slabs_;
  std::vector<std::uint32_t> slab_of_unit_;  ///< Number + 1; 0: none.
  std::vector<bool> used_;
  std::vector<BrokenList> broken_lists_;
  std::vector<std::string> messages_;
  std::size_t unsaid_ = 0;
};

}  // namespace taskpool::store
