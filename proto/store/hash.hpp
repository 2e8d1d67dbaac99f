#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "proto/store/layout.hpp"

/// The hashes of a segment. PROTOCOL.md, "Segments", has the recipe and examples.
namespace taskpool::store {

inline constexpr std::uint64_t kHash1 = 0x9e3779b97f4a7c15;
inline constexpr std::uint64_t kHash2 = 0xd1b54a32d192ed03;
inline constexpr std::uint64_t kHash3 = 0x8cb92ba72f3d8dd7;

/// The two halves of the 128-bit product, combined.
constexpr std::uint64_t hash_mix(std::uint64_t a, std::uint64_t b) {
  const auto product = static_cast<Uint128>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

/// The hash of a key's canonical bytes, never 0. The bytes count as little-endian words, padded with zeros to pairs;
/// each pair is mixed into the state, then the length is.
inline std::uint64_t hash_key(std::span<const std::byte> key, std::uint64_t seed) {
  const std::byte* at = key.data();
  std::size_t left = key.size();
  std::uint64_t state = seed ^ kHash1;
  std::uint64_t pair[2];
  while (left > 16) {
    std::memcpy(pair, at, 16);
    state = hash_mix(pair[0] ^ kHash2 ^ seed, pair[1] ^ state);
    at += 16;
    left -= 16;
  }
  if (left >= 8) {
    // Two words that overlap would hash padding away; shifting the second one right is what padding means.
    std::memcpy(&pair[0], at, 8);
    pair[1] = 0;
    if (left > 8) {
      std::memcpy(&pair[1], at + left - 8, 8);
      pair[1] >>= 8 * (16 - left);
    }
  } else {
    pair[0] = 0;
    pair[1] = 0;
    for (std::size_t index = 0; index < left; ++index) pair[0] |= static_cast<std::uint64_t>(at[index]) << (8 * index);
  }
  state = hash_mix(pair[0] ^ kHash2 ^ seed, pair[1] ^ state);
  const std::uint64_t hash = hash_mix(state ^ kHash3, key.size() ^ kHash1);
  return hash != 0 ? hash : 1;
}

/// The same for bytes that are padded with zeros to whole words.
inline std::uint64_t hash_words(const std::byte* words, std::size_t size, std::uint64_t seed) {
  const auto load = [](const std::byte* from) {
    std::uint64_t word;
    std::memcpy(&word, from, sizeof word);
    return word;
  };
  std::uint64_t state = seed ^ kHash1;
  std::size_t left = size;
  for (; left > 16; left -= 16, words += 16) state = hash_mix(load(words) ^ kHash2 ^ seed, load(words + 8) ^ state);
  const std::uint64_t last = left > 8 ? load(words + 8) : 0;
  state = hash_mix(load(words) ^ kHash2 ^ seed, last ^ state);
  const std::uint64_t hash = hash_mix(state ^ kHash3, size ^ kHash1);
  return hash != 0 ? hash : 1;
}

/// The check of what never changes in a header: of the bytes before `check`.
std::uint64_t header_check(const SegmentHeader& header);

/// Takes one more pair into the check of a redo record; the first state is the number of pairs.
constexpr std::uint64_t redo_check(std::uint64_t state, std::uint64_t offset, std::uint64_t value) {
  return hash_mix(state ^ offset ^ kHash1, value ^ kHash2) + offset;
}

}  // namespace taskpool::store
