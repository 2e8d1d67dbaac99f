#include "daemon/store/expiry.hpp"

#include <boost/test/unit_test.hpp>

namespace taskpool::store {
namespace {

constexpr ObjectId kOne{7};
constexpr ObjectId kOther{8};

std::string take(Expiry& expiry, std::uint64_t now) {
  const auto due = expiry.take_due(now);
  return due ? due->second : "nothing";
}

BOOST_AUTO_TEST_SUITE(expiry)

BOOST_AUTO_TEST_CASE(entries_end_in_the_order_of_their_times) {
  Expiry expiry;
  BOOST_TEST(!expiry.next().has_value());
  expiry.note(kOne, "late", 30);
  expiry.note(kOne, "early", 10);
  expiry.note(kOther, "middle", 20);
  BOOST_TEST(expiry.next().value() == 10u);
  BOOST_TEST(take(expiry, 9) == "nothing");
  BOOST_TEST(take(expiry, 25) == "early");
  BOOST_TEST(take(expiry, 25) == "middle");
  BOOST_TEST(take(expiry, 25) == "nothing");
  BOOST_TEST(take(expiry, 30) == "late");
  BOOST_TEST(expiry.size() == 0u);
}

BOOST_AUTO_TEST_CASE(a_new_time_replaces_the_old_one) {
  Expiry expiry;
  for (std::uint64_t when = 10; when < 1000; ++when) expiry.note(kOne, "a", when);
  expiry.note(kOther, "a", 5);
  BOOST_TEST(expiry.size() == 2u);
  BOOST_TEST(take(expiry, 5) == "a");
  BOOST_TEST(expiry.next().value() == 999u);
  BOOST_TEST(take(expiry, 998) == "nothing");
  BOOST_TEST(take(expiry, 999) == "a");
}

BOOST_AUTO_TEST_CASE(what_is_gone_is_forgotten) {
  Expiry expiry;
  expiry.note(kOne, "a", 10);
  expiry.note(kOne, "b", 20);
  expiry.note(kOther, "c", 30);
  expiry.forget(kOne);
  BOOST_TEST(expiry.size() == 1u);
  BOOST_TEST(take(expiry, 100) == "c");
  BOOST_TEST(take(expiry, 100) == "nothing");
  BOOST_TEST(!expiry.next().has_value());
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool::store
