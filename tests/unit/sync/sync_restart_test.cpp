#include <boost/test/unit_test.hpp>

#include "tests/unit/sync/sync_story.hpp"

namespace taskpool::store::testing {
namespace {

using std::chrono::milliseconds;

BOOST_FIXTURE_TEST_SUITE(restarts, SyncStory)

BOOST_AUTO_TEST_CASE(who_held_before_holds_after) {
  const auto lock = make(ObjectType::rlock), sem = make(ObjectType::bounded_semaphore, {2, 2});
  const auto ann = session(), bob = session();
  ask(ann, Code::acquire, lock);
  ask(ann, Code::acquire, lock);
  ask(ann, Code::acquire, sem, With{.thread = 9});
  restart();
  BOOST_TEST(sync->holdings().size() == 2u);
  BOOST_TEST(ask(bob, Code::acquire, lock, With{.timeout = kTry}) == "!timed_out");
  BOOST_TEST(ask(ann, Code::release, lock) == "");
  const auto bobs = start(bob, Code::acquire, lock);
  die(ann);  // it did not come back within the grace
  BOOST_TEST(outcome(bobs) == "1");
  BOOST_TEST(ask(bob, Code::sync_state, sem) == "2 0");
}

BOOST_AUTO_TEST_CASE(a_wait_that_is_asked_for_again_is_new_but_not_done_twice) {
  const auto lock = make(ObjectType::lock);
  const auto ann = session(), bob = session();
  ask(ann, Code::acquire, lock);
  const auto bobs = start(bob, Code::acquire, lock);
  restart();
  BOOST_TEST(!repeat(bob, Code::acquire, lock, {.request = bobs}, applied(bob)));
  start(bob, Code::acquire, lock, {.request = bobs});
  ask(ann, Code::release, lock);
  BOOST_TEST(outcome(bobs) == "0");
}

BOOST_AUTO_TEST_CASE(what_was_done_is_not_done_again) {
  const auto lock = make(ObjectType::lock);
  const auto queue = make(ObjectType::queue);
  const auto ann = session();
  // The answers to these were lost with the daemon.
  const std::vector<std::uint64_t> requests{start(ann, Code::queue_put, queue, {.item = "a"}),
                                            start(ann, Code::queue_get, queue), start(ann, Code::acquire, lock)};
  restart();
  clients[ann].heard.clear();
  const auto seen = applied(ann);
  BOOST_TEST(seen == requests.back());
  BOOST_TEST(repeat(ann, Code::queue_put, queue, {.item = "a", .request = requests[0]}, seen));
  BOOST_TEST(outcome(requests[0]) == "");
  BOOST_TEST(repeat(ann, Code::queue_get, queue, {.request = requests[1]}, seen));
  BOOST_TEST(outcome(requests[1]) == "!outcome_unknown");
  BOOST_TEST(repeat(ann, Code::acquire, lock, {.request = requests[2]}, seen));
  BOOST_TEST(outcome(requests[2]) == "0");
  BOOST_TEST(!repeat(ann, Code::release, lock, {.request = requests[2] + 1}, seen));
  BOOST_TEST(ask(ann, Code::release, lock) == "");
}

BOOST_AUTO_TEST_CASE(a_wait_that_was_overtaken_by_later_requests_is_still_not_done) {
  const auto lock = make(ObjectType::lock), event = make(ObjectType::event);
  const auto ann = session(), bob = session();
  ask(ann, Code::acquire, lock);
  const auto bobs = start(bob, Code::acquire, lock);
  ask(bob, Code::event_set, event);  // a higher number, applied
  restart();
  BOOST_TEST(applied(bob) > bobs);
  BOOST_TEST(!repeat(bob, Code::acquire, lock, {.request = bobs}, applied(bob)));
}

BOOST_AUTO_TEST_CASE(one_who_was_notified_before_the_restart_is_not_forgotten) {
  const auto condition = make(ObjectType::condition);
  const auto ann = session(), bob = session(), cid = session();
  for (const auto who : {ann, cid}) ask(who, Code::acquire, condition), start(who, Code::condition_wait, condition);
  const auto anns = last_request - 2, cids = last_request;
  ask(bob, Code::acquire, condition);
  ask(bob, Code::condition_notify, condition);
  restart();
  BOOST_TEST(ask(bob, Code::release, condition) == "");  // ann gets the lock while she is away
  BOOST_TEST(repeat(ann, Code::condition_wait, condition, {.request = anns}, applied(ann)));
  BOOST_TEST(outcome(anns) == "1 0");
  BOOST_TEST(repeat(cid, Code::condition_wait, condition, {.timeout = 10, .request = cids}, applied(cid)));
  BOOST_TEST(outcome(cids) == "...");
  BOOST_TEST(ask(ann, Code::condition_notify, condition) == "1");
  ask(ann, Code::release, condition);
  BOOST_TEST(outcome(cids) == "1 0");
}

BOOST_AUTO_TEST_CASE(one_who_is_notified_while_away_and_never_returns_does_not_keep_the_lock) {
  const auto condition = make(ObjectType::condition);
  const auto ann = session(), bob = session();
  ask(ann, Code::acquire, condition);
  start(ann, Code::condition_wait, condition);
  restart();
  ask(bob, Code::acquire, condition);
  BOOST_TEST(ask(bob, Code::condition_notify, condition) == "1");
  ask(bob, Code::release, condition);
  const auto bobs = start(bob, Code::acquire, condition);
  BOOST_TEST(outcome(bobs) == "...");
  die(ann);
  BOOST_TEST(outcome(bobs) == "1");
}

BOOST_AUTO_TEST_CASE(a_set_is_seen_by_those_who_are_away) {
  const auto event = make(ObjectType::event);
  const auto ann = session(), bob = session();
  const auto anns = start(ann, Code::event_wait, event);
  restart();
  ask(bob, Code::event_set, event);
  ask(bob, Code::event_clear, event);
  BOOST_TEST(repeat(ann, Code::event_wait, event, {.request = anns}, applied(ann)));
  BOOST_TEST(outcome(anns) == "");
}

BOOST_AUTO_TEST_CASE(those_who_are_away_count_at_a_barrier_and_break_it_when_they_do_not_return) {
  AuxWords words{};
  BarrierState{.parties = 2}.write(words);
  const auto barrier = make(ObjectType::barrier, words);
  const auto ann = session(), bob = session();
  const auto anns = start(ann, Code::barrier_wait, barrier);
  restart();
  BOOST_TEST(ask(bob, Code::barrier_wait, barrier) == "1 0");
  BOOST_TEST(repeat(ann, Code::barrier_wait, barrier, {.request = anns}, applied(ann)));
  BOOST_TEST(outcome(anns) == "0 0");
  start(ann, Code::barrier_wait, barrier);
  restart();
  die(ann);
  BOOST_TEST(ask(bob, Code::barrier_wait, barrier) == "!broken");
}

BOOST_AUTO_TEST_CASE(a_second_restart_loses_nothing_either) {
  const auto condition = make(ObjectType::condition);
  const auto ann = session(), bob = session();
  ask(ann, Code::acquire, condition);
  const auto anns = start(ann, Code::condition_wait, condition);
  restart();
  ask(bob, Code::acquire, condition);
  ask(bob, Code::condition_notify, condition);
  restart();
  ask(bob, Code::release, condition);
  BOOST_TEST(repeat(ann, Code::condition_wait, condition, {.request = anns}, applied(ann)));
  BOOST_TEST(outcome(anns) == "1 0");
}

BOOST_AUTO_TEST_CASE(more_waits_than_a_record_knows_end_well_and_are_unknown_after_a_restart) {
  const auto lock = make(ObjectType::lock), event = make(ObjectType::event);
  const auto ann = session(), bob = session();
  ask(ann, Code::acquire, lock);
  std::vector<std::uint64_t> waits;
  for (std::size_t i = 0; i < 2 * Sync::kMaxNoted; ++i) waits.push_back(start(bob, Code::event_wait, event));
  const auto bobs = start(bob, Code::acquire, lock);
  ask(ann, Code::event_set, event);
  work();
  for (const auto request : waits) BOOST_REQUIRE(outcome(request) == "");
  for (std::size_t i = 0; i < Sync::kMaxNoted; ++i) start(bob, Code::queue_get, make_once(ObjectType::queue));
  const auto last = start(bob, Code::acquire, lock);
  ask(bob, Code::event_set, event);
  restart();
  BOOST_TEST(repeat(bob, Code::acquire, lock, {.request = bobs}, applied(bob)));
  BOOST_TEST(outcome(bobs) == "!outcome_unknown");
  BOOST_TEST(repeat(bob, Code::acquire, lock, {.request = last}, applied(bob)));
  BOOST_TEST(outcome(last) == "!outcome_unknown");
}

BOOST_AUTO_TEST_CASE(many_who_hold_and_wait_end_in_slices) {
  const auto ann = session(), bob = session();
  std::vector<ObjectId> locks;
  std::vector<std::uint64_t> waits;
  for (int i = 0; i < 500; ++i) {
    locks.push_back(make(ObjectType::lock));
    ask(ann, Code::acquire, locks.back());
    waits.push_back(start(bob, Code::acquire, locks.back()));
  }
  bool done = false;
  sync->end_session(ann, [&] { done = true; });
  BOOST_TEST(!done);
  BOOST_TEST(wants_work);
  work();
  BOOST_TEST(done);
  for (const auto request : waits) BOOST_REQUIRE(outcome(request) == "1");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool::store::testing
