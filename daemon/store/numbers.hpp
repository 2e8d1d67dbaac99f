#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "proto/frame.hpp"

/// Arithmetic on stored values: `incr` and its kin. PROTOCOL.md, section 3.5, "Numbers".
namespace taskpool::store {

/// An encoded number.
struct Number {
  Encoding encoding = Encoding::i64;
  std::string bytes;
  bool operator==(const Number&) const = default;
};

/// The sum of two values of encoding `i64`, `f64` or `json`, in the encoding of the first. Errors: `wrong_type` (no
/// number, or a fraction to be added to an i64), `out_of_range` (an integer beyond 64 bits, a JSON number beyond a
/// double).
Result<Number> add(Encoding encoding, std::span<const std::byte> value, Encoding delta_encoding,
                   std::span<const std::byte> delta);

/// An element of an array as the word that the segment holds: an integer extended to 64 bits, a fraction as f64.
/// `element` has element_bytes(type) bytes.
std::uint64_t to_word(Encoding type, const std::byte* element);
/// The reverse: writes element_bytes(type) bytes.
void from_word(Encoding type, std::uint64_t word, std::byte* element);
/// The sum of two words of an array. Error: `out_of_range` (not a number of that type any more).
Result<std::uint64_t> add_words(Encoding type, std::uint64_t word, std::uint64_t delta);

}  // namespace taskpool::store
