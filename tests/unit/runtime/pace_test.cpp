#include "daemon/runtime/pace.hpp"

#include <boost/test/unit_test.hpp>

using namespace std::chrono_literals;
using taskpool::runtime::Pace;

BOOST_AUTO_TEST_SUITE(pace)

BOOST_AUTO_TEST_CASE(blocks_of_short_items_grow_and_one_long_block_ends_that) {
  Pace pace;
  BOOST_TEST(pace.block(64) == 1u);
  for (int i = 0; i < 10; ++i) pace.ran(pace.block(64), 1us);
  BOOST_TEST(pace.block(64) == 64u);
  BOOST_TEST(pace.block(5) == 5u);
  pace.ran(64, 20us);
  BOOST_TEST(pace.block(64) == 64u);
  pace.ran(64, 60us);
  BOOST_TEST(pace.block(64) == 1u);
}

BOOST_AUTO_TEST_CASE(a_block_that_was_cut_short_says_nothing_about_a_larger_one) {
  Pace pace;
  pace.ran(1, 1us);
  pace.ran(2, 1us);
  BOOST_TEST(pace.block(64) == 4u);
  pace.ran(1, 1us);
  BOOST_TEST(pace.block(64) == 4u);
}

BOOST_AUTO_TEST_SUITE_END()
