#pragma once

#include <cstddef>
#include <span>

#include "daemon/os/unique_fd.hpp"
#include "proto/result.hpp"

namespace taskpool::os {

/// A piece of memory that processes share by passing its descriptor: a memfd and its mapping. Its size is sealed, so
/// that no peer can make an access fail (SIGBUS) by cutting it; its bytes may change at any time.
class SharedMemory {
 public:
  enum class Access { read_write, read_only };

  SharedMemory() = default;
  SharedMemory(SharedMemory&& other) noexcept;
  SharedMemory& operator=(SharedMemory&& other) noexcept;
  ~SharedMemory();

  /// New memory of zeros. `name` shows in /proc/PID/maps. Pages are taken when first touched. `bytes` above 0.
  static Result<SharedMemory> create(const char* name, std::size_t bytes);
  /// Maps the first `bytes` of memory that a peer made. Error: `bad_message` if it could shrink or is too small.
  static Result<SharedMemory> attach(UniqueFd fd, std::size_t bytes, Access access = Access::read_write);

  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }
  std::span<std::byte> bytes() const { return {data_, size_}; }
  explicit operator bool() const { return data_ != nullptr; }
  /// The descriptor to pass on; -1 after close_fd().
  int fd() const { return fd_.get(); }
  /// Keeps the mapping alone.
  void close_fd() { fd_.reset(); }

  /// Takes the pages of a range now rather than at first touch. Best effort.
  void prefault(std::size_t offset, std::size_t bytes) const;
  /// Returns the pages of a range, whose bytes become zero. Best effort; needs the descriptor.
  void discard(std::size_t offset, std::size_t bytes) const;

 private:
  SharedMemory(UniqueFd fd, std::byte* data, std::size_t size) : fd_{std::move(fd)}, data_{data}, size_{size} {}
  static Result<SharedMemory> map(UniqueFd fd, std::size_t bytes, Access access);

  UniqueFd fd_;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace taskpool::os
