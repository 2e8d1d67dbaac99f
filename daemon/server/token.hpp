#pragma once

#include <fmt/format.h>
#include <sys/random.h>

#include <cstdint>
#include <string>

namespace taskpool::server {

/// 128 random bits as hexadecimal text: a secret that nobody can guess. getrandom(2) cannot fail for so few bytes once
/// the kernel has started.
inline std::string make_token() {
  std::uint64_t bits[2] = {};
  while (::getrandom(bits, sizeof bits, 0) != static_cast<ssize_t>(sizeof bits)) {
  }
  return fmt::format("{:016x}{:016x}", bits[0], bits[1]);
}

}  // namespace taskpool::server
