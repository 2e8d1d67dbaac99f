#include "client/cli/words.hpp"

#include <algorithm>
#include <array>

namespace taskpool::cli {
namespace {

constexpr std::string_view kPlaceholder = "{}";
constexpr std::array<std::string_view, 12> kShellWords{"|", "||", "&",  "&&",   ";",  "<",
                                                       ">", ">>", "2>", "2>&1", "&>", "<<"};

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

/// Reads one word at a time from the front of a command line.
class WordReader {
 public:
  explicit WordReader(std::string_view text) : rest_{text} {}

  bool skip_blanks() {
    while (!rest_.empty() && is_blank(rest_.front())) rest_.remove_prefix(1);
    return !rest_.empty();
  }

  Result<std::string> next() {
    std::string word;
    bool quoted = false;
    while (!rest_.empty() && !is_blank(rest_.front())) {
      const char c = take();
      if (c == '\'' || c == '"') {
        quoted = true;
        if (!read_quoted(c, word)) return fail(Errc::bad_argument, std::string{"a quote "} + c + " does not end");
      } else if (c == '\\') {
        quoted = true;
        if (rest_.empty()) return fail(Errc::bad_argument, "a backslash at the end quotes nothing");
        word += take();
      } else {
        word += c;
      }
    }
    if (!quoted && std::find(kShellWords.begin(), kShellWords.end(), word) != kShellWords.end())
      return fail(Errc::bad_argument, "'" + word + "' needs a shell and there is none: use sh -c '...', or quote it");
    return word;
  }

 private:
  char take() {
    const char c = rest_.front();
    rest_.remove_prefix(1);
    return c;
  }

  /// Reads up to the closing quote. Inside "..." a backslash quotes only what is special there, as in a shell.
  bool read_quoted(char quote, std::string& word) {
    while (!rest_.empty()) {
      const char c = take();
      if (c == quote) return true;
      const bool escapes = quote == '"' && c == '\\' && !rest_.empty() &&
                           std::string_view{"\"\\$`"}.find(rest_.front()) != std::string_view::npos;
      word += escapes ? take() : c;
    }
    return false;
  }

  std::string_view rest_;
};

}  // namespace

Result<std::vector<std::string>> split_words(std::string_view text) {
  std::vector<std::string> words;
  WordReader reader{text};
  while (reader.skip_blanks()) {
    auto word = reader.next();
    if (!word) return word.error();
    words.push_back(std::move(*word));
  }
  return words;
}

Result<CommandTemplate> CommandTemplate::parse(std::string_view text) {
  auto words = split_words(text);
  if (!words) return words.error();
  if (words->empty()) return fail(Errc::bad_argument, "no command");
  const bool has_place = std::any_of(words->begin(), words->end(), [](const std::string& word) {
    return word.find(kPlaceholder) != std::string::npos;
  });
  if (!has_place) words->emplace_back(kPlaceholder);
  return CommandTemplate{std::move(*words)};
}

std::vector<std::string> CommandTemplate::fill(std::string_view input) const {
  std::vector<std::string> filled;
  filled.reserve(words_.size());
  for (const auto& word : words_) {
    std::string out;
    std::size_t from = 0;
    for (auto at = word.find(kPlaceholder); at != std::string::npos; at = word.find(kPlaceholder, from)) {
      out.append(word, from, at - from).append(input);
      from = at + kPlaceholder.size();
    }
    filled.push_back(out.append(word, from));
  }
  return filled;
}

}  // namespace taskpool::cli
