#include "client/cli/progress.hpp"

#include <boost/test/unit_test.hpp>

namespace taskpool::cli {
namespace {

using namespace std::chrono_literals;
using Time = RateEstimate::Time;

/// A rate after `seconds` seconds in which `per_second` tasks ended each second.
RateEstimate steady(std::uint64_t per_second, int seconds) {
  RateEstimate rate{Time{}};
  for (int i = 1; i <= seconds; ++i) rate.update(Time{} + i * 1s, per_second * static_cast<std::uint64_t>(i));
  return rate;
}

BOOST_AUTO_TEST_SUITE(progress)

BOOST_AUTO_TEST_CASE(a_steady_rate_is_that_rate) {
  BOOST_TEST(steady(200, 1).per_second() == 200, boost::test_tools::tolerance(1e-9));
  BOOST_TEST(steady(200, 30).per_second() == 200, boost::test_tools::tolerance(1e-9));
}

BOOST_AUTO_TEST_CASE(nothing_done_is_no_rate) {
  RateEstimate rate{Time{}};
  rate.update(Time{} + 1s, 0);
  BOOST_TEST(rate.per_second() == 0);
  BOOST_TEST(!rate.remaining({.done = 0, .failed = 0, .total = 10}).has_value());
}

BOOST_AUTO_TEST_CASE(the_rate_follows_a_change_within_some_seconds) {
  auto rate = steady(100, 20);
  rate.update(Time{} + 40s, 2000);  // nothing for 20 seconds
  BOOST_TEST(rate.per_second() < 5);
  BOOST_TEST(rate.per_second() > 0);
}

BOOST_AUTO_TEST_CASE(time_that_stands_still_or_a_count_that_falls_changes_nothing) {
  auto rate = steady(100, 3);
  rate.update(Time{} + 3s, 900);
  rate.update(Time{} + 4s, 10);
  BOOST_TEST(rate.per_second() == 100, boost::test_tools::tolerance(1e-9));
}

BOOST_AUTO_TEST_CASE(the_estimate_is_what_is_left_at_this_rate) {
  const auto rate = steady(50, 2);
  BOOST_TEST((rate.remaining({.done = 100, .failed = 0, .total = 600}).value() == 10s));
  BOOST_TEST((rate.remaining({.done = 700, .failed = 0, .total = 600}).value() == 0s));
  BOOST_TEST(!rate.remaining({.done = 100, .failed = 0, .total = std::nullopt}).has_value());
}

BOOST_AUTO_TEST_CASE(the_line_shows_a_bar_counts_rate_estimate_and_failures) {
  const auto rate = steady(50, 2);
  BOOST_TEST(progress_line({.done = 100, .failed = 3, .total = 200}, rate, 60) ==
             "[#########          ] 100/200 50%  50/s  2.0s left  3 failed");
  BOOST_TEST(progress_line({.done = 100, .failed = 0, .total = std::nullopt}, rate, 60) == "100 done  50/s");
  BOOST_TEST(progress_line({.done = 0, .failed = 0, .total = 0}, RateEstimate{Time{}}, 30).find("100%") !=
             std::string::npos);
}

BOOST_AUTO_TEST_CASE(the_line_fits_every_width) {
  const auto rate = steady(50'000, 2);
  for (std::size_t width = 0; width < 200; ++width)
    BOOST_TEST(progress_line({.done = 100'000, .failed = 12, .total = 1'000'000}, rate, width).size() <= width);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool::cli
