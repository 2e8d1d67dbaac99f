#include "taskpool/value.hpp"

#include <boost/test/unit_test.hpp>
#include <cmath>
#include <limits>

using namespace taskpool;

namespace {

template <class... T>
std::string encoded(const T&... values) {
  return encode_arguments(values...).value().text;
}

template <class T>
Result<T> decoded(std::string_view json) {
  return decode_item<T>(Item::json(json));
}

template <class T>
Item array_of(const std::vector<T>& values) {
  return {array_encoding<T>(), std::as_bytes(std::span{values}), static_cast<std::uint32_t>(values.size())};
}

}  // namespace

BOOST_AUTO_TEST_SUITE(value)

BOOST_AUTO_TEST_CASE(one_argument_is_itself_and_more_are_a_list) {
  BOOST_TEST(encoded(3) == "3");
  BOOST_TEST(encoded() == "[]");
  BOOST_TEST(encoded(1, "two", 3.5, true, nullptr) == R"([1,"two",3.5,true,null])");
  BOOST_TEST(encoded(std::vector{1, 2}) == "[1,2]");
  BOOST_TEST(encoded(std::numeric_limits<std::uint64_t>::max(), std::numeric_limits<std::int64_t>::min()) ==
             "[18446744073709551615,-9223372036854775808]");
}

BOOST_AUTO_TEST_CASE(floats_stay_floats) {
  BOOST_TEST(encoded(2.0) == "2.0");
  BOOST_TEST(encoded(1e300) == "1e+300");
  BOOST_TEST(encoded(std::nan("")) == "null");
  BOOST_TEST(decoded<double>(encoded(0.1)).value() == 0.1);
}

BOOST_AUTO_TEST_CASE(text_is_escaped_and_has_to_be_utf8) {
  BOOST_TEST(encoded("plain") == R"("plain")");
  BOOST_TEST(encoded("a\"b\\c\n\x01") == R"("a\"b\\c\n\u0001")");
  BOOST_TEST(encoded("grün") == "\"grün\"");
  BOOST_TEST((encode_arguments("\xff").error().errc() == Errc::bad_argument));
  BOOST_TEST((encode_arguments(1, "\xff").error().errc() == Errc::bad_argument));
}

BOOST_AUTO_TEST_CASE(bytes_and_spans_are_views) {
  const Bytes bytes(3);
  const auto raw = encode_arguments(bytes).value();
  BOOST_TEST((raw.encoding == Encoding::bytes));
  BOOST_TEST((raw.item().bytes.data() == bytes.data()));
  const std::vector<float> numbers{1, 2, 3};
  const auto array = encode_arguments(std::span{numbers}).value();
  BOOST_TEST((array.encoding == Encoding::f32));
  BOOST_TEST(array.count == 3u);
  BOOST_TEST(array.item().bytes.size() == 12u);
}

BOOST_AUTO_TEST_CASE(numbers_are_read_within_their_range) {
  BOOST_TEST(decoded<int>("-17").value() == -17);
  BOOST_TEST(decoded<int>(" 17 ").value() == 17);
  BOOST_TEST(decoded<int>("3e2").value() == 300);
  BOOST_TEST(decoded<double>("3").value() == 3.0);
  BOOST_TEST(!decoded<int>("3.5"));
  BOOST_TEST(!decoded<std::uint8_t>("256"));
  BOOST_TEST(!decoded<unsigned>("-1"));
  BOOST_TEST(!decoded<std::int64_t>("9223372036854775808"));
  BOOST_TEST(!decoded<std::int64_t>("1e19"));
  BOOST_TEST(!decoded<int>("\"3\""));
  BOOST_TEST(decoded<int>("{").error().detail == "result: want JSON, got {");
  BOOST_TEST(decoded<int>("[1,2]").error().detail == "result: want an integer, got [1,2]");
}

BOOST_AUTO_TEST_CASE(other_types_go_through_json) {
  BOOST_TEST(decoded<bool>("true").value());
  BOOST_TEST(decoded<std::string>("\"a\"").value() == "a");
  BOOST_TEST(decoded<std::string>("\"a\\n\\u00e9\"").value() == "a\né");
  BOOST_TEST(!decoded<std::string>("17"));
  BOOST_TEST((decoded<std::map<std::string, int>>(R"({"a":1})").value() == std::map<std::string, int>{{"a", 1}}));
  BOOST_TEST((decoded<std::vector<std::string>>(R"(["a","b"])").value() == std::vector<std::string>{"a", "b"}));
  BOOST_TEST((decoded<std::vector<int>>(R"(["a"])").error().errc() == Errc::bad_message));
  BOOST_TEST(decoded<nlohmann::json>("[1]").value()[0] == 1);
  BOOST_TEST(decoded<void>("anything").has_value());
}

BOOST_AUTO_TEST_CASE(arrays_are_read_as_any_number) {
  const std::vector<std::int64_t> numbers{1, -2, 300};
  BOOST_TEST(decode_item<std::vector<std::int64_t>>(array_of(numbers)).value() == numbers);
  BOOST_TEST(decode_item<std::vector<double>>(array_of(numbers)).value() == (std::vector<double>{1, -2, 300}));
  BOOST_TEST(!decode_item<std::vector<std::int8_t>>(array_of(numbers)));
  BOOST_TEST(!decode_item<std::vector<unsigned>>(array_of(numbers)));
  BOOST_TEST(decode_item<nlohmann::json>(array_of(numbers)).value().dump() == "[1,-2,300]");
  BOOST_TEST(decode_item<int>(array_of(std::vector<double>{4})).value() == 4);
  BOOST_TEST(!decode_item<int>(array_of(std::vector<double>{4.5})));
}

BOOST_AUTO_TEST_CASE(a_body_can_be_any_of_it) {
  BOOST_TEST(decode_value<Body>(Body{Encoding::bytes, 1, Bytes(5)}).value().bytes().size() == 5u);
  BOOST_TEST(decode_value<Bytes>(Body{Encoding::bytes, 1, Bytes(5)}).value().size() == 5u);
  BOOST_TEST(decode_value<int>(Body{Encoding::bytes, 1, Bytes(1)}).error().detail ==
             "result: want JSON, got encoding bytes");
}

BOOST_AUTO_TEST_SUITE_END()
