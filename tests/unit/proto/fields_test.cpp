#include "proto/fields.hpp"

#include <boost/test/unit_test.hpp>
#include <functional>
#include <string>

namespace taskpool {
namespace {

/// The detail of the error that reading `head` by `read` ends in, or "".
std::string wrong(std::string_view head, const std::function<void(Fields&)>& read, bool strict = true) {
  Fields fields{head};
  read(fields);
  const auto done = fields.finish(strict);
  if (done) return "";
  BOOST_TEST((done.error().errc() == Errc::bad_message));
  return done.error().detail;
}

BOOST_AUTO_TEST_SUITE(fields)

BOOST_AUTO_TEST_CASE(an_empty_head_is_an_object_without_fields) {
  std::string text = "default";
  BOOST_TEST(wrong("", [&](Fields& in) { in.text("a", text, 9); }) == "");
  BOOST_TEST(text == "default");
  BOOST_TEST(wrong("", [](Fields& in) { in.require("a"); }) == "a: missing");
}

BOOST_AUTO_TEST_CASE(what_is_no_object_is_refused) {
  for (const char* head :
       {"[]", "1", "null", "\"a\"", "{", "{}x", "{\"a\":}", "{\"a\":1,}", "{\"a\":\"\xff\"}", "{\"a\":1e999}"})
    BOOST_TEST(wrong(head, [](Fields&) {}) == "head: not a JSON object", head);
}

BOOST_AUTO_TEST_CASE(integers_are_integers_in_their_range) {
  std::uint32_t value = 5;
  const auto read = [&](Fields& in) { in.integer("n", value, 100); };
  BOOST_TEST(wrong(R"({"n":100})", read) == "");
  BOOST_TEST(value == 100u);
  BOOST_TEST(wrong(R"({"n":101})", read) == "n: above 100");
  for (const char* head : {R"({"n":-1})", R"({"n":3.0})", R"({"n":3.7})", R"({"n":"3"})", R"({"n":true})",
                           R"({"n":null})", R"({"n":18446744073709551616})"})
    BOOST_TEST(wrong(head, read) == "n: want an integer >= 0", head);
  BOOST_TEST(value == 100u);

  std::uint64_t large = 0;
  BOOST_TEST(wrong(R"({"n":18446744073709551615})", [&](Fields& in) { in.integer("n", large, ~0ull); }) == "");
  BOOST_TEST(large == ~0ull);
}

BOOST_AUTO_TEST_CASE(signed_integers_have_both_ends) {
  int value = 0;
  const auto read = [&](Fields& in) { in.integer("n", value, -100, 100); };
  BOOST_TEST(wrong(R"({"n":-100})", read) == "");
  BOOST_TEST(value == -100);
  BOOST_TEST(wrong(R"({"n":-101})", read) == "n: want an integer from -100 to 100");
  BOOST_TEST(wrong(R"({"n":4294967297})", read) == "n: want an integer from -100 to 100");
  BOOST_TEST(wrong(R"({"n":1.5})", read) == "n: want an integer");

  std::int64_t wide = 0;
  const auto read_wide = [&](Fields& in) { in.integer("n", wide); };
  BOOST_TEST(wrong(R"({"n":-9223372036854775808})", read_wide) == "");
  BOOST_TEST(wide == INT64_MIN);
  BOOST_TEST(wrong(R"({"n":9223372036854775808})", read_wide) == "n: above 9223372036854775807");
}

BOOST_AUTO_TEST_CASE(an_optional_field_is_empty_unless_present) {
  std::optional<std::uint32_t> timeout;
  std::optional<int> priority;
  std::optional<double> done;
  const auto read = [&](Fields& in) {
    in.integer("timeout", timeout, 10);
    in.integer("priority", priority, -1, 1);
    in.number("done", done);
  };
  BOOST_TEST(wrong("{}", read) == "");
  BOOST_TEST((!timeout && !priority && !done));
  BOOST_TEST(wrong(R"({"timeout":0,"priority":-1,"done":0.5})", read) == "");
  BOOST_TEST((timeout == 0u && priority == -1 && done == 0.5));
  BOOST_TEST(wrong(R"({"timeout":11})", read) == "timeout: above 10");
}

BOOST_AUTO_TEST_CASE(texts_numbers_and_truths_are_not_mistaken_for_one_another) {
  std::string text;
  double number = 0;
  bool truth = false;
  BOOST_TEST(wrong(R"({"t":7})", [&](Fields& in) { in.text("t", text, 9); }) == "t: want a text");
  BOOST_TEST(wrong(R"({"t":"0123456789"})", [&](Fields& in) { in.text("t", text, 9); }) == "t: longer than 9 bytes");
  BOOST_TEST(wrong(R"({"t":"1"})", [&](Fields& in) { in.number("t", number); }) == "t: want a number");
  BOOST_TEST(wrong(R"({"t":3})", [&](Fields& in) { in.number("t", number); }) == "");
  BOOST_TEST(number == 3.0);
  BOOST_TEST(wrong(R"({"t":1})", [&](Fields& in) { in.boolean("t", truth); }) == "t: want true or false");
  BOOST_TEST(wrong(R"({"t":true})", [&](Fields& in) { in.boolean("t", truth); }) == "");
  BOOST_TEST(truth);
}

BOOST_AUTO_TEST_CASE(lists_and_maps_of_texts_are_bounded) {
  std::vector<std::string> list;
  const auto read_list = [&](Fields& in) { in.texts("l", list, 2, 3); };
  BOOST_TEST(wrong(R"({"l":["a","bcd"]})", read_list) == "");
  BOOST_TEST((list == std::vector<std::string>{"a", "bcd"}));
  BOOST_TEST(wrong(R"({"l":["a","b","c"]})", read_list) == "l: more than 2");
  BOOST_TEST(wrong(R"({"l":["abcd"]})", read_list) == "l: longer than 3 bytes");
  BOOST_TEST(wrong(R"({"l":[1]})", read_list) == "l: want a list of texts");
  BOOST_TEST(wrong(R"({"l":"a"})", read_list) == "l: want a list of texts");

  std::map<std::string, std::string> map;
  const auto read_map = [&](Fields& in) { in.text_map("m", map, 1, 3); };
  BOOST_TEST(wrong(R"({"m":{"A":"b"}})", read_map) == "");
  BOOST_TEST(map.at("A") == "b");
  BOOST_TEST(wrong(R"({"m":{"A":"b","B":"c"}})", read_map) == "m: more than 1");
  BOOST_TEST(wrong(R"({"m":{"A":1}})", read_map) == "m: want an object of texts");
  BOOST_TEST(wrong(R"({"m":{"ABCD":""}})", read_map) == "m: longer than 3 bytes");
  BOOST_TEST(wrong(R"({"m":[]})", read_map) == "m: want an object of texts");
}

BOOST_AUTO_TEST_CASE(a_raw_value_is_kept_as_text) {
  std::string raw;
  const auto read = [&](Fields& in) { in.raw("r", raw, Json::value_t::array); };
  BOOST_TEST(wrong(R"({"r": [1, {"a": "\u00e4"}]})", read) == "");
  BOOST_TEST(raw == "[1,{\"a\":\"\u00e4\"}]");
  BOOST_TEST(wrong(R"({"r":{}})", read) == "r: want an array");
}

BOOST_AUTO_TEST_CASE(inner_objects_report_to_the_outer_one) {
  std::uint32_t value = 0;
  const auto read = [&](Fields& in) {
    if (auto inner = in.object("o")) {
      inner->integer("n", value, 9);
      in.join("o", inner->finish(true));
    }
    for (auto& each : in.objects("list", 2)) {
      each.require("n");
      in.join("list", each.finish(false));
    }
  };
  BOOST_TEST(wrong(R"({"o":{"n":3},"list":[{"n":1},{"n":2,"new":0}]})", read) == "");
  BOOST_TEST(value == 3u);
  BOOST_TEST(wrong(R"({"o":{"n":10}})", read) == "o: n: above 9");
  BOOST_TEST(wrong(R"({"o":{"x":1}})", read) == "o: x: unknown field");
  BOOST_TEST(wrong(R"({"o":[]})", read) == "o: not a JSON object");
  BOOST_TEST(wrong(R"({"list":[{}]})", read) == "list: n: missing");
  BOOST_TEST(wrong(R"({"list":{}})", read) == "list: want a list of objects");
  BOOST_TEST(wrong(R"({"list":[{},{},{}]})", read) == "list: more than 2");
  BOOST_TEST(wrong(R"({"list":[1]})", read) == "list: not a JSON object");
}

BOOST_AUTO_TEST_CASE(unknown_fields_are_refused_only_when_strict) {
  BOOST_TEST(wrong(R"({"new":1})", [](Fields&) {}) == "new: unknown field");
  BOOST_TEST(wrong(R"({"new":1})", [](Fields&) {}, false) == "");
}

BOOST_AUTO_TEST_CASE(the_first_thing_wrong_is_what_is_reported) {
  std::uint32_t value = 0;
  BOOST_TEST(wrong(R"({"a":-1,"b":-1,"c":0})", [&](Fields& in) {
               in.integer("a", value, 1);
               in.integer("b", value, 1);
               in.reject("c", "wrong too");
             }) == "a: want an integer >= 0");
}

BOOST_AUTO_TEST_CASE(json_nested_too_deeply_is_refused_before_it_is_parsed) {
  const auto nested = [](std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  BOOST_TEST(parse_json(nested(kMaxJsonDepth)).has_value());
  BOOST_TEST(!parse_json(nested(kMaxJsonDepth + 1)));
  BOOST_TEST(!parse_json(std::string(60'000, '[')));
  BOOST_TEST(parse_json("\"" + std::string(1000, '[') + "\\\"{\"").has_value());  // brackets in text do not count
  std::string wide = "[";
  for (int i = 0; i < 200; ++i) wide += "[],";
  BOOST_TEST(parse_json(wide + "[]]").has_value());
}

BOOST_AUTO_TEST_CASE(text_that_is_not_utf8_is_repaired_when_written) {
  BOOST_TEST(dump_json(Json("a\xff"
                            "b")) == "\"a\xef\xbf\xbd"
                                     "b\"");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool
