#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "proto/frame.hpp"

/// Conversions between the numbers of arrays.
namespace taskpool::runtime {

/// Converts numbers one by one, exactly: an integer must fit the type, and a fraction never becomes an integer. A
/// number may lose digits in becoming a float, as it would in JSON. Returns how many were converted before one that
/// cannot be: `count` if all can. `in` needs no alignment; the two do not overlap.
std::uint32_t convert_numbers(Encoding from, const std::byte* in, Encoding to, std::byte* out, std::uint32_t count);

/// Writes one number as JSON into `into`; false if it has no JSON form (infinite, not a number).
bool number_to_json(Encoding encoding, const std::byte* in, std::string& into);

}  // namespace taskpool::runtime
