#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "proto/store/reader.hpp"
#include "proto/store/writer.hpp"

namespace taskpool::store::testing {

/// What an object holds, as a reader finds it.
struct ObjectDump {
  std::uint64_t offset = 0;
  ObjectType type = ObjectType::dict;
  std::uint8_t flags = 0;
  std::uint64_t count = 0;
  std::array<std::uint64_t, kAuxWords> aux{};
  std::vector<std::pair<std::string, std::string>> entries;  ///< In order. Items, words and values have no key.
  bool operator==(const ObjectDump&) const = default;
};
using Dump = std::map<ObjectId, ObjectDump>;

/// Everything that the writer's segment holds. Throws std::runtime_error if a reader cannot read it.
Dump dump(const Writer& writer);
/// What is wrong with the writer's accounts; empty: nothing.
std::string check_accounts(const Writer& writer);
/// Reads each single thing of `before` as clients do, while nobody changes anything: what is found has to be as in
/// `before` or as in `after`. Returns what is not.
std::string check_reads(std::span<const std::byte> memory, const Dump& before, const Dump& after);

}  // namespace taskpool::store::testing
