#pragma once

#include <string>
#include <string_view>

#include "proto/message.hpp"
#include "proto/result.hpp"

namespace taskpool {

/// Reads the head of a frame into its struct. Requests refuse unknown fields, replies ignore them. Error: `bad_message`;
/// detail names the field. Instantiated in codec.cpp for every struct of message.hpp.
template <class T>
Result<T> decode(std::string_view head);

/// Writes a struct as a head. Fields that have their default are left out. Text that is not UTF-8 is repaired, and text
/// too long for a head is cut: an error's detail and traceback, never a name.
template <class T>
std::string encode(const T& message);

}  // namespace taskpool
