#pragma once

#include <cstdlib>
#include <string>

namespace taskpool::client {

/// An environment variable's value; "" if it is not set.
inline std::string environment(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? std::string{} : std::string{value};
}

}  // namespace taskpool::client
