#pragma once

#include <sys/mman.h>

#include <atomic>
#include <cstring>
#include <new>
#include <stdexcept>

#include "proto/store/recovery.hpp"
#include "tests/store/watcher.hpp"

namespace taskpool::store::testing {

/// A segment with the workload's objects, in memory that processes share, and what they tell each other beside it.
class SharedSegment {
 public:
  static constexpr std::size_t kBytes = 256 * kUnitBytes;

  struct Board {
    std::atomic<std::uint64_t> finished{0};  ///< The last change that was committed.
    std::atomic<std::uint64_t> looks{0};     ///< Of all watchers together.
    std::atomic<bool> stop{false};
    std::atomic<bool> failed{false};
  };

  SharedSegment() {
    void* memory = ::mmap(nullptr, kBytes + 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc{};
    memory_ = {static_cast<std::byte*>(memory), kBytes};
    board = new (memory_.data() + kBytes) Board;
    auto writer = Writer::create(memory_, extend(), {.owner_uid = 1, .domain = "uid:1", .seed = 7}).value();
    create_objects(writer);
    places = find_places(writer);
  }
  ~SharedSegment() { ::munmap(memory_.data(), kBytes + 4096); }
  SharedSegment(const SharedSegment&) = delete;
  SharedSegment& operator=(const SharedSegment&) = delete;

  std::span<std::byte> memory() { return memory_; }
  static Extend extend() {
    return [](std::size_t) -> Result<void> { return {}; };
  }
  /// As the daemon does at its start, after whatever happened to the last one.
  static Writer take_over(std::span<std::byte> memory) {
    auto recovered = recover(memory, extend());
    if (!recovered) throw std::runtime_error{recovered.error().detail};
    if (!recovered->messages.empty()) throw std::runtime_error{recovered->messages.front()};
    return std::move(recovered->writer);
  }
  Segment reader() {
    return Segment::open(memory_, [] { return std::uint64_t{1}; }).value();
  }

  Board* board = nullptr;
  Places places;

 private:
  std::span<std::byte> memory_;
};

}  // namespace taskpool::store::testing
