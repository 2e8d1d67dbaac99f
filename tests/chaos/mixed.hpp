#pragma once

#include <cstdint>

namespace taskpool::chaos {

/// The result of the functions of the chaos module: a client that knows the argument knows it, too. Never negative, and
/// the same as `mixed` of journal.py.
inline std::int64_t mixed(std::int64_t x) {
  auto word = static_cast<std::uint64_t>(x) * 0x9e3779b97f4a7c15u;
  word ^= word >> 29;
  return static_cast<std::int64_t>(word >> 2);
}

}  // namespace taskpool::chaos
