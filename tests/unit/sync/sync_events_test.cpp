#include <boost/test/unit_test.hpp>

#include "tests/unit/sync/sync_story.hpp"

namespace taskpool::store::testing {
namespace {

using std::chrono::milliseconds;

constexpr AuxWords barrier_of(std::uint32_t parties, bool action = false) {
  AuxWords words{};
  BarrierState{.parties = parties, .has_action = action}.write(words);
  return words;
}

BOOST_FIXTURE_TEST_SUITE(events_barriers_and_queues, SyncStory)

BOOST_AUTO_TEST_CASE(an_event_lets_everybody_pass_while_it_is_set) {
  const auto event = make(ObjectType::event);
  const auto ann = session();
  const auto first = start(ann, Code::event_wait, event), second = start(ann, Code::event_wait, event, {.timeout = 5});
  BOOST_TEST(ask(ann, Code::event_wait, event, With{.timeout = kTry}) == "!timed_out");
  BOOST_TEST(ask(ann, Code::event_is_set, event) == "0");
  pass(milliseconds{5});
  BOOST_TEST(outcome(second) == "!timed_out");
  ask(ann, Code::event_set, event);
  BOOST_TEST(outcome(first) == "");
  BOOST_TEST(ask(ann, Code::event_wait, event) == "");
  BOOST_TEST(ask(ann, Code::event_is_set, event) == "1");
  ask(ann, Code::event_clear, event);
  BOOST_TEST(ask(ann, Code::event_wait, event, With{.timeout = kTry}) == "!timed_out");
}

BOOST_AUTO_TEST_CASE(a_set_that_a_clear_follows_is_missed_by_nobody_however_many_they_are) {
  const auto event = make(ObjectType::event);
  const auto ann = session();
  std::vector<std::uint64_t> waits;
  for (int i = 0; i < 1000; ++i) waits.push_back(start(ann, Code::event_wait, event));
  ask(ann, Code::event_set, event);
  ask(ann, Code::event_clear, event);
  const auto later = start(ann, Code::event_wait, event);
  BOOST_TEST(outcome(waits.back()) == "...");  // they are told in slices
  BOOST_TEST(wants_work);
  work();
  for (const auto request : waits) BOOST_REQUIRE(outcome(request) == "");
  BOOST_TEST(outcome(later) == "...");
}

BOOST_AUTO_TEST_CASE(a_barrier_lets_so_many_pass_and_numbers_them) {
  const auto barrier = make(ObjectType::barrier, barrier_of(3));
  const auto ann = session();
  for (int round = 0; round < 2; ++round) {
    std::vector<std::uint64_t> waits;
    for (int i = 0; i < 3; ++i) {
      BOOST_TEST(ask(ann, Code::barrier_state, barrier) == "3 " + std::to_string(i) + " 0");
      waits.push_back(start(ann, Code::barrier_wait, barrier));
    }
    work();
    for (int i = 0; i < 3; ++i) BOOST_TEST(outcome(waits[static_cast<std::size_t>(i)]) == std::to_string(i) + " 0");
  }
}

BOOST_AUTO_TEST_CASE(the_last_one_runs_the_action_before_anybody_passes) {
  const auto barrier = make(ObjectType::barrier, barrier_of(2, true));
  const auto ann = session(), bob = session(), cid = session(), dan = session();
  const auto anns = start(ann, Code::barrier_wait, barrier);
  const auto bobs = start(bob, Code::barrier_wait, barrier);
  work();
  BOOST_TEST(outcome(bobs) == "1 1");
  BOOST_TEST(outcome(anns) == "...");
  const auto cids = start(cid, Code::barrier_wait, barrier), dans = start(dan, Code::barrier_wait, barrier);
  work();
  BOOST_TEST(outcome(dans) == "...");  // the next round, before this one is over
  BOOST_TEST(ask(cid, Code::barrier_acted, barrier) == "!broken");
  BOOST_TEST(ask(bob, Code::barrier_acted, barrier) == "");
  work();
  BOOST_TEST(outcome(anns) == "0 0");
  BOOST_TEST(outcome(dans) == "1 1");
  BOOST_TEST(outcome(cids) == "...");
  BOOST_TEST(ask(dan, Code::barrier_acted, barrier, With{.number = 0}) == "");
  work();
  BOOST_TEST(outcome(cids) == "!broken");
}

BOOST_AUTO_TEST_CASE(a_barrier_breaks_by_timeout_cancel_death_and_abort) {
  const auto barrier = make(ObjectType::barrier, barrier_of(4));
  const auto ann = session(), bob = session();
  const auto broken = [&](std::uint64_t request) {
    work();
    BOOST_TEST(outcome(request) == "!broken");
    BOOST_TEST(ask(ann, Code::barrier_wait, barrier) == "!broken");
    BOOST_TEST(ask(ann, Code::barrier_state, barrier) == "4 0 1");
    BOOST_TEST(ask(ann, Code::barrier_reset, barrier) == "");
    BOOST_TEST(ask(ann, Code::barrier_state, barrier) == "4 0 0");
  };
  auto waits = start(ann, Code::barrier_wait, barrier);
  BOOST_TEST(ask(bob, Code::barrier_wait, barrier, With{.timeout = kTry}) == "!broken");
  broken(waits);
  waits = start(ann, Code::barrier_wait, barrier);
  start(bob, Code::barrier_wait, barrier, {.timeout = 5});
  pass(milliseconds{5});
  broken(waits);
  waits = start(ann, Code::barrier_wait, barrier);
  BOOST_TEST(sync->cancel(bob, start(bob, Code::barrier_wait, barrier)));
  broken(waits);
  waits = start(ann, Code::barrier_wait, barrier);
  ask(bob, Code::barrier_abort, barrier);
  broken(waits);
  waits = start(ann, Code::barrier_wait, barrier);
  start(bob, Code::barrier_wait, barrier);
  die(bob);
  broken(waits);
  waits = start(ann, Code::barrier_wait, barrier);
  ask(ann, Code::barrier_reset, barrier);
  work();
  BOOST_TEST(outcome(waits) == "!broken");
}

BOOST_AUTO_TEST_CASE(the_death_of_the_one_who_acts_breaks_the_barrier) {
  const auto barrier = make(ObjectType::barrier, barrier_of(2, true));
  const auto ann = session(), bob = session();
  const auto anns = start(ann, Code::barrier_wait, barrier);
  start(bob, Code::barrier_wait, barrier);
  work();
  die(bob);
  BOOST_TEST(outcome(anns) == "!broken");
}

BOOST_AUTO_TEST_CASE(a_bounded_queue_serves_both_sides_in_order) {
  const auto queue = make(ObjectType::joinable_queue, {1});
  const auto ann = session(), bob = session();
  const auto gets = start(bob, Code::queue_get, queue), gets_too = start(bob, Code::queue_get, queue);
  BOOST_TEST(ask(ann, Code::queue_put, queue, With{.item = "a"}) == "");
  BOOST_TEST(outcome(gets) == "a");
  BOOST_TEST(outcome(gets_too) == "...");
  BOOST_TEST(ask(ann, Code::queue_put, queue, With{.item = "b"}) == "");
  BOOST_TEST(outcome(gets_too) == "b");
  BOOST_TEST(ask(ann, Code::queue_put, queue, With{.item = "c"}) == "");
  BOOST_TEST(ask(ann, Code::queue_put, queue, With{.timeout = kTry, .item = "x"}) == "!timed_out");
  const auto puts = start(ann, Code::queue_put, queue, {.item = "d"}),
             puts_too = start(ann, Code::queue_put, queue, {.item = "e"});
  const auto cancelled = start(ann, Code::queue_put, queue, {.item = "x"});
  BOOST_TEST(sync->cancel(ann, cancelled));
  BOOST_TEST(ask(bob, Code::queue_get, queue) == "c");
  BOOST_TEST(outcome(puts) == "");
  BOOST_TEST(outcome(puts_too) == "...");
  BOOST_TEST(ask(bob, Code::queue_get, queue) == "d");
  BOOST_TEST(outcome(puts_too) == "");
  BOOST_TEST(ask(bob, Code::queue_get, queue) == "e");
  BOOST_TEST(ask(bob, Code::queue_get, queue, With{.timeout = kTry}) == "!timed_out");
  const auto joins = start(ann, Code::queue_join, queue);
  for (int i = 0; i < 5; ++i) {
    BOOST_TEST(outcome(joins) == "...");
    BOOST_TEST(ask(bob, Code::task_done, queue) == "");
  }
  BOOST_TEST(outcome(joins) == "");
  BOOST_TEST(ask(bob, Code::task_done, queue) == "!out_of_range");
}

BOOST_AUTO_TEST_CASE(a_held_queue_is_not_touched_until_it_may_change) {
  const auto queue = make(ObjectType::queue);
  const auto ann = session();
  const auto gets = start(ann, Code::queue_get, queue);
  ask(ann, Code::queue_put, queue, With{.item = "a"});
  BOOST_TEST(outcome(gets) == "a");
  const auto again = start(ann, Code::queue_get, queue, {.timeout = 5});
  held = queue;
  auto tx = segment.begin();
  push(tx, queue, {.value = bytes_of("b"), .encoding = 2}).value();
  tx.commit().value();
  sync->settle(queue);
  BOOST_TEST(outcome(again) == "...");
  held = ObjectId::none;
  sync->settle(queue);
  BOOST_TEST(outcome(again) == "b");
}

BOOST_AUTO_TEST_CASE(what_a_session_waits_to_put_is_bounded) {
  const auto queue = make(ObjectType::queue, {1});
  const auto ann = session();
  ask(ann, Code::queue_put, queue, With{.item = "a"});
  const std::string large(8u << 20, 'x');
  std::vector<std::uint64_t> waits;
  for (int i = 0; i < 8; ++i) waits.push_back(start(ann, Code::queue_put, queue, {.item = large}));
  BOOST_TEST(ask(ann, Code::queue_put, queue, With{.item = "x"}) == "!limit_reached");
  for (const auto request : waits) BOOST_TEST(sync->cancel(ann, request));
  work();
  BOOST_TEST(outcome(start(ann, Code::queue_put, queue, {.item = "x"})) == "...");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool::store::testing
