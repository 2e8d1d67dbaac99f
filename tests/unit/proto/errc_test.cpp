#include "proto/errc.hpp"

#include <boost/system/system_error.hpp>
#include <boost/test/unit_test.hpp>
#include <sstream>
#include <string>

#include "proto/result.hpp"

namespace taskpool {
namespace {

BOOST_AUTO_TEST_SUITE(errc)

BOOST_AUTO_TEST_CASE(every_code_has_a_name_that_leads_back_to_it) {
  for (int value = 0; value <= static_cast<int>(Errc::internal); ++value) {
    const auto code = static_cast<Errc>(value);
    BOOST_TEST(!name(code).empty());
    BOOST_TEST((find_errc(name(code)) == code), name(code));
    BOOST_TEST(make_error_code(code).message() == name(code));
  }
  BOOST_TEST(name(Errc::worker_lost) == "worker_lost");
  BOOST_TEST(name(Errc::internal) == "internal");
}

BOOST_AUTO_TEST_CASE(what_is_no_code_has_no_name_of_one) {
  BOOST_TEST(!find_errc(""));
  BOOST_TEST(!find_errc("Worker_lost"));
  BOOST_TEST(name(static_cast<Errc>(200)) == "internal");
  BOOST_TEST(taskpool_category().message(200) == "unknown error 200");
  BOOST_TEST(taskpool_category().message(-1) == "unknown error -1");
}

BOOST_AUTO_TEST_CASE(a_code_prints_as_its_name) {
  std::ostringstream out;
  out << Errc::queue_full;
  BOOST_TEST(out.str() == "queue_full");
}

BOOST_AUTO_TEST_CASE(an_error_of_the_system_counts_as_system) {
  const auto error = errno_error("open /nowhere", ENOENT);
  BOOST_TEST((error.errc() == Errc::system));
  BOOST_TEST(error.detail == "open /nowhere: No such file or directory");
  BOOST_TEST((fail(Errc::timed_out, "late").errc() == Errc::timed_out));
}

BOOST_AUTO_TEST_CASE(the_value_of_an_error_throws_its_code_and_detail) {
  const Result<int> result = fail(Errc::unknown_pool, "pool \"gpu\"");
  try {
    (void)result.value();
    BOOST_ERROR("did not throw");
  } catch (const boost::system::system_error& thrown) {
    BOOST_TEST((thrown.code() == Errc::unknown_pool));
    BOOST_TEST(std::string{thrown.what()}.find("pool \"gpu\"") != std::string::npos);
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool
