#include "daemon/store/waiters.hpp"

#include <algorithm>
#include <cassert>

namespace taskpool::store {

Waiter& Waiters::keep(std::unique_ptr<Waiter> waiter) {
  auto& kept = *waiter;
  sessions_[kept.owner.session].push_back(kept);
  const auto [place, added] = requests_.emplace(Request{kept.owner.session, kept.request}, std::move(waiter));
  assert(added);
  (void)place;
  return kept;
}

Waiter& Waiters::add(std::unique_ptr<Waiter> waiter, Place place, std::optional<TimePoint> deadline) {
  auto& kept = keep(std::move(waiter));
  kept.order = ++last_order_;
  kept.place = place;
  lanes_[place].push_back(kept);
  set_deadline(kept, deadline);
  return kept;
}

Waiter& Waiters::restore(std::unique_ptr<Waiter> waiter, Place place) {
  auto& kept = keep(std::move(waiter));
  kept.place = place;
  last_order_ = std::max(last_order_, kept.order);
  auto& lane = lanes_[place];
  auto behind = lane.end();
  while (behind != lane.begin() && std::prev(behind)->order > kept.order) --behind;
  lane.insert(behind, kept);
  return kept;
}

void Waiters::leave_lane(Waiter& waiter) {
  const auto lane = lanes_.find(waiter.place);
  lane->second.erase(lane->second.iterator_to(waiter));
  if (lane->second.empty()) lanes_.erase(lane);
}

void Waiters::move(Waiter& waiter, Place to) {
  set_deadline(waiter, std::nullopt);
  leave_lane(waiter);
  waiter.place = to;
  lanes_[to].push_back(waiter);
}

void Waiters::set_deadline(Waiter& waiter, std::optional<TimePoint> deadline) {
  if (waiter.deadline) deadlines_.erase({*waiter.deadline, waiter.order, &waiter});
  waiter.deadline = deadline;
  if (deadline) deadlines_.insert({*deadline, waiter.order, &waiter});
}

std::unique_ptr<Waiter> Waiters::remove(Waiter& waiter) {
  set_deadline(waiter, std::nullopt);
  leave_lane(waiter);
  const auto session = sessions_.find(waiter.owner.session);
  session->second.erase(session->second.iterator_to(waiter));
  if (session->second.empty()) sessions_.erase(session);
  return std::move(requests_.extract(Request{waiter.owner.session, waiter.request}).mapped());
}

Waiter* Waiters::front(Place place) {
  const auto lane = lanes_.find(place);
  return lane == lanes_.end() ? nullptr : &lane->second.front();
}

std::vector<Waiter*> Waiters::first(Place place, std::size_t most) {
  std::vector<Waiter*> found;
  const auto lane = lanes_.find(place);
  if (lane == lanes_.end()) return found;
  found.reserve(std::min(most, lane->second.size()));
  for (auto& waiter : lane->second) {
    if (found.size() == most) break;
    found.push_back(&waiter);
  }
  return found;
}

Waiter* Waiters::nth(Place place, std::size_t index) {
  const auto lane = lanes_.find(place);
  if (lane == lanes_.end() || index >= lane->second.size()) return nullptr;
  if (index + 1 == lane->second.size()) return &lane->second.back();
  return &*std::next(lane->second.begin(), static_cast<std::ptrdiff_t>(index));
}

Waiter* Waiters::find(std::uint64_t session, std::uint64_t request) const {
  const auto found = requests_.find(Request{session, request});
  return found == requests_.end() ? nullptr : found->second.get();
}

Waiter* Waiters::any_of(std::uint64_t session) {
  const auto found = sessions_.find(session);
  return found == sessions_.end() ? nullptr : &found->second.front();
}

std::size_t Waiters::count(Place place) const {
  const auto lane = lanes_.find(place);
  return lane == lanes_.end() ? 0 : lane->second.size();
}

std::size_t Waiters::count_of(std::uint64_t session) const {
  const auto found = sessions_.find(session);
  return found == sessions_.end() ? 0 : found->second.size();
}

std::optional<TimePoint> Waiters::next_deadline() const {
  if (deadlines_.empty()) return std::nullopt;
  return deadlines_.begin()->when;
}

Waiter* Waiters::expired(TimePoint now) const {
  if (deadlines_.empty() || deadlines_.begin()->when > now) return nullptr;
  return deadlines_.begin()->waiter;
}

}  // namespace taskpool::store
