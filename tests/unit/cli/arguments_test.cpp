#include "client/cli/arguments.hpp"

#include <boost/test/unit_test.hpp>

namespace taskpool::cli {
namespace {

using namespace std::chrono_literals;

BOOST_AUTO_TEST_SUITE(arguments)

BOOST_AUTO_TEST_CASE(durations_have_a_unit_or_are_seconds) {
  BOOST_TEST((parse_duration("2").value() == 2s));
  BOOST_TEST((parse_duration("1.5").value() == 1500ms));
  BOOST_TEST((parse_duration("250ms").value() == 250ms));
  BOOST_TEST((parse_duration("2m").value() == 2min));
  BOOST_TEST((parse_duration("1h").value() == 1h));
  BOOST_TEST((parse_duration("1d").value() == 24h));
  BOOST_TEST((parse_duration("0").value() == 0ms));
  BOOST_TEST((parse_duration("0.0001").value() == 1ms));  // never 0, which would mean no limit
}

BOOST_AUTO_TEST_CASE(what_is_no_duration_is_an_error) {
  for (const char* text : {"", "s", "-1", "1 s", "1x", "nan", "inf", "1e3", "99d", "0x10", "1s2"})
    BOOST_TEST(parse_duration(text).has_error(), text);
}

BOOST_AUTO_TEST_CASE(json_stays_as_it_was_written) {
  BOOST_TEST(to_item("1.50", Format::json).value() == "1.50");
  BOOST_TEST(to_item("{\"a\": [1]}", Format::json).value() == "{\"a\": [1]}");
  for (const char* text : {"", "abc", "[1,", "1 2", "{'a': 1}", "nan"}) {
    const auto item = to_item(text, Format::json);
    BOOST_REQUIRE(item.has_error());
    BOOST_TEST(item.error().detail.find("--lines") != std::string::npos);
  }
}

BOOST_AUTO_TEST_CASE(text_becomes_a_json_string) {
  BOOST_TEST(to_item("1", Format::text).value() == "\"1\"");
  BOOST_TEST(to_item("a \"b\"\n", Format::text).value() == R"("a \"b\"\n")");
  BOOST_TEST(to_item("\xff", Format::text).has_error());
}

BOOST_AUTO_TEST_CASE(one_argument_is_the_item_and_several_are_a_list) {
  BOOST_TEST(to_arguments({}, Format::json).value() == "[]");
  BOOST_TEST(to_arguments({"[1]"}, Format::json).value() == "[1]");
  BOOST_TEST(to_arguments({"1", "\"b\""}, Format::json).value() == "[1, \"b\"]");
  BOOST_TEST(to_arguments({"a", "b"}, Format::text).value() == "[\"a\", \"b\"]");
  BOOST_TEST(to_arguments({"1", "x"}, Format::json).error().detail.starts_with("argument 2:"));
}

BOOST_AUTO_TEST_CASE(starred_items_are_lists_of_arguments) {
  BOOST_TEST(to_starred("[1, 2]").value() == "[1, 2]");
  BOOST_TEST(to_starred("[ 7 ]").value() == "7");
  BOOST_TEST(to_starred("[[7]]").value() == "[7]");
  BOOST_TEST(to_starred("7").has_error());
}

BOOST_AUTO_TEST_CASE(a_command_is_a_list_of_text) {
  BOOST_TEST(to_command({"echo", "a \"b\"", ""}).value() == R"(["echo","a \"b\"",""])");
  BOOST_TEST(to_command({"echo", "\xc3"}).has_error());
}

BOOST_AUTO_TEST_CASE(numbers_become_elements_of_their_type_or_are_refused) {
  BOOST_TEST(to_number("-2", Encoding::i8).value() == "\xfe");
  BOOST_TEST(to_number("513", Encoding::u16).value() == std::string("\x01\x02", 2));
  BOOST_TEST(to_number("1e3", Encoding::f64).value().size() == 8u);
  BOOST_TEST(to_number("300", Encoding::u8).error().detail == "'300' is no number of type u8");
  for (const auto* text : {"", " 1", "1 ", "1.5", "-1", "x", "0x1"})
    BOOST_TEST((to_number(text, Encoding::u64).error().errc() == Errc::bad_argument));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool::cli
