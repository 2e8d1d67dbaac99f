#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "proto/store/reader.hpp"
#include "tests/store/workload.hpp"

namespace taskpool::store::testing {

/// Where the workload's objects are.
struct Places {
  std::uint64_t dict = 0, list = 0, value = 0, array = 0, session = 0;
};
Places find_places(const Writer& writer);

/// A reader of the workload that checks whatever it finds: whole, of its key, never older than what it has seen, and
/// whole objects of one moment.
class Watcher {
 public:
  Watcher(Segment segment, const Places& places, unsigned seed);

  /// Some reads. Throws std::runtime_error with what is wrong. `finished`: the number of a change that is known to be
  /// done.
  void look(std::uint64_t finished);

  std::uint64_t reads() const { return reads_; }
  /// How often a read gave up because of too many changes.
  std::uint64_t gave_up() const { return gave_up_; }

 private:
  void look_up(std::uint64_t key, std::uint64_t finished);
  void see(std::uint64_t& last, std::uint64_t key, std::span<const std::byte> value, const char* where);
  bool usable(ReadCode code, const char* where);
  void look_at_pair();
  void look_at_list();
  void look_at_array();
  void look_at_session(std::uint64_t finished);
  void scan();
  void read_all();

  Segment segment_;
  ObjectView dict_, list_, value_, array_, session_;
  std::minstd_rand random_;
  std::vector<std::byte> buffer_;
  Page page_;
  std::vector<std::uint64_t> seen_;  ///< By key, then list's items, then the value: the number last seen.
  std::uint64_t seen_value_ = 0, seen_session_ = 0, seen_array_ = 0;
  std::uint64_t reads_ = 0, gave_up_ = 0;
};

}  // namespace taskpool::store::testing
