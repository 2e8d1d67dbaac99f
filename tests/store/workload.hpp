#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "proto/store/writer.hpp"

/// Changes of a few objects, numbered from 1: what number n does follows from n and from what the objects hold. Every
/// change notes its number in the session's object as part of itself, and every value carries a check of its own key
/// and of the number that wrote it.
namespace taskpool::store::testing {

/// In this order they are created in an empty segment.
inline constexpr ObjectId kDict{2}, kList{3}, kValue{4}, kArray{5}, kSession{6};
/// Keys of the dict from 0; the first of them are always there, and the first two always have the same number.
inline constexpr std::uint64_t kKeys = 3000, kPermanentKeys = 8;
inline constexpr std::size_t kArrayWords = 40;
/// Instead of a key, in the values of list and value.
inline constexpr std::uint64_t kListKey = 1'000'000, kValueKey = 1'000'001;

std::string make_value(std::uint64_t key, std::uint64_t number);
/// The number that wrote it; 0: this is not whole, or of another key.
std::uint64_t check_value(std::uint64_t key, std::span<const std::byte> value);

/// What the objects hold.
struct Contents {
  std::map<std::uint64_t, std::string> dict;
  std::vector<std::string> list;
  std::string value;
  std::uint64_t word = 0;    ///< All of the array's.
  std::uint64_t number = 0;  ///< The last change.
  bool operator==(const Contents&) const = default;
};

/// Makes the objects, in a new segment.
void create_objects(Writer& writer);
/// Performs the change. Throws std::runtime_error if the store refuses.
void perform(Writer& writer, std::uint64_t number);
void perform(Contents& contents, std::uint64_t number);
/// Reads all of it. Throws std::runtime_error where that fails.
Contents read_contents(const Writer& writer);

}  // namespace taskpool::store::testing
