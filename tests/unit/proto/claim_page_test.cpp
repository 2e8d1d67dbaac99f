#include "proto/claim_page.hpp"

#include <algorithm>
#include <atomic>
#include <boost/test/unit_test.hpp>
#include <cstddef>
#include <memory>
#include <thread>
#include <vector>

namespace taskpool {
namespace {

/// A page whose first ticket is `first`.
std::unique_ptr<ClaimPage> page_from(Ticket first) {
  auto page = std::make_unique<ClaimPage>();
  page->claim = Claim{first, first}.pack();
  return page;
}

// The table in PROTOCOL.md, section 3.2: runtimes in other languages rely on it.
static_assert(offsetof(ClaimPage, magic) == 0);
static_assert(offsetof(ClaimPage, outbox_capacity) == 4);
static_assert(offsetof(ClaimPage, claim) == 64);
static_assert(offsetof(ClaimPage, interrupt) == 72);
static_assert(offsetof(ClaimPage, running) == 128);
static_assert(offsetof(ClaimPage, busy) == 132);
static_assert(offsetof(ClaimPage, finished) == 136);
static_assert(offsetof(ClaimPage, outbox_bytes) == 140);
static_assert(offsetof(ClaimPage, outbox_resets) == 144);
static_assert(offsetof(ClaimPage, started_ns) == 152);
static_assert(offsetof(ClaimPage, room_element) == 168);
static_assert(offsetof(ClaimPage, worked_ns) == 160);
static_assert(kOutboxOffset == 4096 && kOutboxBytes == 2u << 20);

BOOST_AUTO_TEST_SUITE(claim_page)

BOOST_AUTO_TEST_CASE(tickets_are_compared_around_the_wrap) {
  BOOST_TEST(ticket_before(1, 2));
  BOOST_TEST(!ticket_before(2, 2));
  BOOST_TEST(ticket_before(0xffffffff, 0));
  BOOST_TEST(!ticket_before(0, 0xffffffff));
}

BOOST_AUTO_TEST_CASE(a_claim_survives_packing) {
  const auto claim = Claim::unpack(Claim{0x12345678, 0x9abcdef0}.pack());
  BOOST_TEST(claim.next == 0x12345678u);
  BOOST_TEST(claim.end == 0x9abcdef0u);
}

BOOST_AUTO_TEST_CASE(only_offered_tickets_can_be_claimed_and_only_once) {
  const auto page = page_from(0);
  BOOST_TEST(claim_tickets(*page, 0, 1) == 0u);
  BOOST_TEST(offer_tickets(*page, 3) == 0u);
  BOOST_TEST(claim_tickets(*page, 0, 1) == 1u);
  BOOST_TEST(claim_tickets(*page, 0, 1) == 0u);
  BOOST_TEST(claim_tickets(*page, 1, 10) == 2u);
  BOOST_TEST(claim_tickets(*page, 3, 1) == 0u);
  BOOST_TEST(offer_tickets(*page, 1) == 3u);
}

BOOST_AUTO_TEST_CASE(what_was_taken_back_is_skipped_by_the_worker) {
  const auto page = page_from(0);
  offer_tickets(*page, 10);
  BOOST_TEST(claim_tickets(*page, 0, 4) == 4u);
  const auto taken = take_back_tickets(*page);
  BOOST_TEST(taken.next == 4u);
  BOOST_TEST(taken.end == 10u);
  BOOST_TEST(claim_tickets(*page, 4, 6) == 0u);
  const auto nothing = take_back_tickets(*page);
  BOOST_TEST(nothing.next == nothing.end);

  BOOST_TEST(offer_tickets(*page, 2) == 10u);  // tickets are never offered twice
  BOOST_TEST(claim_tickets(*page, 10, 1) == 1u);
}

BOOST_AUTO_TEST_CASE(a_claim_in_the_middle_gives_up_what_it_skips) {
  const auto page = page_from(0);
  offer_tickets(*page, 10);
  BOOST_TEST(claim_tickets(*page, 5, 1) == 1u);
  BOOST_TEST(claim_tickets(*page, 0, 1) == 0u);
}

BOOST_AUTO_TEST_CASE(tickets_go_on_past_two_to_the_32) {
  const auto page = page_from(0xfffffffe);
  BOOST_TEST(offer_tickets(*page, 5) == 0xfffffffeu);
  BOOST_TEST(claim_tickets(*page, 0xfffffffe, 3) == 3u);
  BOOST_TEST(claim_tickets(*page, 0xffffffff, 1) == 0u);
  const auto taken = take_back_tickets(*page);
  BOOST_TEST(taken.next == 1u);
  BOOST_TEST(taken.end == 3u);
  BOOST_TEST(offer_tickets(*page, 1) == 3u);
}

/// A worker that claims blocks while the supervisor offers and takes back: every ticket must go exactly one way. The
/// tickets wrap on the way.
BOOST_AUTO_TEST_CASE(each_ticket_is_claimed_once_or_taken_back_once) {
  constexpr Ticket kFirst = 0xffff0000;
  constexpr std::uint32_t kTickets = 200'000;
  const auto page = page_from(kFirst);
  std::vector<std::uint8_t> claimed(kTickets);
  std::vector<std::uint8_t> taken_back(kTickets);
  std::atomic<std::uint32_t> offered{0};  // as the frames do, it tells the worker which tickets there are

  std::thread worker{[&] {
    std::uint32_t at = 0;
    for (std::uint32_t block = 1; at < kTickets; block = block % 7 + 1) {
      const std::uint32_t bound = offered.load(std::memory_order_acquire);
      if (at == bound) {
        std::this_thread::yield();
        continue;
      }
      const std::uint32_t got = claim_tickets(*page, kFirst + at, std::min(block, bound - at));
      for (std::uint32_t i = 0; i < got; ++i) ++claimed[at + i];
      at += got == 0 ? 1 : got;  // not claimable: taken back
    }
  }};
  std::uint32_t sent = 0;
  for (std::uint32_t batch = 1; sent < kTickets; batch = batch % 40 + 1) {
    const std::uint32_t count = std::min(batch, kTickets - sent);
    const Ticket first = offer_tickets(*page, count);
    if (first != kFirst + sent) break;
    sent += count;
    offered.store(sent, std::memory_order_release);
    if (batch % 3 != 0 || sent == kTickets) continue;  // leaves the last batch to the worker in any case
    const auto taken = take_back_tickets(*page);
    for (Ticket ticket = taken.next; ticket != taken.end; ++ticket) ++taken_back[ticket - kFirst];
  }
  offered.store(kTickets, std::memory_order_release);
  worker.join();

  BOOST_TEST(sent == kTickets);
  std::uint32_t wrong = 0;
  std::uint32_t claims = 0;
  for (std::uint32_t index = 0; index < kTickets; ++index) {
    if (claimed[index] + taken_back[index] != 1) ++wrong;
    claims += claimed[index];
  }
  BOOST_TEST(wrong == 0u);
  BOOST_TEST(claims > 0u);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool
