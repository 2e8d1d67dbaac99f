#pragma once

#include <string>
#include <string_view>

#include "proto/message.hpp"
#include "proto/result.hpp"

namespace taskpool {

/// Reads the head of a frame into its struct. Requests refuse unknown fields, replies ignore them. Error:
/// `bad_message`; detail names the field. Instantiated in codec.cpp for every struct of message.hpp.
template <class T>
Result<T> decode(std::string_view head);

/// Writes a struct as a head; empty if every field has its default, as those are left out. Text that is not UTF-8 is
/// repaired. What is only for people (an error's type, detail and traceback, messages, log lines) is cut so that the
/// head fits a frame. Names, lists and environments are never cut: a caller who passes on somebody's compares the size
/// with kMaxFrameHeadBytes.
template <class T>
std::string encode(const T& message);

}  // namespace taskpool
