#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>

#include "proto/limits.hpp"
#include "proto/result.hpp"
#include "proto/store/layout.hpp"

/// Keys of dicts: one canonical sequence of bytes for each key, equal exactly when the keys are. PROTOCOL.md, "Keys".
namespace taskpool::store {

/// Tuples in tuples.
inline constexpr unsigned kMaxKeyDepth = 16;

/// The first byte of a key.
enum class KeyKind : std::uint8_t {
  null = 0,  ///< Nothing follows.
  integer =
      1,  ///< Sign (0: not negative, 1: negative), then the magnitude, big-endian, without leading zeros; 0 has none.
  real = 2,  ///< A double that is no integer: 8 bytes, little-endian; the one NaN is 0x7ff8000000000000.
  text = 3,  ///< UTF-8.
  bytes = 4,
  tuple = 5,   ///< Number of members u32, then each: its length u32, its bytes. Little-endian.
  opaque = 6,  ///< A language's own encoding: equal only to the same bytes.
};

/// A key's canonical bytes, somebody else's.
using KeyView = std::span<const std::byte>;

/// A key that owns its bytes: canonical, at most kMaxKeyBytes; the default is null.
class Key {
 public:
  Key() : bytes_(1, '\0') {}
  operator KeyView() const { return view(); }
  KeyView view() const { return std::as_bytes(std::span{bytes_}); }
  /// The bytes, for containers and frames.
  const std::string& bytes() const { return bytes_; }
  bool operator==(const Key&) const = default;
  auto operator<=>(const Key&) const = default;

 private:
  friend Result<Key> parse_key(KeyView bytes);
  explicit Key(std::string bytes) : bytes_(std::move(bytes)) {}
  std::string bytes_;
};

/// Checks bytes that came from elsewhere. `bad_argument`: not canonical, or too long; the detail says what is wrong.
Result<void> check_key(KeyView bytes);
/// The same, and keeps them.
Result<Key> parse_key(KeyView bytes);

/// Builds a key in place, without allocating: for look-ups in a hurry. Every function replaces what was there.
class KeyBuffer {
 public:
  KeyBuffer() { set_null(); }
  KeyView view() const { return {bytes_, size_}; }
  operator KeyView() const { return view(); }
  /// The same as whole words, the last one padded with zeros. They are written word by word, too: a core that reads a
  /// word in other pieces than it was just written waits until all that came before is done.
  const std::byte* words() const { return bytes_; }
  std::size_t size() const { return size_; }

  void set_null() { begin(KeyKind::null); }
  void set_integer(std::int64_t value);
  void set_unsigned(std::uint64_t value) { put_integer(false, value); }
  /// An integral value becomes an integer, also beyond 64 bits.
  void set_real(double value);
  /// The texts are not looked at: false means too long; set_text() expects UTF-8 (check_key() finds out).
  [[nodiscard]] bool set_text(std::string_view text) { return put(KeyKind::text, text.data(), text.size()); }
  [[nodiscard]] bool set_bytes(std::span<const std::byte> bytes) {
    return put(KeyKind::bytes, bytes.data(), bytes.size());
  }
  [[nodiscard]] bool set_opaque(std::span<const std::byte> bytes) {
    return put(KeyKind::opaque, bytes.data(), bytes.size());
  }
  /// Makes a tuple of canonical keys; false: together too long.
  [[nodiscard]] bool set_tuple(std::span<const KeyView> members);

 private:
  void begin(KeyKind kind) {
    put_word(0, static_cast<std::uint64_t>(kind));
    size_ = 1;
  }
  void put_word(std::size_t at, std::uint64_t word) { std::memcpy(bytes_ + at, &word, sizeof word); }
  void put_integer(bool negative, std::uint64_t magnitude);
  [[nodiscard]] bool put(KeyKind kind, const void* data, std::size_t size);
  std::size_t size_ = 1;
  alignas(8) std::byte bytes_[kMaxKeyBytes];  // not initialised: that would cost more than a look-up
};

inline bool KeyBuffer::put(KeyKind kind, const void* data, std::size_t size) {
  if (size >= kMaxKeyBytes) return false;
  const auto* at = static_cast<const std::byte*>(data);
  const auto load = [](const std::byte* from) {
    std::uint64_t word;
    std::memcpy(&word, from, sizeof word);
    return word;
  };
  size_ = 1 + size;
  if (size < sizeof(std::uint64_t)) {
    std::uint64_t word = static_cast<std::uint64_t>(kind);
    for (std::size_t index = 0; index < size && index < 7; ++index)
      word |= static_cast<std::uint64_t>(at[index]) << (8 * index + 8);
    put_word(0, word);
    return true;
  }
  put_word(0, load(at) << 8 | static_cast<std::uint64_t>(kind));
  std::size_t place = 8;
  at += 7;
  std::size_t left = size - 7;
  for (; left >= 8; left -= 8, at += 8, place += 8) put_word(place, load(at));
  // The last bytes, read together with some before them.
  if (left != 0) put_word(place, load(at + left - 8) >> (8 * (8 - left)));
  return true;
}

/// From JSON: null, numbers, text, arrays (tuples); true and false are 1 and 0, and 1.0 is 1. What JSON lacks is an
/// object of one member: {"$bytes": hex}, {"$opaque": hex}, {"$integer": decimal}, {"$real": "nan" | "inf" | "-inf"}.
/// `bad_argument`: any other object has no canonical form; or it is too long.
Result<Key> key_from_json(const nlohmann::json& json);
/// The same, the other way. `key` is canonical.
nlohmann::json key_to_json(KeyView key);

}  // namespace taskpool::store
