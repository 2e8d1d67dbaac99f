#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <unordered_set>
#include <vector>

#include "daemon/store/objects.hpp"

namespace taskpool::store {

/// Finds anonymous objects that no name, session or job leads to any more, rings of them included: marks what can be
/// reached, in slices, and removes what was out of reach for a while. The while is for ids on their way from one
/// process to another. What is linked, opened or made during the marking counts as reached.
class Collector {
 public:
  Collector(Home& home, std::chrono::milliseconds patience) : home_{home}, patience_{patience} {}

  /// Something may have become unreachable: it is looked for, in a later turn.
  void suspect();
  /// This one is in use, whatever the marking under way has seen.
  void shade(const ObjectPtr& object);
  /// When there is something to do next, if at all.
  std::optional<std::chrono::steady_clock::time_point> due() const;
  bool is_marking() const { return marking_; }
  /// Begins if it is time, and does a slice; true: nothing more to do now.
  bool work(std::chrono::steady_clock::time_point now);
  /// The object is gone.
  void forget(const ObjectPtr& object);

 private:
  /// A slice of a marking; true: it is done.
  bool step(std::chrono::steady_clock::time_point now);
  void mark_roots();
  bool walk_some();
  bool sweep_some(std::chrono::steady_clock::time_point now);
  void finish(std::chrono::steady_clock::time_point now);

  Home& home_;
  std::chrono::milliseconds patience_;
  bool suspicious_ = false;
  bool marking_ = false;
  bool lost_some_ = false;  ///< Objects are out of reach, and not yet for long enough.
  enum class Phase : std::uint8_t { roots, walk, sweep } phase_ = Phase::roots;
  ObjectId next_ = ObjectId::none;  ///< Where the roots or the sweep go on.
  std::unordered_set<std::uint64_t> marked_;
  std::vector<ObjectPtr> to_walk_;
  ObjectPtr walking_;
  std::uint64_t position_ = 0;
  std::chrono::nanoseconds spent_{};                  ///< CPU time of the marking under way.
  std::chrono::steady_clock::time_point earliest_{};  ///< The next marking does not begin before.
};

}  // namespace taskpool::store
