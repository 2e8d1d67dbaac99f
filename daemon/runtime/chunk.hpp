#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "daemon/runtime/arenas.hpp"
#include "proto/claim_page.hpp"
#include "proto/items.hpp"
#include "proto/result.hpp"

namespace taskpool::runtime {

/// The items of one `run` frame. PROTOCOL.md, section 3.2.
class Chunk {
 public:
  /// Views `frame`, which must outlive it. Error: `bad_message`, `body_too_large`: nothing of it can be run. Only
  /// tickets() and first() are good then.
  Result<void> read(const FrameView& frame);

  const RunHeader& header() const { return header_; }
  Ticket first() const { return first_; }
  /// How many tickets it has: one if it is single.
  std::uint32_t tickets() const { return tickets_; }
  Encoding encoding() const { return encoding_; }
  /// Numbers, one a ticket.
  bool is_numbers() const { return is_array(encoding_) && !is_single(); }
  bool is_single() const { return (header_.flags & kRunSingle) != 0; }
  /// Elements of the item, if it is single and an array; else 1.
  std::uint32_t elements() const { return is_single() ? count_ : 1; }
  /// The `command` options as raw JSON, or "".
  const std::string& command() const { return command_; }

  /// The bytes of item `offset`, unless it is_numbers(). To be asked in ascending order. Valid until the next call;
  /// what another user could change has been copied, an array is aligned. Error: `bad_message` if it is not in an
  /// attached arena.
  Result<std::span<const std::byte>> item(const Arenas& arenas, std::uint32_t offset);
  struct Numbers {
    std::span<const std::byte> bytes;
    bool in_place = false;  ///< Aligned, and nobody whom we do not trust can change them: functions may read them here.
  };
  /// All numbers. Error: as item().
  Result<Numbers> numbers(const Arenas& arenas) const;

 private:
  std::span<const std::byte> copied(std::span<const std::byte> bytes);
  std::span<const std::byte> aligned(std::span<const std::byte> item);

  RunHeader header_;
  Ticket first_ = 0;
  std::uint32_t tickets_ = 1;
  std::uint32_t count_ = 1;
  Encoding encoding_ = Encoding::none;
  bool in_arena_ = false;
  std::span<const std::byte> body_;
  std::string command_;

  std::uint32_t at_ = 0;         ///< The next packed item, and
  std::size_t at_byte_ = 0;      ///< where it begins in `body_`.
  std::vector<std::byte> copy_;  ///< Of another user's item.
};

}  // namespace taskpool::runtime
