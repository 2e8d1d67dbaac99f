#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "proto/store/layout.hpp"

namespace taskpool::store {

/// When entries end that have a time to live: one note for each key, whatever becomes of it meanwhile. Pure.
class Expiry {
 public:
  using Key = std::pair<ObjectId, std::string>;  ///< An object and one of its keys.

  /// The entry ends then; what was noted for it before does not count any more.
  void note(ObjectId object, std::string key, std::uint64_t when_ns);
  /// The object is gone.
  void forget(ObjectId object);
  /// Takes the earliest note that is due, if any. Whether the entry is still the same is for the caller to find out.
  std::optional<Key> take_due(std::uint64_t now_ns);
  std::optional<std::uint64_t> next() const;
  std::size_t size() const { return notes_.size(); }

 private:
  std::map<Key, std::uint64_t> notes_;
  std::multimap<std::uint64_t, Key> order_;  ///< The same by time, and what was forgotten since.
};

}  // namespace taskpool::store
