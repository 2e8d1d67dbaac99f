#include "client/cli/words.hpp"

#include <boost/test/unit_test.hpp>

namespace taskpool::cli {
namespace {

using Words = std::vector<std::string>;

BOOST_AUTO_TEST_SUITE(words)

BOOST_AUTO_TEST_CASE(blanks_separate_words) {
  BOOST_TEST(split_words("gzip -t  a\tb\nc ").value() == (Words{"gzip", "-t", "a", "b", "c"}));
  BOOST_TEST(split_words("").value().empty());
  BOOST_TEST(split_words("  \t ").value().empty());
}

BOOST_AUTO_TEST_CASE(quotes_keep_blanks_and_join_with_what_touches_them) {
  BOOST_TEST(split_words("a 'b c' \"d e\"f").value() == (Words{"a", "b c", "d ef"}));
  BOOST_TEST(split_words("''").value() == (Words{""}));
  BOOST_TEST(split_words("x'y'\"z\"").value() == (Words{"xyz"}));
}

BOOST_AUTO_TEST_CASE(a_backslash_quotes_as_in_a_shell) {
  BOOST_TEST(split_words(R"(a\ b)").value() == (Words{"a b"}));
  BOOST_TEST(split_words(R"("a\"b\n")").value() == (Words{"a\"b\\n"}));
  BOOST_TEST(split_words(R"('a\b')").value() == (Words{"a\\b"}));
}

BOOST_AUTO_TEST_CASE(nothing_is_expanded) {
  BOOST_TEST(split_words("$HOME *.c `x`").value() == (Words{"$HOME", "*.c", "`x`"}));
}

BOOST_AUTO_TEST_CASE(an_open_quote_is_an_error) {
  for (const char* text : {"'a", "a \"b", "\"a\\\"", "a\\"})
    BOOST_TEST((split_words(text).error().errc() == Errc::bad_argument), text);
}

BOOST_AUTO_TEST_CASE(words_that_need_a_shell_are_an_error_unless_quoted) {
  BOOST_TEST(split_words("a | b").error().detail.find("sh -c") != std::string::npos);
  BOOST_TEST(split_words("a >b").has_value());  // one word, as `>b` may well be an argument
  BOOST_TEST(split_words("a > b").has_error());
  BOOST_TEST(split_words("a '|' b").value() == (Words{"a", "|", "b"}));
}

BOOST_AUTO_TEST_CASE(the_input_replaces_every_placeholder) {
  const auto command = CommandTemplate::parse("cp {} 'to/{}.{}'").value();
  BOOST_TEST(command.fill("a b") == (Words{"cp", "a b", "to/a b.a b"}));
}

BOOST_AUTO_TEST_CASE(without_a_placeholder_the_input_comes_last) {
  BOOST_TEST(CommandTemplate::parse("gzip -t").value().fill("x") == (Words{"gzip", "-t", "x"}));
}

BOOST_AUTO_TEST_CASE(an_input_is_never_split_or_replaced_again) {
  BOOST_TEST(CommandTemplate::parse("echo {}").value().fill("'{} $x; |'") == (Words{"echo", "'{} $x; |'"}));
  BOOST_TEST(CommandTemplate::parse("echo {}").value().fill("") == (Words{"echo", ""}));
}

BOOST_AUTO_TEST_CASE(a_template_needs_a_word) {
  BOOST_TEST(CommandTemplate::parse("").has_error());
  BOOST_TEST(CommandTemplate::parse("  ").has_error());
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool::cli
