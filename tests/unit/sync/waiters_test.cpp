#include "daemon/store/waiters.hpp"

#include <boost/test/unit_test.hpp>
#include <vector>

namespace taskpool::store {
namespace {

using std::chrono::milliseconds;

constexpr Place kLock{1, Lane::acquire};
constexpr Place kCondition{2, Lane::notify};
const TimePoint kStart{};

struct Story {
  Waiters waiters;

  Waiter& add(Place place, std::uint64_t session, std::uint64_t request, std::optional<TimePoint> deadline = {}) {
    return waiters.add(std::make_unique<Waiter>(Owner{session, 1}, request), place, deadline);
  }
  std::vector<std::uint64_t> requests(Place place) {
    std::vector<std::uint64_t> found;
    for (const auto* waiter : waiters.first(place, 100)) found.push_back(waiter->request);
    return found;
  }
};

using Requests = std::vector<std::uint64_t>;

BOOST_FIXTURE_TEST_SUITE(waiting, Story)

BOOST_AUTO_TEST_CASE(lanes_are_served_in_order_of_arrival) {
  for (std::uint64_t request = 1; request <= 3; ++request) add(kLock, request, request);
  add(kCondition, 1, 9);
  BOOST_TEST(requests(kLock) == (Requests{1, 2, 3}), boost::test_tools::per_element());
  BOOST_TEST(waiters.front(kLock)->request == 1u);
  waiters.remove(*waiters.front(kLock));
  BOOST_TEST(waiters.front(kLock)->request == 2u);
  BOOST_TEST(waiters.count(kLock) == 2u);
  BOOST_TEST(waiters.size() == 3u);
  BOOST_TEST(waiters.front({7, Lane::get}) == nullptr);
}

BOOST_AUTO_TEST_CASE(a_request_is_found_by_its_session_and_number) {
  add(kLock, 1, 5);
  add(kLock, 2, 5);
  BOOST_TEST(waiters.find(2, 5)->owner.session == 2u);
  BOOST_TEST(waiters.find(2, 6) == nullptr);
  waiters.remove(*waiters.find(2, 5));
  BOOST_TEST(waiters.find(2, 5) == nullptr);
  BOOST_TEST(waiters.find(1, 5) != nullptr);
}

BOOST_AUTO_TEST_CASE(all_of_a_session_are_forgotten_one_by_one) {
  for (std::uint64_t request = 1; request <= 4; ++request) add(kLock, request % 2, request);
  while (auto* waiter = waiters.any_of(0)) waiters.remove(*waiter);
  BOOST_TEST(requests(kLock) == (Requests{1, 3}), boost::test_tools::per_element());
  BOOST_TEST(waiters.any_of(0) == nullptr);
}

BOOST_AUTO_TEST_CASE(there_is_no_deadline_unless_somebody_has_one) {
  add(kLock, 1, 1);
  BOOST_TEST(!waiters.next_deadline());
  add(kLock, 1, 2, kStart + milliseconds{20});
  add(kLock, 1, 3, kStart + milliseconds{10});
  BOOST_TEST((waiters.next_deadline() == kStart + milliseconds{10}));
  BOOST_TEST(waiters.expired(kStart + milliseconds{9}) == nullptr);
  BOOST_TEST(waiters.expired(kStart + milliseconds{10})->request == 3u);
  waiters.remove(*waiters.expired(kStart + milliseconds{30}));
  waiters.remove(*waiters.expired(kStart + milliseconds{30}));
  BOOST_TEST(waiters.expired(kStart + milliseconds{30}) == nullptr);
  BOOST_TEST(!waiters.next_deadline());
  BOOST_TEST(requests(kLock) == (Requests{1}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(equal_deadlines_pass_in_order_of_arrival) {
  for (std::uint64_t request = 1; request <= 3; ++request) add(kLock, 1, request, kStart);
  for (std::uint64_t request = 1; request <= 3; ++request) {
    BOOST_TEST(waiters.expired(kStart)->request == request);
    waiters.remove(*waiters.expired(kStart));
  }
}

BOOST_AUTO_TEST_CASE(who_is_notified_moves_behind_those_who_wait_for_the_lock) {
  add(kCondition, 1, 1, kStart);
  add(kCondition, 2, 2);
  add(kLock, 3, 3);
  waiters.move(*waiters.front(kCondition), kLock);
  BOOST_TEST(requests(kLock) == (Requests{3, 1}), boost::test_tools::per_element());
  BOOST_TEST(requests(kCondition) == (Requests{2}), boost::test_tools::per_element());
  BOOST_TEST(!waiters.next_deadline());  // it was the deadline of the notification
  BOOST_TEST((waiters.find(1, 1)->place == kLock));
}

BOOST_AUTO_TEST_CASE(what_is_restored_keeps_its_order) {
  const auto restore = [&](std::uint64_t request, std::uint64_t order) {
    auto waiter = std::make_unique<Waiter>(Owner{1, 1}, request);
    waiter->order = order;
    waiters.restore(std::move(waiter), kLock);
  };
  restore(30, 300);
  restore(10, 100);
  restore(20, 200);
  BOOST_TEST(requests(kLock) == (Requests{10, 20, 30}), boost::test_tools::per_element());
  BOOST_TEST(add(kLock, 1, 40).order == 301u);
  BOOST_TEST(requests(kLock).back() == 40u);
}

BOOST_AUTO_TEST_CASE(only_as_many_as_asked_for_are_listed) {
  for (std::uint64_t request = 1; request <= 5; ++request) add(kLock, 1, request);
  BOOST_TEST(waiters.first(kLock, 2).size() == 2u);
  BOOST_TEST(waiters.first(kCondition, 2).empty());
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool::store
