#include "daemon/server/near_names.hpp"

#include <boost/test/unit_test.hpp>

namespace taskpool::server {
namespace {

const std::vector<std::string> kNames{"square", "echo", "sleep", "word_count", "fail"};

BOOST_AUTO_TEST_SUITE(near_name)

BOOST_AUTO_TEST_CASE(a_slip_finds_the_name_that_was_meant) {
  BOOST_TEST(near_names("sqare", kNames) == "; did you mean 'square'?");
  BOOST_TEST(near_names("wordcount", kNames) == "; did you mean 'word_count'?");
  BOOST_TEST(near_names("sleeep", kNames) == "; did you mean 'sleep'?");
}

BOOST_AUTO_TEST_CASE(what_is_near_to_nothing_gets_no_advice) {
  BOOST_TEST(near_names("transmogrify", kNames).empty());
  BOOST_TEST(near_names(std::string(1000, 'x'), kNames).empty());
  BOOST_TEST(near_names("square", {}).empty());
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool::server
