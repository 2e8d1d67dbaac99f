#include "client/cli/map_inputs.hpp"

#include <fmt/format.h>

#include <utility>

namespace taskpool::cli {
namespace {

/// How much of an array is sent at a time. Bytes.
constexpr std::size_t kMaxArrayBytes = 32 * 1024;

}  // namespace

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

Result<std::optional<Item>> ItemFeed::next() {
  if (error_) return *std::exchange(error_, std::nullopt);
  bytes_.clear();
  do {
    auto input = inputs_.next();
    if (!input) {
      if (bytes_.empty()) return input.error();
      error_ = input.error();
      break;
    }
    if (!*input) break;
    if (element_ == Encoding::none) {
      bytes_ = std::move(**input);
      return Item::json(bytes_);
    }
    bytes_ += **input;
  } while (bytes_.size() < kMaxArrayBytes && inputs_.ready());
  if (bytes_.empty()) return std::nullopt;
  return Item{element_, as_bytes(bytes_), static_cast<std::uint32_t>(bytes_.size() / element_bytes(element_))};
}

}  // namespace taskpool::cli
