#pragma once

#include <cstdint>

/// The numbers of requests: where in the connection's table the request is, and which of that place's tenants. Those of
/// `store` rise besides, as PROTOCOL.md asks for (section 3.5, "Sessions").
namespace taskpool::client {

inline constexpr std::uint64_t kStoreRequest = std::uint64_t{1} << 63;
inline constexpr unsigned kStoreSlotBits = 20;
/// The slot of a request that nobody waits for.
inline constexpr std::uint32_t kNobody = (std::uint32_t{1} << kStoreSlotBits) - 1;
/// Tenants of a slot that other requests tell apart.
inline constexpr std::uint32_t kMaxGeneration = 0x7fffffff;

/// The `count`th request of a session that changes the store. Enough of them for a hundred days at a million a second.
constexpr std::uint64_t store_request(std::uint64_t count, std::uint32_t slot) {
  return kStoreRequest | count << kStoreSlotBits | slot;
}
constexpr bool is_store_request(std::uint64_t request) { return (request & kStoreRequest) != 0; }
constexpr std::uint32_t slot_of(std::uint64_t request) {
  return static_cast<std::uint32_t>(is_store_request(request) ? request & kNobody : request);
}

}  // namespace taskpool::client
