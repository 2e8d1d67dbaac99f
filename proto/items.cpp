#include "proto/items.hpp"

#include <algorithm>
#include <cassert>
#include <string>

namespace taskpool {
namespace {

Error wrong_size(std::string_view what, std::uint64_t is, std::uint64_t want) {
  return fail(Errc::bad_message,
              "body: " + std::string{what} + " " + std::to_string(is) + " bytes, want " + std::to_string(want));
}

Error too_large(std::string_view what, std::uint64_t bytes) {
  return fail(Errc::body_too_large, std::string{what} + ": " + std::to_string(bytes) + " bytes, at most " +
                                        std::to_string(kMaxInlineItemBytes) + " outside an arena");
}

/// `references` references; if `bytes` is given, the first one must name just as many.
Result<void> check_references(std::uint64_t references, std::optional<std::uint64_t> bytes,
                              std::span<const std::byte> body) {
  if (body.size() != references * sizeof(ArenaRef))
    return wrong_size("references of", body.size(), references * sizeof(ArenaRef));
  for (std::size_t at = 0; at < body.size(); at += sizeof(ArenaRef)) {
    const auto ref = load<ArenaRef>(body.data() + at);
    if (ref == ArenaRef{}) continue;
    const bool in_segment =
        ref.bytes > 0 && ref.bytes <= kMaxSegmentBytes && ref.offset <= kMaxSegmentBytes - ref.bytes;
    if (ref.segment == 0 || ref.segment > kMaxSegments || !in_segment || ref.offset % kArenaAlignment != 0)
      return fail(Errc::bad_message,
                  "body: reference " + std::to_string(at / sizeof(ArenaRef)) + " names no place in an arena");
  }
  if (!bytes) return {};
  const auto named = load<ArenaRef>(body.data()).bytes;
  if (named != *bytes) return wrong_size("an array of", named, *bytes);
  return {};
}

Result<void> check_packed(Encoding encoding, std::uint32_t count, std::span<const std::byte> body) {
  const std::size_t table = std::size_t{count} * 4;
  if (body.size() < table) return wrong_size("a table cut off at", body.size(), table);
  std::uint64_t sum = 0;
  std::uint32_t largest = 0;
  for (std::size_t at = 0; at < table; at += 4) {
    const auto bytes = load<std::uint32_t>(body.data() + at);
    sum += bytes;
    largest = std::max(largest, bytes);
  }
  if (largest > kMaxInlineItemBytes) return too_large("item", largest);
  if (sum != body.size() - table) return wrong_size("items of", body.size() - table, sum);
  if (encoding == Encoding::none && sum != 0) return wrong_size("items without encoding of", sum, 0);
  return {};
}

}  // namespace

Result<void> check_items(std::uint8_t flags, Encoding encoding, std::uint32_t count, std::span<const std::byte> body) {
  const std::uint64_t elements = std::uint64_t{count} * element_bytes(encoding);
  if ((flags & kInArena) != 0)
    return is_array(encoding) ? check_references(1, elements, body) : check_references(count, std::nullopt, body);
  if (!is_array(encoding)) return check_packed(encoding, count, body);
  if (body.size() != elements) return wrong_size("an array of", body.size(), elements);
  return {};
}

Result<void> check_single(std::uint8_t flags, Encoding encoding, std::uint32_t count, std::span<const std::byte> body) {
  if (!is_array(encoding) && count != 1) return fail(Errc::bad_message, "count: " + std::to_string(count) + ", want 1");
  const std::uint64_t elements = std::uint64_t{count} * element_bytes(encoding);
  if ((flags & kInArena) != 0)
    return check_references(1, is_array(encoding) ? std::optional{elements} : std::nullopt, body);
  if (body.size() > kMaxInlineItemBytes) return too_large("item", body.size());
  if (is_array(encoding) && body.size() != elements) return wrong_size("an array of", body.size(), elements);
  if (encoding == Encoding::none && !body.empty()) return wrong_size("an item without encoding of", body.size(), 0);
  return {};
}

void Packer::add(std::span<const std::byte> item) {
  assert(item.size() <= kMaxInlineItemBytes);
  sizes_.push_back(static_cast<std::uint32_t>(item.size()));
  payload_.insert(payload_.end(), item.begin(), item.end());
}

void Packer::clear() {
  sizes_.clear();
  payload_.clear();
}

}  // namespace taskpool
