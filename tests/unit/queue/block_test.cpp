#include "daemon/queue/block.hpp"

#include <boost/test/unit_test.hpp>
#include <numeric>
#include <string>
#include <vector>

namespace taskpool::queue {
namespace {

using Bytes = std::vector<std::byte>;

Bytes packed(const std::vector<std::string>& items) {
  Packer packer;
  for (const auto& item : items) packer.add(as_bytes(item));
  Bytes body{packer.table().begin(), packer.table().end()};
  body.insert(body.end(), packer.payload().begin(), packer.payload().end());
  return body;
}

/// The items of a packed range, as a worker would see them.
std::vector<std::string> items_of(const Range& range) {
  ArenaRef scratch;
  const auto [table, payload] = range.body(scratch);
  Bytes body{table.begin(), table.end()};
  body.insert(body.end(), payload.begin(), payload.end());
  BOOST_TEST(static_cast<bool>(check_items(0, range.block->encoding(), range.count, body)));
  std::vector<std::string> items;
  for (PackedItems all{range.count, body}; !all.done();) items.emplace_back(as_text(all.next()));
  return items;
}

Range text_range(const std::vector<std::string>& items, std::uint32_t first = 0) {
  return Range::whole(Block::make(0, Encoding::json, first, static_cast<std::uint32_t>(items.size()), packed(items)));
}

BOOST_AUTO_TEST_SUITE(blocks)

BOOST_AUTO_TEST_CASE(a_packed_range_is_cut_anywhere_and_loses_nothing) {
  const std::vector<std::string> items{"1", "", "three", "22", "x"};
  for (std::uint32_t cut = 1; cut < items.size(); ++cut) {
    auto rest = text_range(items, 100);
    const auto front = rest.take_front(cut, 1000);
    BOOST_TEST(front.index == 100u);
    BOOST_TEST(rest.index == 100u + cut);
    auto joined = items_of(front);
    for (const auto& item : items_of(rest)) joined.push_back(item);
    BOOST_TEST(joined == items, boost::test_tools::per_element());
  }
}

BOOST_AUTO_TEST_CASE(a_cut_respects_the_bytes_but_takes_one_item_at_least) {
  auto rest = text_range({std::string(50, 'a'), "b", "c"});
  BOOST_TEST(rest.take_front(3, 10).count == 1u);
  BOOST_TEST(rest.take_front(3, 10).count == 2u);  // two lengths and two letters
}

BOOST_AUTO_TEST_CASE(dropping_from_the_front_keeps_what_follows) {
  auto range = text_range({"one", "two", "three"});
  range.drop_front(2);
  BOOST_TEST(range.index == 2u);
  BOOST_TEST(items_of(range) == std::vector<std::string>{"three"}, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(numbers_are_cut_by_element) {
  std::vector<std::int64_t> numbers(1000);
  std::iota(numbers.begin(), numbers.end(), 0);
  auto rest = Range::whole(Block::make(0, Encoding::i64, 0, 1000, std::as_bytes(std::span{numbers})));
  const auto front = rest.take_front(5000, 800);
  BOOST_TEST(front.count == 100u);
  ArenaRef scratch;
  const auto [table, payload] = rest.body(scratch);
  BOOST_TEST(table.empty());
  BOOST_TEST(payload.size() == 900 * 8u);
  BOOST_TEST(load<std::int64_t>(payload.data()) == 100);
}

BOOST_AUTO_TEST_CASE(numbers_in_an_arena_are_cut_by_reference) {
  const ArenaRef all{2, 128, 8000};
  auto rest = Range::whole(Block::make(kInArena, Encoding::i64, 0, 1000, std::as_bytes(std::span{&all, 1})));
  const auto front = rest.take_front(300, 10);
  BOOST_TEST(front.count == 300u);
  ArenaRef scratch;
  const auto [table, payload] = rest.body(scratch);
  BOOST_TEST(payload.size() == sizeof(ArenaRef));
  BOOST_TEST((load<ArenaRef>(payload.data()) == ArenaRef{2, 128 + 2400, 5600}));
}

BOOST_AUTO_TEST_CASE(a_single_array_is_one_item_with_many_elements) {
  const std::vector<double> numbers(10);
  const auto range = Range::whole(Block::make_single(0, Encoding::f64, 10, std::as_bytes(std::span{numbers})));
  BOOST_TEST(range.count == 1u);
  BOOST_TEST(range.frame_count() == 10u);
  ArenaRef scratch;
  BOOST_TEST(range.body(scratch).second.size() == 80u);
}

BOOST_AUTO_TEST_CASE(a_quota_counts_a_block_for_as_long_as_any_range_of_it_lives) {
  QuotaPtr quota{new Quota};
  {
    auto range = text_range({"one", "two"});
    range.block->count_in(quota);
    BOOST_TEST(quota->bytes > 0u);
    const auto front = range.take_front(1, 100);
    range = Range{};
    BOOST_TEST(quota->bytes > 0u);
  }
  BOOST_TEST(quota->bytes == 0u);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool::queue
