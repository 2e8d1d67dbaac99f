#include "daemon/store/expiry.hpp"

namespace taskpool::store {

void Expiry::note(ObjectId object, std::string key, std::uint64_t when_ns) {
  Key name{object, std::move(key)};
  const auto [note, is_new] = notes_.try_emplace(name, when_ns);
  if (!is_new) {
    const auto [first, last] = order_.equal_range(note->second);
    for (auto old = first; old != last; ++old)
      if (old->second == name) {
        order_.erase(old);
        break;
      }
    note->second = when_ns;
  }
  order_.emplace(when_ns, std::move(name));
}

void Expiry::forget(ObjectId object) {
  // What order_ still has of it is dropped when it is due.
  const auto first = notes_.lower_bound({object, {}});
  auto last = first;
  while (last != notes_.end() && last->first.first == object) ++last;
  notes_.erase(first, last);
}

std::optional<Expiry::Key> Expiry::take_due(std::uint64_t now_ns) {
  while (!order_.empty() && order_.begin()->first <= now_ns) {
    auto due = order_.extract(order_.begin());
    const auto note = notes_.find(due.mapped());
    if (note == notes_.end() || note->second != due.key()) continue;
    notes_.erase(note);
    return std::move(due.mapped());
  }
  return std::nullopt;
}

std::optional<std::uint64_t> Expiry::next() const {
  if (order_.empty()) return std::nullopt;
  return order_.begin()->first;
}

}  // namespace taskpool::store
