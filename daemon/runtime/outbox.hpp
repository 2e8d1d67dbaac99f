#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "proto/claim_page.hpp"
#include "proto/items.hpp"
#include "proto/message.hpp"

namespace taskpool::runtime {

/// The results that a worker has made and not yet sent. PROTOCOL.md, section 3.2.
///
/// Each result becomes a whole frame in memory shared with the supervisor the moment it exists, so that a worker that
/// dies at any instruction loses only the item it was running: there is no window of finished but unpublished results.
/// A frame per item would be dear for the channel, so frames of consecutive tickets are joined when they are sent, in
/// private memory, while the shared ones still stand.
class Outbox {
 public:
  /// `memory` is what lies behind `page` in the shared mapping.
  Outbox(ClaimPage& page, std::span<std::byte> memory) : page_{page}, memory_{memory} {}

  /// What a result belongs to.
  struct Origin {
    Ticket ticket = 0;                   ///< The first, if there are several.
    Encoding encoding = Encoding::none;  ///< Of the result.
    bool single = false;  ///< It answers an `apply`: never joined with others, and an array is one result.
  };

  /// Where a result of up to `bytes` bytes, at most kMaxInlineItemBytes, may be built; aligned for any number, valid
  /// until the next call here. The add functions take it from there or from anywhere else.
  std::byte* reserve(std::size_t bytes) const;
  /// One result. `head` of all of these: a ResultRefs, encoded; such a result is never joined with others.
  void add_item(const Origin& origin, std::span<const std::byte> item, std::string_view head = {});
  /// The results of `elements` tickets, or of one if single.
  void add_array(const Origin& origin, std::uint32_t elements, std::span<const std::byte> numbers,
                 std::string_view head = {});
  /// The same, in an arena: one item, or `elements` numbers. Never joined: each reference is a region of its own.
  void add_reference(const Origin& origin, std::uint32_t elements, const ArenaRef& ref, std::string_view head = {});
  /// `tickets` tickets that failed alike.
  void add_failed(Ticket ticket, std::uint32_t tickets, const ErrorHead& error);

  /// Bytes of what is there, before joining.
  std::size_t bytes() const { return used_; }
  bool empty() const { return used_ == 0; }
  /// What to send: everything that is there, joined. Valid until the next call of anything here.
  std::span<const std::byte> frames();
  /// Forgets everything, which has been sent.
  void clear();

 private:
  enum class Form : std::uint8_t { item, array, reference, failed };
  /// One frame in `memory_`.
  struct Entry {
    Origin origin;
    Form form = Form::failed;
    std::uint32_t count = 0;  ///< Items or elements.
    std::size_t offset = 0;
    std::size_t head = 0;     ///< Bytes of the head, but of a failure.
    std::size_t payload = 0;  ///< Bytes at the end of the frame: the item, the numbers, the reference.
  };

  void add(Entry entry, Prefix prefix, std::span<const std::byte> payload, std::string_view head = {});
  bool joins(const Entry& entry, const Entry& next) const;
  std::span<const std::byte> frame_of(const Entry& entry) const;
  std::span<const std::byte> payload_of(const Entry& entry) const;
  /// Appends the frame of entries [first, end), which join, to `joined_`.
  void append_group(std::size_t first, std::size_t end, std::size_t payload);

  ClaimPage& page_;
  std::span<std::byte> memory_;
  std::size_t used_ = 0;
  std::vector<Entry> entries_;
  bool joinable_ = false;  ///< Some neighbours in `entries_` join.
  ByteBuffer joined_;
};

}  // namespace taskpool::runtime
