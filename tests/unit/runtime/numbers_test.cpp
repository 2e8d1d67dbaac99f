#include "daemon/runtime/numbers.hpp"

#include <array>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <vector>

using namespace taskpool;
using namespace taskpool::runtime;

namespace {

template <class To, class From>
std::vector<To> convert(Encoding from, const std::vector<From>& in, Encoding to) {
  std::vector<To> out(in.size());
  const auto done =
      convert_numbers(from, std::as_bytes(std::span{in}).data(), to, std::as_writable_bytes(std::span{out}).data(),
                      static_cast<std::uint32_t>(in.size()));
  out.resize(done);
  return out;
}

std::string as_json(Encoding encoding, auto value) {
  std::string text;
  return number_to_json(encoding, reinterpret_cast<const std::byte*>(&value), text) ? text : "none";
}

}  // namespace

BOOST_AUTO_TEST_SUITE(numbers)

BOOST_AUTO_TEST_CASE(numbers_that_fit_are_converted) {
  const std::vector<std::int64_t> in{-3, 0, 127};
  BOOST_TEST((convert<std::int8_t>(Encoding::i64, in, Encoding::i8) == std::vector<std::int8_t>{-3, 0, 127}));
  BOOST_TEST((convert<double>(Encoding::i64, in, Encoding::f64) == std::vector<double>{-3, 0, 127}));
  const std::vector<float> floats{-2, 5};
  BOOST_TEST((convert<std::int16_t>(Encoding::f32, floats, Encoding::i16) == std::vector<std::int16_t>{-2, 5}));
  BOOST_TEST((convert<std::int64_t>(Encoding::i64, in, Encoding::i64) == in));
}

BOOST_AUTO_TEST_CASE(conversion_stops_at_a_number_that_does_not_fit) {
  BOOST_TEST(convert<std::int8_t>(Encoding::i64, std::vector<std::int64_t>{1, 128, 2}, Encoding::i8).size() == 1u);
  BOOST_TEST(convert<std::uint8_t>(Encoding::i8, std::vector<std::int8_t>{-1}, Encoding::u8).empty());
  BOOST_TEST(convert<std::int32_t>(Encoding::f64, std::vector<double>{1, 1.5}, Encoding::i32).size() == 1u);
  BOOST_TEST(convert<std::int64_t>(Encoding::f64, std::vector<double>{std::nan("")}, Encoding::i64).empty());
  // 2^63 rounds to itself, and is one too many.
  BOOST_TEST(convert<std::int64_t>(Encoding::f64, std::vector<double>{0x1p63}, Encoding::i64).empty());
  BOOST_TEST(convert<std::int64_t>(Encoding::f64, std::vector<double>{-0x1p63}, Encoding::i64).size() == 1u);
  BOOST_TEST(convert<std::uint64_t>(Encoding::f64, std::vector<double>{0x1p64}, Encoding::u64).empty());
}

BOOST_AUTO_TEST_CASE(numbers_have_a_json_form_unless_they_are_not_finite) {
  BOOST_TEST(as_json(Encoding::i8, std::int8_t{-5}) == "-5");
  BOOST_TEST(as_json(Encoding::u64, std::numeric_limits<std::uint64_t>::max()) == "18446744073709551615");
  BOOST_TEST(as_json(Encoding::f64, 3.0) == "3.0");
  BOOST_TEST(as_json(Encoding::f32, 0.5F) == "0.5");
  BOOST_TEST(as_json(Encoding::f64, 1e300) == "1e+300");
  BOOST_TEST(as_json(Encoding::f64, std::nan("")) == "none");
}

BOOST_AUTO_TEST_SUITE_END()
