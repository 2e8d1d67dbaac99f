#include "daemon/queue/scheduler.hpp"

#include <boost/test/unit_test.hpp>

namespace taskpool::queue {
namespace {

using namespace std::chrono_literals;

Estimate known(Nanoseconds per_item) {
  Estimate estimate;
  estimate.add(per_item, 1);
  return estimate;
}

constexpr std::uint32_t kPrefetch = 512;

BOOST_AUTO_TEST_SUITE(scheduler)

BOOST_AUTO_TEST_CASE(nothing_known_starts_small) {
  const Demand demand{1'000'000, 1'000'000, Estimate{}, 0};
  const auto items = items_to_give({}, demand, 2, kPrefetch);
  BOOST_TEST(items >= 1u);
  BOOST_TEST(items <= 64u);
}

BOOST_AUTO_TEST_CASE(cheap_items_go_by_the_hundred_thousand_and_dear_ones_singly) {
  const Demand cheap{1'000'000, 1'000'000, known(2ns), 0};
  BOOST_TEST(items_to_give({}, cheap, 2, kPrefetch) >= 100'000u);
  const Demand dear{1'000'000, 1'000'000, known(10ms), 0};
  BOOST_TEST(items_to_give({}, dear, 2, kPrefetch) == 1u);
  BOOST_TEST(items_to_give({1, 10ms, false}, dear, 2, kPrefetch) == 0u);
}

BOOST_AUTO_TEST_CASE(the_last_items_are_shared) {
  const Demand end{8, 8, known(1us), 0};
  BOOST_TEST(items_to_give({}, end, 4, kPrefetch) <= 2u);
}

BOOST_AUTO_TEST_CASE(a_worker_with_enough_gets_no_more) {
  const Demand demand{1000, 1000, known(100us), 0};
  BOOST_TEST(items_to_give({20, kPipelineTarget, false}, demand, 2, kPrefetch) == 0u);
  BOOST_TEST(items_to_give({1, 100us, true}, demand, 2, kPrefetch) == 0u);
  BOOST_TEST(items_to_give({kPrefetch, 1us, false}, demand, 2, kPrefetch) == 0u);
}

BOOST_AUTO_TEST_CASE(less_is_given_ahead_while_several_sessions_have_work) {
  const Demand alone{1'000'000, 1'000'000, known(1us), 0};
  const Demand shared{.waiting = 1'000'000, .waiting_all = 1'000'000, .estimate = known(1us), .shared = true};
  BOOST_TEST(items_to_give({}, shared, 2, 100'000) <= 501u);
  BOOST_TEST(items_to_give({}, alone, 2, 100'000) >= 4'900u);
  BOOST_TEST(items_to_give({300, 300us, false}, shared, 2, 100'000) == 0u);
  BOOST_TEST(items_to_give({300, 300us, false}, alone, 2, 100'000) > 0u);
}

BOOST_AUTO_TEST_CASE(a_first_item_waits_briefly_behind_others_rather_than_sending_them_back) {
  const Demand first{.waiting = 1, .waiting_all = 1'000, .estimate = known(10us), .shared = true, .first = true};
  BOOST_TEST(items_to_give({900, 450us, false}, first, 2, kPrefetch) == 1u);
  BOOST_TEST(items_to_give({900, 600us, false}, first, 2, kPrefetch) == 0u);  // that would take too long
  BOOST_TEST(items_to_give({1, 100us, true}, first, 2, kPrefetch) == 0u);
  auto second = first;
  second.first = false;
  BOOST_TEST(items_to_give({900, 450us, false}, second, 2, kPrefetch) == 0u);
}

BOOST_AUTO_TEST_CASE(an_explicit_chunk_wins) {
  const Demand demand{1000, 1000, known(1ns), 7};
  BOOST_TEST(items_to_give({}, demand, 2, kPrefetch) == 7u);
  BOOST_TEST(items_to_give({3, 3ns, false}, demand, 2, kPrefetch) == 7u);
  BOOST_TEST(items_to_give({7, 7ns, false}, demand, 2, kPrefetch) == 0u);
}

BOOST_AUTO_TEST_CASE(moving_has_to_be_worth_two_wake_ups) {
  BOOST_TEST(!worth_moving(0, 1ms, 10ms));
  BOOST_TEST(!worth_moving(5, 1us, 0us));
  BOOST_TEST(worth_moving(5, 1ms, 0us));
  BOOST_TEST(worth_moving(1, 1us, 5ms));
}

BOOST_AUTO_TEST_CASE(the_average_follows_what_is_measured) {
  auto estimate = known(1us);
  for (int round = 0; round < 50; ++round) estimate.add(100us, 10);
  BOOST_TEST(estimate.per_item().count() > 9'000);
  BOOST_TEST(estimate.per_item().count() < 11'000);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool::queue
