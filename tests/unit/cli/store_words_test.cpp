#include "client/cli/store_words.hpp"

#include <boost/test/unit_test.hpp>

namespace taskpool::cli {
namespace {

std::string parsed(std::string_view word, Format format = Format::json) {
  const auto json = parse_word(word, format);
  return json ? json->dump() : std::string{name(json.error().errc())};
}

BOOST_AUTO_TEST_SUITE(store_words)

BOOST_AUTO_TEST_CASE(a_word_is_json_where_it_can_be) {
  BOOST_TEST(parsed("3") == "3");
  BOOST_TEST(parsed("-2.5") == "-2.5");
  BOOST_TEST(parsed("true") == "true");
  BOOST_TEST(parsed("[1, 2]") == "[1,2]");
  BOOST_TEST(parsed("apples") == "\"apples\"");
  BOOST_TEST(parsed("\"apples\"") == "\"apples\"");
  BOOST_TEST(parsed("") == "\"\"");
  BOOST_TEST(parsed("3 apples") == "\"3 apples\"");
  for (const char* broken : {"{a", "[1", "\"open"}) BOOST_TEST(parsed(broken) == "bad_argument");
  BOOST_TEST(parsed("\xff") == "bad_argument");
}

BOOST_AUTO_TEST_CASE(with_lines_it_is_text) {
  BOOST_TEST(parsed("3", Format::text) == "\"3\"");
  BOOST_TEST(parsed("{a", Format::text) == "\"{a\"");
}

BOOST_AUTO_TEST_CASE(values_are_stored_without_blanks) {
  const auto value = value_of("{ \"a\" : 1 }", Format::json);
  BOOST_TEST(value.value().text() == "{\"a\":1}");
  BOOST_TEST((value->encoding() == Encoding::json));
}

BOOST_AUTO_TEST_CASE(a_stored_number_is_no_list) {
  const auto numbers = [](std::vector<std::int64_t> values) {
    const auto bytes = std::as_bytes(std::span{values});
    return Body{Encoding::i64, static_cast<std::uint32_t>(values.size()), Bytes(bytes.begin(), bytes.end())};
  };
  BOOST_TEST(render_value(numbers({-42}), Format::json).value() == "-42");
  BOOST_TEST(render_value(numbers({1, 2}), Format::json).value() == "[1, 2]");
  BOOST_TEST(render_value(value_of("[5]", Format::json).value(), Format::json).value() == "[5]");
}

BOOST_AUTO_TEST_CASE(whole_numbers_are_checked) {
  BOOST_TEST(parse_integer("-7").value() == -7);
  for (const char* wrong : {"", "1.5", "x", "99999999999999999999"}) BOOST_TEST(!parse_integer(wrong).has_value());
}

BOOST_AUTO_TEST_CASE(keys_are_shown_as_they_are_given) {
  BOOST_TEST(key_text("a", Format::json) == "\"a\"");
  BOOST_TEST(key_text("a", Format::text) == "a");
  BOOST_TEST(key_text({1, "a"}, Format::text) == "[1,\"a\"]");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool::cli
