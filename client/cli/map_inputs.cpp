#include "client/cli/map_inputs.hpp"

#include <fmt/format.h>

namespace taskpool::cli {

Result<WordInputs> WordInputs::make(const std::vector<std::string>& words, const Encode& encode) {
  std::vector<std::string> items;
  for (std::size_t i = 0; i < words.size(); ++i) {
    auto item = encode(words[i]);
    if (!item) return fail(item.error().errc(), fmt::format("input {}: {}", i + 1, item.error().detail));
    items.push_back(std::move(*item));
  }
  return WordInputs{std::move(items)};
}

Result<std::optional<std::string>> WordInputs::next() {
  if (next_ == items_.size()) return std::nullopt;
  return std::move(items_[next_++]);
}

Result<std::optional<std::string>> LineInputs::next() {
  const auto line = reader_.next();
  if (!line) return line.error();
  if (!*line) return std::nullopt;
  auto item = encode_(**line);
  if (!item) return fail(item.error().errc(), fmt::format("line {}: {}", reader_.number(), item.error().detail));
  return std::move(*item);
}

}  // namespace taskpool::cli
