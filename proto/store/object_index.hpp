#pragma once

#include <array>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <unordered_map>

#include "proto/store/layout.hpp"

/// Private to proto/store/.
namespace taskpool::store {

/// What is known of each object, by its id. A hash table with an entry for each would grow in one step, and whoever
/// makes an object must not hold up everybody else. Ids are given in turn, so the table here is one of runs of them: it
/// has a fraction of the entries, and neighbours share a look-up's memory. A run stays as long as one of its ids is
/// there: in the worst case an object keeps one to itself, a kilobyte. A state stays where it is until it is erased.
template <class State>
class ObjectIndex {
 public:
  /// Null: there is none.
  State* find(ObjectId id) {
    const auto found = runs_.find(run_of(id));
    return found != runs_.end() && found->second.is_there[place_of(id)] ? &found->second.states[place_of(id)] : nullptr;
  }
  bool contains(ObjectId id) { return find(id) != nullptr; }
  /// Made now if there is none.
  State& operator[](ObjectId id) {
    auto& run = runs_[run_of(id)];
    if (!run.is_there[place_of(id)]) ++size_;
    run.is_there.set(place_of(id));
    return run.states[place_of(id)];
  }
  /// It must be there.
  void erase(ObjectId id) {
    const auto found = runs_.find(run_of(id));
    auto& run = found->second;
    run.states[place_of(id)] = {};
    run.is_there.reset(place_of(id));
    if (run.is_there.none()) runs_.erase(found);
    --size_;
  }
  std::size_t size() const { return size_; }
  /// In no order.
  template <class Visit>
  void for_each(Visit&& visit) const {
    for (const auto& [number, run] : runs_)
      for (std::size_t place = 0; place < kRun; ++place)
        if (run.is_there[place]) visit(run.states[place]);
  }

 private:
  static constexpr std::size_t kRun = 32;
  struct Run {
    std::bitset<kRun> is_there;
    std::array<State, kRun> states{};
  };

  static std::uint64_t run_of(ObjectId id) { return static_cast<std::uint64_t>(id) / kRun; }
  static std::size_t place_of(ObjectId id) { return static_cast<std::uint64_t>(id) % kRun; }

  std::unordered_map<std::uint64_t, Run> runs_;
  std::size_t size_ = 0;
};

}  // namespace taskpool::store
