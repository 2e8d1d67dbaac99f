#include "daemon/runtime/outbox.hpp"

#include <boost/test/unit_test.hpp>
#include <cstring>
#include <string>
#include <vector>

#include "proto/codec.hpp"

namespace {

using namespace taskpool;
using runtime::Outbox;

struct Fixture {
  ClaimPage page;
  std::vector<std::byte> memory = std::vector<std::byte>(kOutboxBytes);
  Outbox outbox{page, memory};

  void add_json(Ticket ticket, std::string_view text, bool single = false) {
    outbox.add_item({ticket, Encoding::json, single}, as_bytes(text));
  }
};

/// "run_results 5 x2 json: 1 22", one line a frame.
std::string describe(std::span<const std::byte> bytes) {
  FrameDecoder decoder;
  decoder.feed(bytes);
  std::string text;
  for (;;) {
    const auto frame = decoder.next();
    BOOST_REQUIRE(frame);
    if (!*frame) break;
    const auto& prefix = (*frame)->prefix;
    text += std::string{name(prefix.op)} + " " + std::to_string(prefix.request) + " x" + std::to_string(prefix.count);
    if (prefix.op == Op::run_results) {
      text += " " + std::string{name(prefix.encoding)} + ":";
      BOOST_TEST(check_items(prefix.flags, prefix.encoding, prefix.count, (*frame)->body).has_value());
      if (prefix.flags == kInArena)
        text += " @" + std::to_string(load<ArenaRef>((*frame)->body.data()).offset);
      else if (is_array(prefix.encoding))
        text += " " + std::to_string((*frame)->body.size()) + " bytes";
      else
        for (PackedItems items{prefix.count, (*frame)->body}; !items.done();)
          text += " " + std::string{as_text(items.next())};
    }
    text += "\n";
  }
  BOOST_TEST(decoder.at_border());
  return text;
}

}  // namespace

BOOST_FIXTURE_TEST_SUITE(outbox, Fixture)

BOOST_AUTO_TEST_CASE(every_result_is_a_whole_frame_in_the_shared_memory_at_once) {
  add_json(5, "1");
  BOOST_TEST(describe(std::span{memory}.first(page.outbox_bytes.load())) == "run_results 5 x1 json: 1\n");
  add_json(6, "22");
  BOOST_TEST(describe(std::span{memory}.first(page.outbox_bytes.load())) ==
             "run_results 5 x1 json: 1\nrun_results 6 x1 json: 22\n");
}

BOOST_AUTO_TEST_CASE(consecutive_results_are_sent_in_one_frame) {
  for (Ticket ticket = 0; ticket < 4; ++ticket) add_json(ticket, std::to_string(ticket * 10));
  BOOST_TEST(describe(outbox.frames()) == "run_results 0 x4 json: 0 10 20 30\n");
  // The shared frames still stand: only clear() drops them.
  BOOST_TEST(page.outbox_bytes.load() == outbox.bytes());
  outbox.clear();
  BOOST_TEST(page.outbox_bytes.load() == 0u);
  BOOST_TEST(page.outbox_resets.load() == 1u);
  BOOST_TEST(outbox.empty());
}

BOOST_AUTO_TEST_CASE(a_gap_another_encoding_or_a_failure_begins_a_new_frame) {
  add_json(0, "0");
  add_json(1, "1");
  add_json(3, "3");
  outbox.add_item({4, Encoding::bytes, false}, as_bytes("four"));
  outbox.add_failed(5, 1, {.code = Errc::task_failed, .detail = "no"});
  add_json(6, "6");
  add_json(7, "7");
  BOOST_TEST(describe(outbox.frames()) ==
             "run_results 0 x2 json: 0 1\nrun_results 3 x1 json: 3\nrun_results 4 x1 bytes: four\nrun_failed 5 x1\n"
             "run_results 6 x2 json: 6 7\n");
}

BOOST_AUTO_TEST_CASE(results_of_single_calls_are_never_joined) {
  add_json(0, "0", true);
  add_json(1, "1", true);
  BOOST_TEST(describe(outbox.frames()) == "run_results 0 x1 json: 0\nrun_results 1 x1 json: 1\n");
}

BOOST_AUTO_TEST_CASE(numbers_are_joined_and_references_are_not) {
  const std::vector<std::int64_t> numbers(8);
  outbox.add_array({0, Encoding::i64, false}, 8, std::as_bytes(std::span{numbers}));
  outbox.add_array({8, Encoding::i64, false}, 8, std::as_bytes(std::span{numbers}));
  outbox.add_reference({16, Encoding::i64, false}, 8, {1, 64, 64});
  outbox.add_reference({24, Encoding::i64, false}, 8, {1, 128, 64});
  BOOST_TEST(describe(outbox.frames()) ==
             "run_results 0 x16 i64: 128 bytes\nrun_results 16 x8 i64: @64\nrun_results 24 x8 i64: @128\n");
}

BOOST_AUTO_TEST_CASE(a_joined_frame_stays_below_the_size_that_senders_pack) {
  const std::string large(40'000, 'x');
  add_json(0, large);
  add_json(1, large);
  FrameDecoder decoder;
  decoder.feed(outbox.frames());
  BOOST_TEST((*decoder.next())->prefix.count == 1u);
  BOOST_TEST((*decoder.next())->prefix.count == 1u);
}

BOOST_AUTO_TEST_CASE(a_result_may_be_built_in_place) {
  add_json(0, "first");
  std::byte* const place = outbox.reserve(64);
  BOOST_TEST(reinterpret_cast<std::uintptr_t>(place) % 8 == 0u);
  std::memcpy(place, "second", 6);
  outbox.add_item({1, Encoding::json, false}, {place, 6});
  BOOST_TEST(describe(outbox.frames()) == "run_results 0 x2 json: first second\n");
}

BOOST_AUTO_TEST_CASE(a_failure_carries_its_head) {
  outbox.add_failed(9, 3, {.code = Errc::bad_argument, .detail = "argument 1", .type = "T"});
  FrameDecoder decoder;
  decoder.feed(outbox.frames());
  const auto frame = decoder.next();
  BOOST_REQUIRE((frame && *frame));
  const auto error = decode<ErrorHead>((*frame)->head);
  BOOST_REQUIRE(error);
  BOOST_TEST(error->code == Errc::bad_argument);
  BOOST_TEST(error->detail == "argument 1");
  BOOST_TEST((*frame)->prefix.count == 3u);
}

BOOST_AUTO_TEST_SUITE_END()
