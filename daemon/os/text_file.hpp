#pragma once

#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

/// The small text files of /proc and of cgroups.
namespace taskpool::os {

/// The whole of a file; empty if it cannot be read.
std::string read_text(const std::string& path);
/// The number that text begins with.
inline std::optional<std::uint64_t> number_in(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
  return failed == std::errc{} ? std::optional{number} : std::nullopt;
}
/// The number behind `name` and a space at the beginning of a line, as in "oom_kill 3".
inline std::optional<std::uint64_t> field_in(std::string_view text, std::string_view name) {
  while (!text.empty()) {
    const auto line = text.substr(0, text.find('\n'));
    if (line.size() > name.size() && line.starts_with(name) && line[name.size()] == ' ')
      return number_in(line.substr(name.size() + 1));
    text.remove_prefix(line.size() < text.size() ? line.size() + 1 : text.size());
  }
  return std::nullopt;
}

}  // namespace taskpool::os
