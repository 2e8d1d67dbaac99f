#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "proto/limits.hpp"

namespace taskpool::client {

/// A duration as a field of the wire has it: whole milliseconds, from 0 to kMaxDuration.
inline std::uint32_t to_ms(std::chrono::milliseconds time) {
  return static_cast<std::uint32_t>(std::clamp(time, std::chrono::milliseconds{0}, kMaxDuration).count());
}

}  // namespace taskpool::client
