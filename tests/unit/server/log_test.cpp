#include "daemon/log.hpp"

#include <boost/test/unit_test.hpp>

namespace taskpool::log {
namespace {

BOOST_AUTO_TEST_SUITE(log_lines)

BOOST_AUTO_TEST_CASE(plain_words_stay_and_the_rest_is_quoted) {
  BOOST_TEST(escape("worker_lost") == "worker_lost");
  BOOST_TEST(escape("") == "\"\"");
  BOOST_TEST(escape("two words") == "\"two words\"");
  BOOST_TEST(escape("a\"b\\c") == "\"a\\\"b\\\\c\"");
}

BOOST_AUTO_TEST_CASE(a_client_cannot_forge_a_line) {
  BOOST_TEST(escape("x\nlevel=error event=forged") == "\"x\\nlevel=error event=forged\"");
  BOOST_TEST(escape("\x1b[2J") == "\"\\x1b[2J\"");
}

BOOST_AUTO_TEST_CASE(long_text_is_cut) { BOOST_TEST(escape(std::string(1'000'000, 'x')).size() < 3000u); }

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool::log
