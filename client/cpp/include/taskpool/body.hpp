#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "proto/frame.hpp"
#include "proto/message.hpp"
#include "proto/result.hpp"

namespace taskpool {

namespace client {
class Connection;
class Mapping;
}  // namespace client

using Bytes = std::vector<std::byte>;

/// An argument: bytes of the caller's, and how they are encoded. A view.
struct Item {
  Encoding encoding = Encoding::none;
  std::span<const std::byte> bytes;
  std::uint32_t count = 1;  ///< Elements, with an array encoding; else 1.

  static Item json(std::string_view text) { return {Encoding::json, as_bytes(text), 1}; }
  static Item raw(std::span<const std::byte> bytes) { return {Encoding::bytes, bytes, 1}; }
};

/// A result: bytes and how they are encoded. Objects of the store that it names live as long as it does, and the
/// daemon's `session_grace` more: time to open them. Small ones are owned. Large ones are a view of the session's
/// shared memory, which the daemon uses again once this is destroyed; keep() copies them out. Immutable, move-only,
/// safe to destroy in any thread and after the Client.
class Body {
 public:
  Body() = default;
  Body(Encoding encoding, std::uint32_t count, Bytes owned)
      : encoding_{encoding}, count_{count}, owned_{std::move(owned)}, bytes_{owned_} {}
  Body(Body&& other) noexcept;
  Body& operator=(Body&& other) noexcept;
  ~Body();

  Encoding encoding() const { return encoding_; }
  std::uint32_t count() const { return count_; }  ///< Elements, with an array encoding; else 1.
  std::span<const std::byte> bytes() const { return bytes_; }
  std::string_view text() const { return as_text(bytes_); }
  /// True if the bytes are in shared memory that the daemon waits to have back.
  bool in_arena() const { return mapping_ != nullptr; }
  /// Copies the bytes out of shared memory, if they are there, and gives that back.
  void keep();

 private:
  friend class client::Connection;
  Body(Encoding encoding, std::uint32_t count, std::span<const std::byte> bytes,
       std::shared_ptr<client::Mapping> mapping, std::weak_ptr<client::Connection> connection);
  void give_back();

  Encoding encoding_ = Encoding::none;
  std::uint32_t count_ = 1;
  Bytes owned_;
  std::span<const std::byte> bytes_;
  std::shared_ptr<client::Mapping> mapping_;
  std::weak_ptr<client::Connection> connection_;
  std::shared_ptr<void> refs_;  ///< Keeps the objects that it names.
};

/// A large argument that is built in place, in memory that the worker reads directly: the fastest way for megabytes.
/// Move-only. Do not write to it while a call that was given it has not ended.
class UpBuffer {
 public:
  UpBuffer() = default;
  UpBuffer(UpBuffer&& other) noexcept;
  UpBuffer& operator=(UpBuffer&& other) noexcept;
  ~UpBuffer();

  std::span<std::byte> data() const { return bytes_; }
  bool empty() const { return bytes_.empty(); }

 private:
  friend class client::Connection;
  void give_back();

  std::span<std::byte> bytes_;
  std::uint64_t place_bytes_ = 0;  ///< What the arena gave: bytes_, rounded up.
  std::shared_ptr<client::Mapping> mapping_;
  std::weak_ptr<client::Connection> connection_;
};

}  // namespace taskpool
