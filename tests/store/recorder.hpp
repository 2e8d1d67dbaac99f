#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "proto/store/words.hpp"

#ifndef TASKPOOL_STORE_HOOK
#error "only with the library taskpool_store_hooked"
#endif

namespace taskpool::store::testing {

/// A store that was performed, by its place in the segment.
struct RecordedStore {
  std::size_t offset = 0;
  std::uint64_t value = 0;
};

/// While it lives, notes every store to `memory` in program order.
class Recorder : public MemoryHook {
 public:
  explicit Recorder(std::span<std::byte> memory) : memory_(memory) { memory_hook = this; }
  ~Recorder() override { memory_hook = nullptr; }
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;

  std::uint64_t load(const std::byte* place, std::memory_order) override {
    return *reinterpret_cast<const std::uint64_t*>(place);
  }
  void store(std::byte* place, std::uint64_t value, std::memory_order) override {
    *reinterpret_cast<std::uint64_t*>(place) = value;
    stores.push_back({static_cast<std::size_t>(place - memory_.data()), value});
  }
  void fence(std::memory_order) override {}

  std::vector<RecordedStore> stores;

 private:
  std::span<std::byte> memory_;
};

}  // namespace taskpool::store::testing
