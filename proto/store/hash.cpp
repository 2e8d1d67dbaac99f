#include "proto/store/hash.hpp"

namespace taskpool::store {

std::uint64_t header_check(const SegmentHeader& header) {
  const auto bytes = std::as_bytes(std::span{&header, 1}).first(offsetof(SegmentHeader, check));
  return hash_key(bytes, kMagic);
}

}  // namespace taskpool::store
