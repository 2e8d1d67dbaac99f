#include "client/cpp/fork_generation.hpp"

#include <pthread.h>

#include <atomic>

namespace taskpool::client {

std::uint64_t fork_generation() {
  // A fork handler has no other way to reach what it changes.
  static std::atomic<std::uint64_t> generation{0};
  [[maybe_unused]] static const int registered =
      ::pthread_atfork(nullptr, nullptr, [] { generation.fetch_add(1, std::memory_order_relaxed); });
  return generation.load(std::memory_order_relaxed);
}

}  // namespace taskpool::client
