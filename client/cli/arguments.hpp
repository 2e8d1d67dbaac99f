#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "proto/frame.hpp"
#include "proto/result.hpp"

namespace taskpool::cli {

/// Reads "1.5", "1.5s", "250ms", "2m", "1h" or "1d"; without a unit, seconds. 0 means none. Error: `bad_argument`, also
/// above kMaxDuration.
Result<std::chrono::milliseconds> parse_duration(std::string_view text);

/// Whether words and lines are JSON values or text.
enum class Format { json, text };

/// The item, as JSON, for one word or line. Error: `bad_argument`: not JSON, or text that is not UTF-8.
Result<std::string> to_item(std::string_view input, Format format);

/// The item for the arguments of one call: one argument as it is, none or several as their list. Error: as to_item();
/// detail names the argument.
Result<std::string> to_arguments(const std::vector<std::string>& words, Format format);

/// What `map --star` sends for an input: a list of arguments. A list of one stands for that one: a function of one
/// parameter takes an item as it is. Error: `bad_argument` if the input is no list.
Result<std::string> to_starred(const std::string& item);

/// The bytes of one element of an array of numbers. Error: `bad_argument` if the text is no number of that type.
Result<std::string> to_number(std::string_view text, Encoding element);

/// The item of a command: its words as a JSON list. Error: `bad_argument` if one is not UTF-8.
Result<std::string> to_command(const std::vector<std::string>& words);

}  // namespace taskpool::cli
