#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "proto/result.hpp"

namespace taskpool::cli {

/// Splits a command line into words as a POSIX shell does: at blanks, with '...', "..." and backslash. Nothing is
/// expanded. Error: `bad_argument` for a quote that does not end, and for a bare word that only a shell can act on
/// (`|`,
/// `>`, `&&`, ...): there is none here, and passing it on as an argument would surprise.
Result<std::vector<std::string>> split_words(std::string_view text);

/// The words of `map --exec`: each `{}` stands for the input.
class CommandTemplate {
 public:
  /// Error: `bad_argument`, as split_words(), and for no words at all.
  static Result<CommandTemplate> parse(std::string_view text);
  /// The command for one input: `{}` replaced wherever it is in a word, or the input as a last word of its own if the
  /// template has no `{}`.
  std::vector<std::string> fill(std::string_view input) const;

 private:
  explicit CommandTemplate(std::vector<std::string> words) : words_{std::move(words)} {}
  std::vector<std::string> words_;
};

}  // namespace taskpool::cli
