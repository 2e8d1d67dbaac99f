#include "daemon/runtime/numbers.hpp"

#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

namespace taskpool::runtime {
namespace {

/// Calls `visit` with a value of the type that an array encoding names.
template <class Visit>
auto with_type(Encoding encoding, const Visit& visit) {
  switch (encoding) {
    case Encoding::i8: return visit(std::int8_t{});
    case Encoding::i16: return visit(std::int16_t{});
    case Encoding::i32: return visit(std::int32_t{});
    case Encoding::i64: return visit(std::int64_t{});
    case Encoding::u8: return visit(std::uint8_t{});
    case Encoding::u16: return visit(std::uint16_t{});
    case Encoding::u32: return visit(std::uint32_t{});
    case Encoding::u64: return visit(std::uint64_t{});
    case Encoding::f32: return visit(float{});
    default: return visit(double{});
  }
}

/// True if `value` can become a To.
template <class To, class From>
bool fits(From value) {
  if constexpr (std::is_floating_point_v<To>) {
    return true;
  } else if constexpr (std::is_integral_v<From>) {
    return std::in_range<To>(value);
  } else {
    // 2^digits is a float exactly, the largest integer itself often is not.
    const From bound = std::ldexp(From{1}, std::numeric_limits<To>::digits);
    const From lowest = std::is_signed_v<To> ? -bound : From{0};
    return value >= lowest && value < bound && std::trunc(value) == value;
  }
}

template <class From, class To>
std::uint32_t convert(const std::byte* in, std::byte* out, std::uint32_t count) {
  for (std::uint32_t i = 0; i < count; ++i) {
    const auto value = load<From>(in + i * sizeof(From));
    if (!fits<To>(value)) return i;
    store_le(out + i * sizeof(To), static_cast<To>(value));
  }
  return count;
}

}  // namespace

std::uint32_t convert_numbers(Encoding from, const std::byte* in, Encoding to, std::byte* out, std::uint32_t count) {
  if (from == to) {
    if (count > 0) std::memcpy(out, in, count * element_bytes(from));
    return count;
  }
  return with_type(from, [&](auto source) {
    return with_type(to, [&](auto target) { return convert<decltype(source), decltype(target)>(in, out, count); });
  });
}

bool number_to_json(Encoding encoding, const std::byte* in, std::string& into) {
  return with_type(encoding, [&](auto type) {
    const auto value = load<decltype(type)>(in);
    if constexpr (std::is_floating_point_v<decltype(type)>) {
      if (!std::isfinite(value)) return false;
    }
    std::array<char, 32> text{};
    const auto end = std::to_chars(text.begin(), text.end(), value).ptr;
    into.assign(text.begin(), end);
    if constexpr (std::is_floating_point_v<decltype(type)>) {
      if (into.find_first_of(".e") == std::string::npos) into += ".0";  // a float stays one
    }
    return true;
  });
}

}  // namespace taskpool::runtime
