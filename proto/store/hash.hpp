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

/// Takes the length into the state that a key's words have left.
constexpr std::uint64_t hash_end(std::uint64_t state, std::size_t size) {
  const std::uint64_t hash = hash_mix(state ^ kHash3, size ^ kHash1);
  return hash != 0 ? hash : 1;
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
  return hash_end(state, key.size());
}

/// hash_key(), not inline.
std::uint64_t hash_long_key(std::span<const std::byte> key, std::uint64_t seed);

/// The same for bytes that are padded with zeros to whole words. Short ones, which most keys are, take a few
/// instructions without a loop.
inline std::uint64_t hash_words(const std::byte* words, std::size_t size, std::uint64_t seed) {
  if (size > 2 * sizeof(std::uint64_t)) [[unlikely]]
    return hash_long_key({words, size}, seed);
  std::uint64_t first;
  std::uint64_t second = 0;
  std::memcpy(&first, words, sizeof first);
  if (size > sizeof first) std::memcpy(&second, words + sizeof first, sizeof second);
  return hash_end(hash_mix(first ^ kHash2 ^ seed, second ^ seed ^ kHash1), size);
}

/// The check of what never changes in a header: of the bytes before `check`.
std::uint64_t header_check(const SegmentHeader& header);

/// Takes one more pair into the check of a redo record; the first state is the number of pairs.
constexpr std::uint64_t redo_check(std::uint64_t state, std::uint64_t offset, std::uint64_t value) {
  return hash_mix(state ^ offset ^ kHash1, value ^ kHash2) + offset;
}

}  // namespace taskpool::store
