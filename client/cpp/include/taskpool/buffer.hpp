#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "proto/result.hpp"

namespace taskpool {

namespace client {
class BufferMapping;
}

/// Raw memory that programs share: for what is larger than a value of the store, and for what has to be fast:
/// <taskpool/direct.hpp> has locks and numbers that live in one. Mapped for writing; copies share the mapping. It is
/// zero at first, and gone with the last session that has it open, named or not; what is mapped stays usable even then,
/// and in a forked child.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::shared_ptr<client::BufferMapping> mapping) : mapping_{std::move(mapping)} {}

  bool valid() const { return mapping_ != nullptr; }
  const std::string& name() const;
  std::span<std::byte> data() const;
  std::size_t size() const { return data().size(); }
  /// True if opening it made it.
  bool created() const;

 private:
  std::shared_ptr<client::BufferMapping> mapping_;
};

}  // namespace taskpool
