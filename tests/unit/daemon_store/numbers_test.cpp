#include "daemon/store/numbers.hpp"

#include <bit>
#include <boost/test/unit_test.hpp>
#include <limits>

namespace taskpool::store {
namespace {

constexpr auto kI64 = Encoding::i64;
constexpr auto kF64 = Encoding::f64;
constexpr auto kJson = Encoding::json;

template <class T>
std::string raw(T value) {
  return std::string{reinterpret_cast<const char*>(&value), sizeof value};
}

/// The sum's bytes, or the name of the error.
std::string sum(Encoding encoding, const std::string& value, Encoding by, const std::string& delta) {
  const auto result = add(encoding, as_bytes(value), by, as_bytes(delta));
  if (!result) return std::string{name(result.error().errc())};
  BOOST_TEST((result->encoding == encoding));
  return result->bytes;
}

BOOST_AUTO_TEST_SUITE(numbers)

BOOST_AUTO_TEST_CASE(sums_have_the_encoding_of_what_was_there) {
  BOOST_TEST(sum(kI64, raw(std::int64_t{5}), kI64, raw(std::int64_t{-7})) == raw(std::int64_t{-2}));
  BOOST_TEST(sum(kI64, raw(std::int64_t{5}), kJson, "2") == raw(std::int64_t{7}));
  BOOST_TEST(sum(kF64, raw(0.5), kI64, raw(std::int64_t{1})) == raw(1.5));
  BOOST_TEST(sum(kF64, raw(0.5), kJson, "0.25") == raw(0.75));
  BOOST_TEST(sum(kJson, "5", kJson, "-6") == "-1");
  BOOST_TEST(sum(kJson, "0", kI64, raw(std::int64_t{1})) == "1");
  BOOST_TEST(sum(kJson, "1", kJson, "0.5") == "1.5");
  BOOST_TEST(sum(kJson, "1.5", kJson, "0.5") == "2.0");
  BOOST_TEST(sum(kJson, " 7 ", kJson, "1") == "8");
  BOOST_TEST(sum(kJson, "1e2", kJson, "1") == "101.0");
}

BOOST_AUTO_TEST_CASE(what_is_no_number_is_a_wrong_type) {
  for (const char* text : {"", "x", "\"1\"", "null", "true", "[1]", "01", "+1", "1 2", "-", "--1", "0x1", "nan"}) {
    BOOST_TEST_CONTEXT(text) {
      BOOST_TEST(sum(kJson, text, kJson, "1") == "wrong_type");
      BOOST_TEST(sum(kJson, "1", kJson, text) == "wrong_type");
    }
  }
  BOOST_TEST(sum(Encoding::bytes, "1", kJson, "1") == "wrong_type");
  BOOST_TEST(sum(Encoding::none, "", kJson, "1") == "wrong_type");
  BOOST_TEST(sum(kI64, "1234", kI64, raw(std::int64_t{1})) == "wrong_type");
  BOOST_TEST(sum(kI64, raw(std::int64_t{1}) + raw(std::int64_t{1}), kI64, raw(std::int64_t{1})) == "wrong_type");
  BOOST_TEST(sum(kI64, raw(std::int64_t{1}), kJson, "0.5") == "wrong_type");
  BOOST_TEST(sum(kI64, raw(std::int64_t{1}), kF64, raw(0.5)) == "wrong_type");
}

BOOST_AUTO_TEST_CASE(what_is_too_large_is_out_of_range) {
  constexpr auto kMax = std::numeric_limits<std::int64_t>::max();
  constexpr auto kMin = std::numeric_limits<std::int64_t>::min();
  BOOST_TEST(sum(kI64, raw(kMax), kI64, raw(std::int64_t{1})) == "out_of_range");
  BOOST_TEST(sum(kI64, raw(kMin), kI64, raw(std::int64_t{-1})) == "out_of_range");
  BOOST_TEST(sum(kI64, raw(kMax), kI64, raw(kMin)) == raw(std::int64_t{-1}));
  BOOST_TEST(sum(kJson, std::to_string(kMax), kJson, "1") == "out_of_range");
  BOOST_TEST(sum(kJson, "9223372036854775808", kJson, "1") == "out_of_range");
  BOOST_TEST(sum(kJson, std::to_string(kMin), kJson, "0") == std::to_string(kMin));
  BOOST_TEST(sum(kJson, "1e308", kJson, "1e308") == "out_of_range");
  BOOST_TEST(sum(kF64, raw(1e308), kF64, raw(1e308)) == raw(std::numeric_limits<double>::infinity()));
}

template <class T>
void survives(Encoding type, std::initializer_list<T> values) {
  for (const T value : values) {
    std::byte element[sizeof(T)];
    store_le(element, value);
    const auto word = to_word(type, element);
    std::byte again[sizeof(T)]{};
    from_word(type, word, again);
    BOOST_TEST(load<T>(again) == value);
  }
}

BOOST_AUTO_TEST_CASE(elements_survive_as_words) {
  survives<std::int8_t>(Encoding::i8, {0, 1, -1, 127, -128});
  survives<std::int16_t>(Encoding::i16, {0, -1, 32767, -32768});
  survives<std::int32_t>(Encoding::i32, {0, -1, 2147483647});
  survives<std::int64_t>(Encoding::i64, {0, -1, std::numeric_limits<std::int64_t>::min()});
  survives<std::uint8_t>(Encoding::u8, {0, 255});
  survives<std::uint16_t>(Encoding::u16, {0, 65535});
  survives<std::uint32_t>(Encoding::u32, {0, 4294967295u});
  survives<std::uint64_t>(Encoding::u64, {0, ~std::uint64_t{0}});
  survives<float>(Encoding::f32, {0.0f, -1.5f, 3e38f});
  survives<double>(Encoding::f64, {0.0, -1.5, 1e308});
}

BOOST_AUTO_TEST_CASE(words_add_up_within_their_type) {
  const auto word = [](auto value) { return static_cast<std::uint64_t>(std::int64_t{value}); };
  const auto code = [](const Result<std::uint64_t>& result) { return result ? Errc::ok : result.error().errc(); };
  BOOST_TEST(add_words(Encoding::i8, word(-100), word(-28)).value() == word(-128));
  BOOST_TEST((code(add_words(Encoding::i8, word(-100), word(-29))) == Errc::out_of_range));
  BOOST_TEST((code(add_words(Encoding::i8, word(127), word(1))) == Errc::out_of_range));
  BOOST_TEST(add_words(Encoding::u8, 200, 55).value() == 255u);
  BOOST_TEST((code(add_words(Encoding::u8, 200, 56)) == Errc::out_of_range));
  BOOST_TEST((code(add_words(Encoding::u64, ~std::uint64_t{0}, 1)) == Errc::out_of_range));
  BOOST_TEST((code(add_words(Encoding::i64, word(std::numeric_limits<std::int64_t>::max()), 1)) == Errc::out_of_range));
  const auto half = std::bit_cast<std::uint64_t>(0.5);
  BOOST_TEST(std::bit_cast<double>(add_words(Encoding::f64, half, half).value()) == 1.0);
  BOOST_TEST(std::bit_cast<double>(add_words(Encoding::f32, half, std::bit_cast<std::uint64_t>(0.1)).value()) ==
             double{static_cast<float>(0.6)});
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool::store
