#include "proto/store/key.hpp"

#include <array>
#include <bit>
#include <cmath>

namespace taskpool::store {
namespace {

constexpr std::uint64_t kNan = 0x7ff8000000000000;

std::uint8_t byte_at(KeyView bytes, std::size_t index) { return static_cast<std::uint8_t>(bytes[index]); }

std::uint32_t read_u32(KeyView bytes) {
  std::uint32_t value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

bool is_integral(double value) { return std::isfinite(value) && std::trunc(value) == value; }

/// Strict: no overlong forms, no surrogates, nothing above U+10FFFF.
bool is_utf8(KeyView text) {
  for (std::size_t index = 0; index < text.size();) {
    const unsigned lead = byte_at(text, index++);
    if (lead < 0x80) continue;
    const unsigned more = lead >= 0xc2 && lead < 0xe0   ? 1
                          : lead >= 0xe0 && lead < 0xf0 ? 2
                          : lead >= 0xf0 && lead < 0xf5 ? 3
                                                        : 0;
    if (more == 0 || text.size() - index < more) return false;
    const unsigned second = byte_at(text, index);
    const unsigned low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    const unsigned high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    if (second < low || second > high) return false;
    for (unsigned each = 1; each < more; ++each)
      if ((byte_at(text, index + each) & 0xc0) != 0x80) return false;
    index += more;
  }
  return true;
}

/// What is wrong with the key, or nullptr.
const char* find_fault(KeyView bytes, unsigned depth) {
  if (bytes.empty()) return "empty";
  const KeyView rest = bytes.subspan(1);
  switch (static_cast<KeyKind>(bytes[0])) {
    case KeyKind::null: return rest.empty() ? nullptr : "a null with content";
    case KeyKind::integer:
      if (rest.empty() || byte_at(rest, 0) > 1) return "an integer without a sign";
      if (rest.size() == 1) return byte_at(rest, 0) == 0 ? nullptr : "minus zero";
      return byte_at(rest, 1) != 0 ? nullptr : "an integer with leading zeros";
    case KeyKind::real: {
      if (rest.size() != sizeof(double)) return "a real that is not 8 bytes";
      std::uint64_t word;
      std::memcpy(&word, rest.data(), sizeof word);
      const auto value = std::bit_cast<double>(word);
      if (std::isnan(value)) return word == kNan ? nullptr : "another NaN than the canonical one";
      return is_integral(value) ? "an integer written as a real" : nullptr;
    }
    case KeyKind::text: return is_utf8(rest) ? nullptr : "a text that is not UTF-8";
    case KeyKind::bytes:
    case KeyKind::opaque: return nullptr;
    case KeyKind::tuple: {
      if (depth >= kMaxKeyDepth) return "tuples nested too deep";
      if (rest.size() < sizeof(std::uint32_t)) return "a tuple without its length";
      KeyView members = rest.subspan(sizeof(std::uint32_t));
      std::uint32_t left = read_u32(rest);
      for (; left != 0 && members.size() >= sizeof(std::uint32_t); --left) {
        const std::uint32_t length = read_u32(members);
        members = members.subspan(sizeof(std::uint32_t));
        if (length > members.size()) return "a tuple that is cut off";
        if (const char* fault = find_fault(members.first(length), depth + 1)) return fault;
        members = members.subspan(length);
      }
      return left == 0 && members.empty() ? nullptr : "a tuple of another length than it says";
    }
  }
  return "of an unknown kind";
}

}  // namespace

Result<void> check_key(KeyView bytes) {
  if (bytes.size() > kMaxKeyBytes)
    return fail(Errc::bad_argument,
                "key: " + std::to_string(bytes.size()) + " bytes, more than " + std::to_string(kMaxKeyBytes));
  if (const char* fault = find_fault(bytes, 0)) return fail(Errc::bad_argument, std::string{"key: "} + fault);
  return {};
}

Result<Key> parse_key(KeyView bytes) {
  if (auto checked = check_key(bytes); !checked) return checked.error();
  return Key{std::string{reinterpret_cast<const char*>(bytes.data()), bytes.size()}};
}

void KeyBuffer::put_integer(bool negative, std::uint64_t magnitude) {
  const auto bytes = static_cast<unsigned>(std::bit_width(magnitude) + 7) / 8;
  // Its first byte is the magnitude's highest one.
  const std::uint64_t turned = bytes == 0 ? 0 : __builtin_bswap64(magnitude << (64 - 8 * bytes));
  put_word(0, static_cast<std::uint64_t>(KeyKind::integer) | std::uint64_t{negative} << 8 | turned << 16);
  put_word(8, turned >> 48);
  size_ = 2 + bytes;
}

void KeyBuffer::set_integer(std::int64_t value) {
  const auto bits = static_cast<std::uint64_t>(value);
  put_integer(value < 0, value < 0 ? ~bits + 1 : bits);
}

void KeyBuffer::set_real(double value) {
  if (!is_integral(value)) {
    const std::uint64_t word = std::isnan(value) ? kNan : std::bit_cast<std::uint64_t>(value);
    (void)put(KeyKind::real, &word, sizeof word);  // cannot be too long
    return;
  }
  int exponent = 0;
  const double fraction = std::frexp(std::fabs(value), &exponent);  // value = fraction * 2^exponent
  if (exponent <= 64) return put_integer(value < 0, static_cast<std::uint64_t>(std::fabs(value)));
  // 64 bits of magnitude and `shift` zero bits behind them: whole bytes, and the rest by shifting what is less than 64
  // bits.
  const auto mantissa = static_cast<std::uint64_t>(std::ldexp(fraction, 53));
  const unsigned shift = static_cast<unsigned>(exponent) - 53;
  put_integer(value < 0, mantissa << shift % 8);
  for (unsigned zeros = shift / 8; zeros != 0; --zeros) bytes_[size_++] = std::byte{0};
  for (std::size_t at = size_; at % sizeof(std::uint64_t) != 0; ++at) bytes_[at] = std::byte{0};
}

bool KeyBuffer::set_tuple(std::span<const KeyView> members) {
  std::size_t total = 1 + sizeof(std::uint32_t);
  for (const KeyView member : members) total += sizeof(std::uint32_t) + member.size();
  if (total > kMaxKeyBytes) return false;
  // Beside the buffer first: a member may be this buffer's own view.
  std::array<std::byte, kMaxKeyBytes> bytes;
  std::byte* at = bytes.data();
  const auto append = [&at](const void* data, std::size_t size) {
    if (size != 0) std::memcpy(at, data, size);
    at += size;
  };
  const auto append_u32 = [&append](std::size_t value) {
    const auto word = static_cast<std::uint32_t>(value);
    append(&word, sizeof word);
  };
  append_u32(members.size());
  for (const KeyView member : members) {
    append_u32(member.size());
    append(member.data(), member.size());
  }
  return put(KeyKind::tuple, bytes.data(), static_cast<std::size_t>(at - bytes.data()));
}

}  // namespace taskpool::store
