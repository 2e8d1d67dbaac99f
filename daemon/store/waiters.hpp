#pragma once

#include <boost/intrusive/list.hpp>
#include <chrono>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <set>
#include <unordered_map>
#include <vector>

#include "daemon/store/primitive.hpp"

namespace taskpool::store {

using TimePoint = std::chrono::steady_clock::time_point;

/// What somebody waits for at an object.
enum class Lane : std::uint8_t {
  acquire,  ///< A lock, a unit of a semaphore.
  notify,   ///< A condition: next comes `acquire` of its lock.
  arrive,   ///< A barrier.
  set,      ///< An event.
  put,      ///< Room in a queue.
  get,      ///< An item of a queue.
  join,     ///< The end of a queue's unfinished items.
  told,     ///< Nothing any more: the outcome is known, and is told in order. Of all objects together: object 0.
};

/// A lane of one object. Its waiters are served in order.
struct Place {
  std::uint64_t object = 0;  ///< A number that names the object in this daemon.
  Lane lane = Lane::acquire;
  friend bool operator==(const Place&, const Place&) = default;
};

/// One request that waits. `Waiters` owns it; what the operation needs besides is in a class of its own, derived from
/// this.
struct Waiter {
  Waiter(Owner who, std::uint64_t number) : owner{who}, request{number} {}
  virtual ~Waiter() = default;

  Owner owner;
  std::uint64_t request;
  std::uint64_t order = 0;  ///< When it came, in its lane: set by Waiters, and kept over a restart by who restores it.
  Place place;              ///< Set by Waiters.
  std::optional<TimePoint> deadline;  ///< Set by Waiters.

  boost::intrusive::list_member_hook<> lane_hook;
  boost::intrusive::list_member_hook<> session_hook;
};

/// Fair queues of waiting requests, with deadlines and a way to find each again. Pure: it reads no clock and has no
/// timer; whoever owns it asks for next_deadline() when that may have changed. All is constant time, or logarithmic in
/// the number of deadlines.
class Waiters {
 public:
  /// At the end of its lane. A request number that waits in this session already is a caller's bug.
  Waiter& add(std::unique_ptr<Waiter> waiter, Place place, std::optional<TimePoint> deadline);
  /// The same with the order that it had before: behind those that came earlier. Linear in the lane.
  Waiter& restore(std::unique_ptr<Waiter> waiter, Place place);
  /// Takes it out of its lane and puts it at the end of another; its deadline is over.
  void move(Waiter& waiter, Place to);
  /// The same for the first `most` of a lane, with less work for each; `visit` sees each of them before.
  template <class Visit>
  std::size_t move_first(Place from, Place to, std::size_t most, Visit visit);
  /// It waits without an end from now on, or until then.
  void set_deadline(Waiter& waiter, std::optional<TimePoint> deadline);
  /// It does not wait any more.
  std::unique_ptr<Waiter> remove(Waiter& waiter);

  /// The one that came first, or null.
  Waiter* front(Place place);
  /// Those of a lane in order, at most `most` from the front.
  std::vector<Waiter*> first(Place place, std::size_t most);
  /// The one at that place in order, from 0, or null. Constant time at both ends of the lane.
  Waiter* nth(Place place, std::size_t index);
  Waiter* find(std::uint64_t session, std::uint64_t request) const;
  /// One of a session's, or null.
  Waiter* any_of(std::uint64_t session);
  std::size_t count(Place place) const;
  std::size_t count_of(std::uint64_t session) const;
  /// In no order.
  template <class Visit>
  void for_each(Visit visit) const {
    for (const auto& [request, waiter] : requests_) visit(*waiter);
  }
  std::size_t size() const { return requests_.size(); }

  /// The earliest deadline, if anybody has one.
  std::optional<TimePoint> next_deadline() const;
  /// One whose deadline has passed, the earliest first, or null. It still waits.
  Waiter* expired(TimePoint now) const;
  /// The last order that was given out; restored ones raise it.
  std::uint64_t last_order() const { return last_order_; }

 private:
  using LaneList = boost::intrusive::list<
      Waiter, boost::intrusive::member_hook<Waiter, boost::intrusive::list_member_hook<>, &Waiter::lane_hook>>;
  using SessionList = boost::intrusive::list<
      Waiter, boost::intrusive::member_hook<Waiter, boost::intrusive::list_member_hook<>, &Waiter::session_hook>>;
  struct Request {
    std::uint64_t session;
    std::uint64_t number;
    friend bool operator==(const Request&, const Request&) = default;
  };
  struct Hash {
    std::size_t operator()(const Place& place) const {
      return std::hash<std::uint64_t>{}(place.object * 8 + static_cast<std::uint64_t>(place.lane));
    }
    std::size_t operator()(const Request& request) const {
      return std::hash<std::uint64_t>{}(request.session * 0x9e3779b97f4a7c15u + request.number);
    }
  };
  struct Deadline {
    TimePoint when;
    std::uint64_t order;
    Waiter* waiter;
    friend bool operator<(const Deadline& a, const Deadline& b) {
      return a.when != b.when ? a.when < b.when : a.order != b.order ? a.order < b.order : a.waiter < b.waiter;
    }
  };

  Waiter& keep(std::unique_ptr<Waiter> waiter);
  void leave_lane(Waiter& waiter);

  std::unordered_map<Request, std::unique_ptr<Waiter>, Hash> requests_;  ///< Owns; so it goes after the lists.
  std::unordered_map<Place, LaneList, Hash> lanes_;                      ///< None is empty.
  std::unordered_map<std::uint64_t, SessionList> sessions_;
  std::set<Deadline> deadlines_;
  std::uint64_t last_order_ = 0;
};

template <class Visit>
std::size_t Waiters::move_first(Place from, Place to, std::size_t most, Visit visit) {
  if (lanes_.find(from) == lanes_.end()) return 0;
  auto& target = lanes_[to];
  const auto lane = lanes_.find(from);
  std::size_t moved = 0;
  for (; moved < most && !lane->second.empty(); ++moved) {
    auto& waiter = lane->second.front();
    visit(waiter);
    if (waiter.deadline) set_deadline(waiter, std::nullopt);
    lane->second.pop_front();
    waiter.place = to;
    target.push_back(waiter);
  }
  if (lane->second.empty()) lanes_.erase(lane);
  return moved;
}

}  // namespace taskpool::store
