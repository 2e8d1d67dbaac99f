#include "proto/store/key.hpp"

#include <boost/test/unit_test.hpp>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "proto/store/hash.hpp"

using namespace taskpool;
using namespace taskpool::store;
using Json = nlohmann::json;

namespace {

Key from(const char* json) { return key_from_json(Json::parse(json)).value(); }

std::string hex(KeyView bytes) {
  std::string text;
  for (const std::byte byte : bytes) {
    char digits[3];
    std::snprintf(digits, sizeof digits, "%02x", static_cast<unsigned>(byte));
    text += digits;
  }
  return text;
}

bool is_key(std::initializer_list<int> bytes) {
  std::string text;
  for (const int byte : bytes) text += static_cast<char>(byte);
  return parse_key(std::as_bytes(std::span{text})).has_value();
}

}  // namespace

BOOST_AUTO_TEST_SUITE(key)

BOOST_AUTO_TEST_CASE(numbers_that_are_equal_are_one_key) {
  for (const char* same : {"1", "1.0", "true"}) BOOST_TEST(hex(from(same)) == "010001");
  for (const char* same : {"0", "0.0", "-0.0", "false"}) BOOST_TEST(hex(from(same)) == "0100");
  BOOST_TEST(hex(from("-1")) == "010101");
  BOOST_TEST(hex(from("256")) == "01000100");
  BOOST_TEST(hex(from("-9223372036854775808")) == "01018000000000000000");
  BOOST_TEST(hex(from("18446744073709551615")) == "0100ffffffffffffffff");
  BOOST_TEST(hex(from("18446744073709551616.0")) == "0100010000000000000000");
  BOOST_TEST((from("1e30") == from(R"({"$integer":"1000000000000000019884624838656"})")));
  BOOST_TEST((from("1e300") == from("1e300")));
  BOOST_TEST(hex(from("0.5")) == "02000000000000e03f");
}

BOOST_AUTO_TEST_CASE(kinds_differ) {
  BOOST_TEST(hex(from("null")) == "00");
  BOOST_TEST(hex(from(R"("1")")) == "0331");
  BOOST_TEST(hex(from(R"({"$bytes":"31"})")) == "0431");
  BOOST_TEST(hex(from(R"({"$opaque":"31"})")) == "0631");
  BOOST_TEST(hex(from(R"([1,"a"])")) == "0502000000"
                                        "03000000"
                                        "010001"
                                        "02000000"
                                        "0361");
  BOOST_TEST(hex(from("[]")) == "0500000000");
}

BOOST_AUTO_TEST_CASE(json_comes_back) {
  for (const char* text : {"null", "0", "-5", "9223372036854775807", "18446744073709551615", "-9223372036854775808",
                           "0.25", R"("text")", R"([1,[2,null],"x"])", R"({"$bytes":"00ff"})", R"({"$opaque":""})",
                           R"({"$integer":"-18446744073709551616"})", R"({"$real":"nan"})", R"({"$real":"-inf"})"})
    BOOST_TEST(key_to_json(from(text)) == Json::parse(text));
}

BOOST_AUTO_TEST_CASE(what_has_no_form_is_refused) {
  for (const char* text : {R"({})", R"({"a":1})", R"({"$bytes":"0"})", R"({"$bytes":"zz"})", R"({"$integer":"1x"})",
                           R"({"$integer":""})", R"({"$real":"1"})", R"({"$bytes":"00","x":"y"})"}) {
    const auto key = key_from_json(Json::parse(text));
    BOOST_REQUIRE(!key);
    BOOST_TEST(key.error().errc() == Errc::bad_argument);
  }
  BOOST_TEST(!key_from_json(Json(std::string(kMaxKeyBytes, 'x'))));
  BOOST_TEST(key_from_json(Json(std::string(kMaxKeyBytes - 1, 'x'))).has_value());
  Json deep = 1;
  for (unsigned level = 0; level < kMaxKeyDepth; ++level) deep = Json::array({deep});
  BOOST_TEST(key_from_json(deep).has_value());
  BOOST_TEST(!key_from_json(Json::array({deep})));
}

BOOST_AUTO_TEST_CASE(bytes_that_are_not_canonical_are_refused) {
  BOOST_TEST(!is_key({}));
  BOOST_TEST(!is_key({0, 0}));
  BOOST_TEST(!is_key({1}));
  BOOST_TEST(!is_key({1, 2, 5}));
  BOOST_TEST(!is_key({1, 1}));
  BOOST_TEST(!is_key({1, 0, 0, 5}));
  BOOST_TEST(!is_key({2, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f}));  // 1.0
  BOOST_TEST(!is_key({2, 1, 0, 0, 0, 0, 0, 0xf8, 0x7f}));  // another NaN
  BOOST_TEST(is_key({2, 0, 0, 0, 0, 0, 0, 0xf8, 0x7f}));
  BOOST_TEST(!is_key({3, 0xc0, 0x80}));              // overlong
  BOOST_TEST(!is_key({3, 0xed, 0xa0, 0x80}));        // a surrogate
  BOOST_TEST(!is_key({3, 0xf4, 0x90, 0x80, 0x80}));  // above U+10FFFF
  BOOST_TEST(!is_key({3, 0xe2, 0x82}));
  BOOST_TEST(is_key({3, 0xe2, 0x82, 0xac}));
  BOOST_TEST(!is_key({5, 1, 0, 0, 0}));
  BOOST_TEST(!is_key({5, 1, 0, 0, 0, 2, 0, 0, 0, 0}));
  BOOST_TEST(!is_key({5, 1, 0, 0, 0, 1, 0, 0, 0, 0, 9}));
  BOOST_TEST(!is_key({7}));
}

BOOST_AUTO_TEST_CASE(a_buffer_builds_the_same) {
  KeyBuffer buffer;
  buffer.set_integer(std::numeric_limits<std::int64_t>::min());
  BOOST_TEST(hex(buffer) == hex(from("-9223372036854775808")));
  buffer.set_real(-std::ldexp(1.5, 200));
  BOOST_TEST(check_key(buffer).has_value());
  BOOST_TEST(key_to_json(buffer).dump() ==
             R"({"$integer":"-2410407066388485413312943138511743903783304490674189252952064"})");
  BOOST_TEST(buffer.set_text("a"));
  const KeyView members[] = {buffer.view(), buffer.view()};
  BOOST_TEST(buffer.set_tuple(members));
  BOOST_TEST((parse_key(buffer).value() == from(R"(["a","a"])")));
  BOOST_TEST(!buffer.set_text(std::string(kMaxKeyBytes, 'x')));
}

BOOST_AUTO_TEST_CASE(a_buffer_is_padded_and_hashes_the_same) {
  KeyBuffer buffer;
  std::string text;
  for (int length = 0; length < 70; ++length) {
    BOOST_TEST(buffer.set_text(text));
    BOOST_TEST(hex(buffer) == hex(key_from_json(Json(text)).value()));
    BOOST_TEST(hash_words(buffer.words(), buffer.size(), 9) == hash_key(buffer, 9));
    text += static_cast<char>('a' + length % 26);
  }
  for (const double real : {0.0, 1.0, -255.0, 65536.0, 1e18, 1e30, -1e300, 0.1}) {
    buffer.set_real(real);
    BOOST_TEST(hex(buffer) == hex(key_from_json(Json(real)).value()));
    BOOST_TEST(check_key(buffer).has_value());
    BOOST_TEST(hash_words(buffer.words(), buffer.size(), 9) == hash_key(buffer, 9));
  }
}

BOOST_AUTO_TEST_CASE(the_hash_is_that_of_the_specification) {
  const auto hash = [](std::string_view text, std::uint64_t seed) {
    return hash_key(std::as_bytes(std::span{text}), seed);
  };
  // The recipe once more, in plain steps.
  const auto plain = [](std::string text, std::uint64_t seed) {
    const std::uint64_t length = text.size();
    text.resize(text.empty() ? 16 : (text.size() + 15) / 16 * 16);
    std::uint64_t state = seed ^ kHash1;
    for (std::size_t at = 0; at < text.size(); at += 16) {
      std::uint64_t pair[2];
      std::memcpy(pair, text.data() + at, 16);
      state = hash_mix(pair[0] ^ kHash2 ^ seed, pair[1] ^ state);
    }
    const std::uint64_t result = hash_mix(state ^ kHash3, length ^ kHash1);
    return result != 0 ? result : 1;
  };
  std::string text;
  for (int length = 0; length < 70; ++length) {
    BOOST_TEST(hash(text, 42) == plain(text, 42));
    text += static_cast<char>('0' + length);
  }
  // PROTOCOL.md's examples.
  BOOST_TEST(hash(std::string_view{"\0", 1}, 0) == 0x735011484ca775fau);
  BOOST_TEST(hash("\3name", 42) == 0x036609997a39d573u);
  BOOST_TEST(hash("\3a key of more than sixteen bytes", 0) == 0xababac7e404997e9u);
  BOOST_TEST(hash("a", 1) != hash("a", 2));
  BOOST_TEST(hash("a", 1) != hash(std::string_view{"a\0", 2}, 1));
}

BOOST_AUTO_TEST_SUITE_END()
