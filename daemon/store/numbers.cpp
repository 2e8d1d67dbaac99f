#include "daemon/store/numbers.hpp"

#include <bit>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <variant>

#include "proto/fields.hpp"

namespace taskpool::store {
namespace {

using Value = std::variant<std::int64_t, double>;

Error no_number(const char* which) { return fail(Errc::wrong_type, std::string{which} + ": not a number"); }
Error too_large() { return fail(Errc::out_of_range, "sum: beyond the range of its type"); }

Result<Value> read_json(std::span<const std::byte> bytes, const char* which) {
  const auto text = as_text(bytes);
  std::int64_t integer = 0;
  const auto* const end = text.data() + text.size();
  const auto [stop, ec] = std::from_chars(text.data(), end, integer);
  if (ec == std::errc{} && stop == end && (integer == 0 ? text == "0" : text[text[0] == '-'] != '0')) return integer;
  const auto json = parse_json(text);
  if (!json || !json->is_number()) return no_number(which);
  if (json->is_number_unsigned()) {
    const auto value = json->get<std::uint64_t>();
    if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) return too_large();
    return static_cast<std::int64_t>(value);
  }
  if (json->is_number_integer()) return json->get<std::int64_t>();
  return json->get<double>();
}

Result<Value> read(Encoding encoding, std::span<const std::byte> bytes, const char* which) {
  switch (encoding) {
    case Encoding::json: return read_json(bytes, which);
    case Encoding::i64:
      if (bytes.size() == sizeof(std::int64_t)) return load<std::int64_t>(bytes.data());
      break;
    case Encoding::f64:
      if (bytes.size() == sizeof(double)) return load<double>(bytes.data());
      break;
    default: break;
  }
  return no_number(which);
}

template <class T>
std::string raw(T value) {
  return std::string{reinterpret_cast<const char*>(&value), sizeof value};
}

double as_double(const Value& value) {
  if (const auto* const integer = std::get_if<std::int64_t>(&value)) return static_cast<double>(*integer);
  return std::get<double>(value);
}

bool is_signed(Encoding type) { return type >= Encoding::i8 && type <= Encoding::i64; }
bool is_fraction(Encoding type) { return type == Encoding::f32 || type == Encoding::f64; }

}  // namespace

Result<Number> add(Encoding encoding, std::span<const std::byte> value, Encoding delta_encoding,
                   std::span<const std::byte> delta) {
  const auto left = read(encoding, value, "value");
  if (!left) return left.error();
  const auto right = read(delta_encoding, delta, "argument");
  if (!right) return right.error();
  if (encoding == Encoding::f64) return Number{encoding, raw(as_double(*left) + as_double(*right))};
  const auto* const a = std::get_if<std::int64_t>(&*left);
  const auto* const b = std::get_if<std::int64_t>(&*right);
  if (a != nullptr && b != nullptr) {
    std::int64_t sum = 0;
    if (__builtin_add_overflow(*a, *b, &sum)) return too_large();
    return Number{encoding, encoding == Encoding::i64 ? raw(sum) : std::to_string(sum)};
  }
  if (encoding == Encoding::i64) return fail(Errc::wrong_type, "argument: a fraction cannot be added to an i64");
  const double sum = as_double(*left) + as_double(*right);
  if (!std::isfinite(sum)) return too_large();  // JSON has no such number
  return Number{encoding, dump_json(Json(sum))};
}

std::uint64_t to_word(Encoding type, const std::byte* element) {
  switch (type) {
    case Encoding::i8: return static_cast<std::uint64_t>(std::int64_t{load<std::int8_t>(element)});
    case Encoding::i16: return static_cast<std::uint64_t>(std::int64_t{load<std::int16_t>(element)});
    case Encoding::i32: return static_cast<std::uint64_t>(std::int64_t{load<std::int32_t>(element)});
    case Encoding::u8: return load<std::uint8_t>(element);
    case Encoding::u16: return load<std::uint16_t>(element);
    case Encoding::u32: return load<std::uint32_t>(element);
    case Encoding::f32: return std::bit_cast<std::uint64_t>(double{load<float>(element)});
    default: return load<std::uint64_t>(element);
  }
}

void from_word(Encoding type, std::uint64_t word, std::byte* element) {
  switch (element_bytes(type)) {
    case 1: store_le(element, static_cast<std::uint8_t>(word)); break;
    case 2: store_le(element, static_cast<std::uint16_t>(word)); break;
    case 4:
      if (type == Encoding::f32)
        store_le(element, static_cast<float>(std::bit_cast<double>(word)));
      else
        store_le(element, static_cast<std::uint32_t>(word));
      break;
    default: store_le(element, word);
  }
}

Result<std::uint64_t> add_words(Encoding type, std::uint64_t word, std::uint64_t delta) {
  if (is_fraction(type)) {
    const double sum = std::bit_cast<double>(word) + std::bit_cast<double>(delta);
    return std::bit_cast<std::uint64_t>(type == Encoding::f32 ? double{static_cast<float>(sum)} : sum);
  }
  std::uint64_t sum = word + delta;
  if (is_signed(type)) {
    std::int64_t checked = 0;
    if (__builtin_add_overflow(static_cast<std::int64_t>(word), static_cast<std::int64_t>(delta), &checked))
      return too_large();
  } else if (sum < word) {
    return too_large();
  }
  std::byte element[sizeof(std::uint64_t)];
  from_word(type, sum, element);
  if (to_word(type, element) != sum) return too_large();
  return sum;
}

}  // namespace taskpool::store
