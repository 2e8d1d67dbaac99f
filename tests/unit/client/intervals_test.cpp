#include "client/cpp/intervals.hpp"

#include <boost/test/unit_test.hpp>
#include <random>
#include <set>

using taskpool::client::Intervals;

BOOST_AUTO_TEST_SUITE(intervals)

BOOST_AUTO_TEST_CASE(runs_that_touch_are_one) {
  Intervals set;
  set.append(0, 5);
  set.append(5, 9);
  set.append(12, 12);
  BOOST_TEST(set.ranges().size() == 1u);
  BOOST_TEST(set.remove(3, 7));
  BOOST_TEST(set.ranges().size() == 2u);
}

BOOST_AUTO_TEST_CASE(what_is_not_wholly_there_is_not_removed) {
  Intervals set;
  set.append(10, 20);
  BOOST_TEST(!set.remove(9, 11));
  BOOST_TEST(!set.remove(19, 21));
  BOOST_TEST(!set.remove(15, 15));
  BOOST_TEST(!set.remove(16, 15));
  BOOST_TEST(set.remove(12, 14));
  BOOST_TEST(!set.remove(13, 15));
  BOOST_TEST(!set.remove(11, 15));
  BOOST_TEST(set.remove(10, 12));
  BOOST_TEST(set.remove(14, 20));
  BOOST_TEST(set.empty());
  BOOST_TEST(!set.remove(10, 11));
}

BOOST_AUTO_TEST_CASE(it_agrees_with_a_plain_set) {
  std::mt19937 random{7};
  Intervals set;
  std::set<std::uint64_t> plain;
  std::uint64_t end = 0;
  for (int step = 0; step < 20000; ++step) {
    if (random() % 4 == 0) {
      end += random() % 3 == 0 ? random() % 5 : 0;
      const auto first = end;
      end += random() % 20;
      set.append(first, end);
      for (auto i = first; i < end; ++i) plain.insert(i);
    } else {
      const auto first = random() % (end + 2);
      const auto stop = first + 1 + random() % 10;
      bool all = true;
      for (auto i = first; i < stop; ++i) all = all && plain.contains(i);
      BOOST_REQUIRE(set.remove(first, stop) == all);
      if (all)
        for (auto i = first; i < stop; ++i) plain.erase(i);
    }
  }
  for (std::uint64_t first = 0; first < end + 2; first += 3) {
    std::set<std::uint64_t> parts;
    for (const auto& [from, to] : set.within(first, first + 40))
      for (auto i = from; i < to; ++i) parts.insert(i);
    BOOST_REQUIRE((parts == std::set<std::uint64_t>(plain.lower_bound(first), plain.lower_bound(first + 40))));
  }
  std::set<std::uint64_t> left;
  for (const auto& [first, stop] : set.ranges())
    for (auto i = first; i < stop; ++i) left.insert(i);
  BOOST_TEST((left == plain));
}

BOOST_AUTO_TEST_SUITE_END()
