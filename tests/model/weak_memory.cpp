#include "tests/model/weak_memory.hpp"

#include <algorithm>

namespace taskpool::model {

void History::apply(const Event& event) {
  if (event.kind == Event::Kind::fence) {
    fenced_ = length_;
    return;
  }
  ++length_;
  const auto prefix = event.kind == Event::Kind::release_store ? length_ : fenced_;
  messages_.at(event.location).push_back({length_, prefix, event.value});
}

std::uint32_t ReaderMemory::oldest(Location location) const {
  const auto& messages = history_.messages(location);
  auto at = static_cast<std::uint32_t>(messages.size() - 1);
  while (at > floor_[location] && messages[at].index > known_) --at;
  return at;
}

Word ReaderMemory::load(Location location, Order order) {
  const auto& messages = history_.messages(location);
  const auto low = oldest(location);
  const auto count = static_cast<std::uint32_t>(messages.size()) - low;
  std::uint32_t taken = 0;
  if (count > 1) {
    if (depth_ == choices_.size()) choices_.push_back({0, count});
    taken = choices_[depth_++].taken;
  }
  floor_[location] = low + taken;
  const auto& message = messages[low + taken];
  pending_ = std::max(pending_, message.prefix);
  if (order == Order::acquire) known_ = std::max(known_, message.prefix);
  return message.value;
}

void ReaderMemory::acquire_fence() { known_ = std::max(known_, pending_); }

void ReaderMemory::begin_attempt(const std::vector<std::uint32_t>& state) {
  auto key = state;
  key.push_back(known_);
  key.push_back(std::max(pending_, known_));
  knew_everything_ = true;
  for (Location location = 0; location < floor_.size(); ++location) {
    key.push_back(oldest(location));
    knew_everything_ &= key.back() + 1 == history_.messages(location).size();
  }
  // An execution that is being run again passes through states that it has seen itself.
  if (!seen_.insert(std::move(key)).second && depth_ == choices_.size()) throw Pruned{};
}

}  // namespace taskpool::model
