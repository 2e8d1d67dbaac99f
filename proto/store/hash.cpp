#include "proto/store/hash.hpp"

namespace taskpool::store {

std::uint64_t hash_long_key(std::span<const std::byte> key, std::uint64_t seed) { return hash_key(key, seed); }

std::uint64_t header_check(const SegmentHeader& header) {
  const auto bytes = std::as_bytes(std::span{&header, 1}).first(offsetof(SegmentHeader, check));
  return hash_key(bytes, kMagic);
}

}  // namespace taskpool::store
