#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "proto/frame.hpp"

/// Bodies that hold several items: packed, arrays, and references into arenas. PROTOCOL.md, section 2.
namespace taskpool {

/// A place in an arena.
struct ArenaRef {
  std::uint64_t segment = 0;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  bool operator==(const ArenaRef&) const = default;
};
static_assert(sizeof(ArenaRef) == 24);

/// What a `run` frame's body begins with. PROTOCOL.md, section 3.2.
struct RunHeader {
  std::uint64_t job = 0;
  std::uint32_t index = 0;
  std::uint32_t attempt = 0;
  std::uint32_t timeout_ms = 0;
  std::uint32_t soft_timeout_ms = 0;
  std::uint32_t session = 0;
  std::uint32_t flags = 0;
  ArenaRef room;
  std::uint32_t depth = 0;
  std::uint32_t reserved = 0;
};
static_assert(sizeof(RunHeader) == 64);
inline constexpr std::uint32_t kRunSingle = 1;   ///< RunHeader flag: the body is one item, also if it is an array.
inline constexpr std::uint32_t kRunReport = 2;   ///< RunHeader flag: somebody wants progress reports.
inline constexpr std::uint32_t kRunCommand = 4;  ///< RunHeader flag: the head has `command` options.

/// Checks that `body` is a well-formed body of `count` items: the table's lengths sum to the rest and none is above
/// kMaxInlineItemBytes; an array has whole elements; references are aligned and one an item (one alone for an array).
/// Errors: `bad_message`, `body_too_large`; detail says what.
Result<void> check_items(std::uint8_t flags, Encoding encoding, std::uint32_t count, std::span<const std::byte> body);

/// The same for the body of `apply` and `result`, which is one item: `count` is 1, or an array's elements.
Result<void> check_single(std::uint8_t flags, Encoding encoding, std::uint32_t count, std::span<const std::byte> body);

/// Walks the items of a packed body that check_items() has passed, without copying.
class PackedItems {
 public:
  PackedItems(std::uint32_t count, std::span<const std::byte> body)
      : count_{count}, body_{body}, offset_{std::size_t{count} * 4} {}
  bool done() const { return index_ == count_; }
  std::uint32_t index() const { return index_; }
  std::span<const std::byte> next() {
    const auto size = load<std::uint32_t>(body_.data() + std::size_t{index_++} * 4);
    const auto item = body_.subspan(offset_, size);
    offset_ += size;
    return item;
  }

 private:
  std::uint32_t count_;
  std::uint32_t index_ = 0;
  std::span<const std::byte> body_;
  std::size_t offset_;
};

/// Collects items for one packed body.
class Packer {
 public:
  /// `item` at most kMaxInlineItemBytes: asserted; larger ones go through an arena.
  void add(std::span<const std::byte> item);
  std::uint32_t count() const { return static_cast<std::uint32_t>(sizes_.size()); }
  /// Bytes of the body as it stands.
  std::size_t bytes() const { return sizes_.size() * 4 + payload_.size(); }
  bool empty() const { return sizes_.empty(); }
  void clear();
  std::span<const std::byte> table() const { return std::as_bytes(std::span{sizes_}); }
  std::span<const std::byte> payload() const { return payload_; }

 private:
  std::vector<std::uint32_t> sizes_;
  std::vector<std::byte> payload_;
};

}  // namespace taskpool
