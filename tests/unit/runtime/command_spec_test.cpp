#include "daemon/runtime/command_spec.hpp"

#include <boost/test/unit_test.hpp>

namespace {

using namespace taskpool;
using namespace taskpool::runtime;

std::string why_not(std::string_view item, std::string_view options = "") {
  const auto spec = read_command(item, options);
  if (spec) return "accepted";
  BOOST_TEST(spec.error().errc() == Errc::bad_argument);
  return spec.error().detail;
}

BOOST_AUTO_TEST_SUITE(command_spec)

BOOST_AUTO_TEST_CASE(an_array_is_the_words) {
  const auto spec = read_command(R"(["gzip", "-t", "a b\n"])", "").value();
  BOOST_TEST((spec.argv == std::vector<std::string>{"gzip", "-t", "a b\n"}));
  BOOST_TEST(spec.cwd.empty());
  BOOST_TEST(spec.stdin_text.empty());
  BOOST_TEST(!spec.keep_output);
  BOOST_TEST(spec.max_output_bytes == kDefaultOutputBytes);
}

BOOST_AUTO_TEST_CASE(an_object_overrides_the_options_of_the_call) {
  const auto spec = read_command(R"({"argv": ["x"], "cwd": "/b", "environment": {"B": "2", "C": "3"}, "stdin": "in"})",
                                 R"({"cwd": "/a", "environment": {"A": "1", "B": "1"}, "keep_output": true})")
                        .value();
  BOOST_TEST(spec.cwd == "/b");
  BOOST_TEST((spec.environment == std::map<std::string, std::string>{{"A", "1"}, {"B", "2"}, {"C", "3"}}));
  BOOST_TEST(spec.stdin_text == "in");
  BOOST_TEST(spec.keep_output);
}

BOOST_AUTO_TEST_CASE(what_is_wrong_names_the_field) {
  BOOST_TEST(why_not("").find("argv") != std::string::npos);
  BOOST_TEST(why_not("[\"a\"").find("argv") != std::string::npos);
  BOOST_TEST(why_not("[\"a\"],\"cwd\":\"/\"").find("argv") != std::string::npos);
  BOOST_TEST(why_not("[]").find("argv") != std::string::npos);
  BOOST_TEST(why_not("[\"\"]").find("argv") != std::string::npos);
  BOOST_TEST(why_not("[1]").find("argv") != std::string::npos);
  BOOST_TEST(why_not("{}").find("argv") != std::string::npos);
  BOOST_TEST(why_not("7") != "accepted");
  BOOST_TEST(why_not(R"(["a", "b\u0000c"])").find("word 1") != std::string::npos);
  BOOST_TEST(why_not(R"({"argv": ["a"], "cwdd": "/"})").find("cwdd") != std::string::npos);
  BOOST_TEST(why_not(R"({"argv": ["a"], "cwd": 3})").find("cwd") != std::string::npos);
  BOOST_TEST(why_not(R"(["a"])", R"({"environment": {"A=B": "x"}})").find("environment") != std::string::npos);
  BOOST_TEST(why_not(R"(["a"])", R"({"max_output_bytes": -1})").find("max_output_bytes") != std::string::npos);
  BOOST_TEST(why_not(R"(["a"])", "nonsense") != "accepted");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
