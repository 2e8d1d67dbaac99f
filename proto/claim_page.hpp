#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace taskpool {

/// Tickets count the items that one worker was given, modulo 2^32.
using Ticket = std::uint32_t;

/// True if `a` comes before `b` in a window of 2^31 tickets.
constexpr bool ticket_before(Ticket a, Ticket b) { return static_cast<std::int32_t>(a - b) < 0; }

/// The shared claim word: tickets from `next` up to, not including, `end` may be claimed.
struct Claim {
  Ticket next = 0;
  Ticket end = 0;
  static constexpr Claim unpack(std::uint64_t word) {
    return {static_cast<Ticket>(word), static_cast<Ticket>(word >> 32)};
  }
  constexpr std::uint64_t pack() const { return (std::uint64_t{end} << 32) | next; }
};

/// Why the supervisor interrupts a task.
enum class Interrupt : std::uint32_t { none = 0, cancel = 1, soft_timeout = 2 };

/// What a worker and the supervisor share: a memfd that the zygote makes before the fork, this struct at its start, and
/// the outbox behind it. PROTOCOL.md, section 3.2. A worker may write anything here at any time; the supervisor checks
/// what it reads.
struct ClaimPage {
  static constexpr std::uint32_t kMagic = 0x31505443;  // "CTP1"

  std::uint32_t magic = kMagic;
  std::uint32_t outbox_capacity = 0;  ///< Bytes; set by the zygote, then constant.
  /// Claim::pack(). Written by both: compare-and-swap.
  alignas(64) std::atomic<std::uint64_t> claim{0};
  /// (ticket + 1) | Interrupt << 32, or 0. Written by the supervisor; a worker ignores a ticket that is not running.
  std::atomic<std::uint64_t> interrupt{0};

  // Below: written by the worker alone.
  alignas(64) std::atomic<std::uint32_t> running{0};  ///< Ticket being run, while busy.
  std::atomic<std::uint32_t> busy{0};                 ///< 1 while user code runs.
  std::atomic<std::uint32_t> finished{0};             ///< Tickets before this one are finished or were skipped.
  std::atomic<std::uint32_t> outbox_bytes{0};         ///< Whole frames in the outbox that may not be sent yet.
  /// Counts how often the outbox was emptied. Raised before bytes that were published are overwritten, so that the
  /// supervisor, which copies them while the worker runs, sees whether what it copied was whole.
  std::atomic<std::uint32_t> outbox_resets{0};
  std::atomic<std::uint64_t> started_ns{0};    ///< CLOCK_MONOTONIC when the running block began.
  std::atomic<std::uint64_t> worked_ns{0};     ///< Time in user code since the worker began.
  std::atomic<std::uint32_t> room_element{0};  ///< Encoding of the results in the running chunk's room.
  std::atomic<std::uint32_t> position{0};      ///< Of an item that holds several elements: which one runs.
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

/// Where the outbox begins in the mapping, and the size of the whole. Bytes.
inline constexpr std::size_t kOutboxOffset = 4096;
inline constexpr std::size_t kOutboxBytes = 2u << 20;  ///< One largest frame and the batch before it.
inline constexpr std::size_t kClaimPageBytes = kOutboxOffset + kOutboxBytes;
static_assert(sizeof(ClaimPage) <= kOutboxOffset);

/// Worker: claims up to `want` tickets from `ticket` on. Returns how many; 0 means that they were taken back: skip.
inline std::uint32_t claim_tickets(ClaimPage& page, Ticket ticket, std::uint32_t want) {
  auto word = page.claim.load(std::memory_order_acquire);
  for (;;) {
    const auto claim = Claim::unpack(word);
    if (ticket_before(ticket, claim.next) || !ticket_before(ticket, claim.end)) return 0;
    const std::uint32_t available = claim.end - ticket;
    const std::uint32_t taken = want < available ? want : available;
    if (page.claim.compare_exchange_weak(word, Claim{ticket + taken, claim.end}.pack(), std::memory_order_acq_rel))
      return taken;
  }
}

/// Supervisor: makes `count` further tickets claimable. Returns the first of them.
inline Ticket offer_tickets(ClaimPage& page, std::uint32_t count) {
  auto word = page.claim.load(std::memory_order_acquire);
  for (;;) {
    const auto claim = Claim::unpack(word);
    if (page.claim.compare_exchange_weak(word, Claim{claim.next, claim.end + count}.pack(), std::memory_order_acq_rel))
      return claim.end;
  }
}

/// Supervisor: takes back what is not claimed. Returns the first ticket taken; `end`, the next to be offered, bounds
/// them.
inline Claim take_back_tickets(ClaimPage& page) {
  auto word = page.claim.load(std::memory_order_acquire);
  for (;;) {
    const auto claim = Claim::unpack(word);
    if (page.claim.compare_exchange_weak(word, Claim{claim.end, claim.end}.pack(), std::memory_order_acq_rel))
      return claim;
  }
}

}  // namespace taskpool
