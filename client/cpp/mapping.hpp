#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "proto/items.hpp"
#include "proto/result.hpp"
#include "taskpool/fd.hpp"

namespace taskpool::client {

/// One arena segment, mapped. Stays mapped as long as somebody views it, also after its connection.
class Mapping {
 public:
  /// Maps a segment that the daemon sent. `bytes` is what it says; the file must be that long and sealed against
  /// shrinking, or reading it could be SIGBUS. Errors: `bad_message`, `system`.
  static Result<std::shared_ptr<Mapping>> map(const Fd& memory, std::uint32_t segment, std::uint64_t bytes,
                                              bool writable, std::uint64_t epoch);
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping();

  std::span<std::byte> bytes() const { return bytes_; }
  std::uint32_t segment() const { return segment_; }
  /// The reference that names these bytes of it.
  ArenaRef reference_to(std::span<const std::byte> part) const {
    return {segment_, static_cast<std::uint64_t>(part.data() - bytes_.data()), part.size()};
  }
  /// The session that it belongs to: Connection::epoch().
  std::uint64_t epoch() const { return epoch_; }

 private:
  Mapping(std::span<std::byte> bytes, std::uint32_t segment, std::uint64_t epoch)
      : bytes_{bytes}, segment_{segment}, epoch_{epoch} {}

  std::span<std::byte> bytes_;
  std::uint32_t segment_;
  std::uint64_t epoch_;
};

}  // namespace taskpool::client
