#include "daemon/runtime/command_output.hpp"

#include <boost/test/unit_test.hpp>
#include <string>

namespace {

using taskpool::runtime::BoundedOutput;
using taskpool::runtime::output_to_json;

std::string kept(const BoundedOutput& output) { return output.head() + "|" + output.tail(); }

BOOST_AUTO_TEST_SUITE(command_output)

BOOST_AUTO_TEST_CASE(within_the_bound_everything_is_kept) {
  BoundedOutput output{10};
  output.add("12345");
  output.add("67890");
  BOOST_TEST(!output.truncated());
  BOOST_TEST(kept(output) == "12345|67890");
  BOOST_TEST(output_to_json(output) == "1234567890");
}

BOOST_AUTO_TEST_CASE(beyond_it_the_middle_goes_however_the_bytes_arrive) {
  const std::string text = "abcdefghijklmnopqrstuvwxyz0123456789";
  for (std::size_t piece = 1; piece <= text.size(); ++piece) {
    BoundedOutput output{11};
    for (std::size_t i = 0; i < text.size(); i += piece) output.add(std::string_view{text}.substr(i, piece));
    BOOST_TEST(kept(output) == "abcdef|56789");
    BOOST_TEST(output.total() == text.size());
    BOOST_TEST(output.truncated());
    BOOST_TEST(output_to_json(output) == "abcdef\n[25 bytes left out]\n56789");
  }
}

BOOST_AUTO_TEST_CASE(a_bound_of_nothing_only_counts) {
  BoundedOutput output{0};
  output.add("abc");
  BOOST_TEST(output.total() == 3u);
  BOOST_TEST(output.truncated());
  BOOST_TEST(kept(output) == "|");
}

BOOST_AUTO_TEST_CASE(a_cut_character_does_not_make_text_binary) {
  BoundedOutput output{10};  // 5 bytes each: two and a half of these two-byte characters
  output.add("\u00e4\u00f6\u00fc\u00e4\u00f6\u00fc\u00e4\u00f6\u00fc");
  BOOST_TEST(output_to_json(output) == "\u00e4\u00f6\n[10 bytes left out]\n\u00f6\u00fc");
}

BOOST_AUTO_TEST_CASE(what_is_not_utf8_travels_as_base64) {
  const auto encoded = [](std::string_view bytes) {
    BoundedOutput output{100};
    output.add(bytes);
    return output_to_json(output);
  };
  BOOST_TEST(encoded("\xff") == (nlohmann::json{{"base64", "/w=="}}));
  BOOST_TEST(encoded("\xff\xfe") == (nlohmann::json{{"base64", "//4="}}));
  BOOST_TEST(encoded("ab\xff") == (nlohmann::json{{"base64", "YWL/"}}));
  for (const auto* bad : {"\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", "\x80", "\xf0\x80\x80\x80"})
    BOOST_TEST(encoded(bad).is_object());
  BOOST_TEST(encoded("\u20ac \U0001f600") == "\u20ac \U0001f600");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
