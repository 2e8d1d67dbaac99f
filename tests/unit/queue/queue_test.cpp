#include "daemon/queue/queue.hpp"

#include <boost/test/unit_test.hpp>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "daemon/queue/job_table.hpp"

namespace taskpool::queue {
namespace {

/// A queue with jobs of one-byte items.
struct Fixture {
  JobTable table{1};
  Queue queue;
  Function function;
  std::vector<Transition::Kind> seen;

  Fixture() {
    queue.on_transition = [this](const Transition& transition) { seen.push_back(transition.kind); };
  }

  Job& job(std::uint32_t uid, std::uint32_t session, std::uint32_t items, int priority = 0) {
    auto call = boost::intrusive_ptr<PreparedCall>{new PreparedCall};
    call->function = &function;
    call->priority = priority;
    auto& made = *table.create();
    made.call = call;
    made.turn = &queue.turn_of(uid, session, priority);
    made.is_map = items != 1;
    queue.accept(made);
    if (items > 0) add(made, items);
    queue.end_input(made);
    return made;
  }

  void add(Job& to, std::uint32_t items) {
    const std::vector<std::byte> numbers(items);
    queue.add_input(to, Block::make(0, Encoding::u8, to.total, items, numbers));
  }

  /// Starts `items` of whose turn it is and says whose that was.
  std::uint32_t serve(std::uint32_t items = 1, std::int64_t cost_ns = 1000) {
    auto* turn = queue.next();
    BOOST_REQUIRE(turn != nullptr);
    auto& front = Queue::front(*turn);
    const auto session = turn->session();
    (void)queue.start(front, items, 1000, cost_ns);
    return session;
  }
};

BOOST_FIXTURE_TEST_SUITE(queues, Fixture)

BOOST_AUTO_TEST_CASE(one_session_is_served_first_come_first_served) {
  auto& first = job(1, 1, 2);
  job(1, 1, 1);
  BOOST_TEST(&Queue::front(*queue.next()) == &first);
  serve(2);
  BOOST_TEST(&Queue::front(*queue.next()) != &first);
  serve();
  BOOST_TEST(queue.next() == nullptr);
  BOOST_TEST(queue.running() == 3u);
}

BOOST_AUTO_TEST_CASE(a_long_map_does_not_keep_another_session_waiting) {
  job(1, 1, 1'000'000);
  serve(100);
  job(1, 2, 1);
  BOOST_TEST(serve() == 2u);
  BOOST_TEST(serve() == 1u);
}

BOOST_AUTO_TEST_CASE(users_share_before_sessions_do) {
  job(1, 1, 10'000);
  job(1, 2, 10'000);
  job(1, 3, 10'000);
  job(2, 4, 10'000);
  std::map<std::uint32_t, int> turns;
  for (int round = 0; round < 600; ++round) ++turns[serve()];
  BOOST_TEST(turns[4] >= 295);
  BOOST_TEST(turns[4] <= 305);
  for (const auto session : {1u, 2u, 3u}) {
    BOOST_TEST(turns[session] >= 95);
    BOOST_TEST(turns[session] <= 105);
  }
}

BOOST_AUTO_TEST_CASE(time_counts_not_items) {
  job(1, 1, 10'000);
  job(1, 2, 10'000);
  int cheap = 0;
  for (int round = 0; round < 300; ++round) {
    auto* turn = queue.next();
    const bool first = turn->session() == 1;
    cheap += first ? 1 : 0;
    (void)queue.start(Queue::front(*turn), 1, 1000, first ? 1000 : 5000);
  }
  BOOST_TEST(cheap >= 240);
  BOOST_TEST(cheap <= 260);
}

BOOST_AUTO_TEST_CASE(a_user_who_is_held_is_passed_over_at_every_priority) {
  job(1, 1, 2);
  job(1, 2, 1, 5);
  job(2, 3, 2);
  queue.hold(1);
  BOOST_TEST(serve() == 3u);
  job(1, 4, 1, 3);  // what comes meanwhile has no turn either, or is held the next time
  queue.hold(1);
  BOOST_TEST(serve() == 3u);
  BOOST_TEST(queue.next() == nullptr);
  BOOST_TEST(queue.waiting() == 4u);
  queue.release_held();
  for (const auto session : {2u, 4u, 1u, 1u}) BOOST_TEST(serve() == session);
  BOOST_TEST(queue.next() == nullptr);
}

BOOST_AUTO_TEST_CASE(a_held_user_may_end_and_has_no_credit_afterwards) {
  auto& cancelled = job(1, 1, 5);
  queue.hold(1);
  queue.stop(cancelled);
  queue.forget_session(1, 1);
  queue.release_held();
  BOOST_TEST(queue.next() == nullptr);
  job(1, 2, 10'000);
  job(2, 3, 10'000);
  for (int round = 0; round < 1000; ++round) {
    queue.hold(1);
    BOOST_TEST(serve() == 3u);
    queue.release_held();
  }
  std::map<std::uint32_t, int> turns;
  for (int round = 0; round < 100; ++round) ++turns[serve()];
  BOOST_TEST(turns[2] <= 55);
}

BOOST_AUTO_TEST_CASE(what_waits_is_counted_for_its_user) {
  const UsagePtr usage{new Usage};
  auto& counted = job(1, 1, 0);
  counted.usage = usage;
  add(counted, 10);
  BOOST_TEST(usage->queued_tasks == 10u);
  auto range = queue.start(counted, 6, 1000, 0);
  BOOST_TEST(usage->queued_tasks == 4u);
  auto back = range;
  back.drop_front(4);
  queue.give_back(counted, back, 0);
  BOOST_TEST(usage->queued_tasks == 6u);
  range.count = 2;
  queue.delay(counted, range);
  BOOST_TEST(usage->queued_tasks == 6u);
  queue.resume(counted, range);
  BOOST_TEST(usage->queued_tasks == 8u);
  queue.stop(counted);
  BOOST_TEST(usage->queued_tasks == 0u);
}

BOOST_AUTO_TEST_CASE(a_higher_priority_goes_first_always) {
  job(1, 1, 100);
  job(2, 2, 3, 5);
  for (int round = 0; round < 3; ++round) BOOST_TEST(serve() == 2u);
  BOOST_TEST(serve() == 1u);
}

BOOST_AUTO_TEST_CASE(whoever_was_away_has_no_credit) {
  job(1, 1, 10'000);
  job(1, 2, 1);
  serve();
  serve();
  for (int round = 0; round < 1000; ++round) serve();
  job(1, 2, 10'000);
  int second = 0;
  for (int round = 0; round < 100; ++round) second += serve() == 2 ? 1 : 0;
  BOOST_TEST(second <= 52);
}

BOOST_AUTO_TEST_CASE(the_oldest_is_the_one_that_waits_longest_in_any_turn) {
  const auto at = [](int seconds) { return TimePoint{std::chrono::seconds{seconds}}; };
  const auto arrive = [&](std::uint32_t session, int priority, int seconds) -> Job& {
    auto& made = job(1, session, 0, priority);
    const std::byte item{};
    queue.add_input(made, Block::make_single(0, Encoding::u8, 1, std::span{&item, 1}, at(seconds)));
    return made;
  };
  BOOST_TEST(!queue.oldest());
  arrive(1, 0, 30);
  arrive(1, 0, 50);
  arrive(2, 5, 40);
  BOOST_TEST((queue.oldest() == at(30)));
  arrive(3, -5, 10);
  BOOST_TEST((queue.oldest() == at(10)));
  queue.pause_session(1, 3, true);  // it waits for its client, not for a worker
  BOOST_TEST((queue.oldest() == at(30)));
  serve();  // the higher priority
  serve();
  BOOST_TEST((queue.oldest() == at(50)));
}

BOOST_AUTO_TEST_CASE(what_comes_back_is_first_again_and_in_order) {
  auto& all = job(1, 1, 10);
  auto first = queue.start(all, 3, 1000, 10);
  auto second = queue.start(all, 4, 1000, 10);
  BOOST_TEST(all.waiting == 3u);
  queue.give_back(all, std::move(second), 10);
  queue.give_back(all, std::move(first), 10);
  BOOST_TEST(all.waiting == 10u);
  BOOST_TEST(all.running == 0u);
  std::uint32_t next = 0;
  while (all.waiting > 0) {
    const auto range = queue.start(all, 2, 1000, 10);
    BOOST_TEST(range.index == next);
    next += range.count;
  }
  BOOST_TEST(next == 10u);
}

BOOST_AUTO_TEST_CASE(a_paused_session_is_passed_over_and_comes_back) {
  job(1, 1, 10);
  job(1, 2, 10);
  queue.pause_session(1, 1, true);
  for (int round = 0; round < 5; ++round) BOOST_TEST(serve() == 2u);
  queue.pause_session(1, 2, true);
  BOOST_TEST(queue.next() == nullptr);
  queue.pause_session(1, 1, false);
  BOOST_TEST(serve() == 1u);
}

BOOST_AUTO_TEST_CASE(a_stopped_job_gives_up_what_waits_and_nothing_else) {
  auto& stopped = job(1, 1, 10);
  (void)queue.start(stopped, 4, 1000, 1);
  add(stopped, 0);
  const auto dropped = queue.stop(stopped);
  std::uint32_t items = 0;
  for (const auto& range : dropped) items += range.count;
  BOOST_TEST(items == 6u);
  BOOST_TEST(queue.next() == nullptr);
  BOOST_TEST(!stopped.finished());
  queue.succeed(stopped, 3);
  queue.cancel_running(stopped, 1);
  BOOST_TEST(stopped.finished());
  BOOST_TEST(stopped.cancelled_items == 7u);
  BOOST_TEST(queue.running() == 0u);
}

BOOST_AUTO_TEST_CASE(a_repeat_waits_outside_and_then_goes_first) {
  auto& repeated = job(1, 1, 3);
  auto range = queue.start(repeated, 1, 1000, 1);
  queue.delay(repeated, range);
  BOOST_TEST(repeated.delayed == 1u);
  BOOST_TEST(!repeated.finished());
  queue.resume(repeated, range);
  BOOST_TEST(queue.start(repeated, 1, 1000, 1).index == 0u);
}

BOOST_AUTO_TEST_CASE(a_job_moves_to_another_turn_with_what_runs_of_it) {
  auto& moved = job(1, 1, 2);
  (void)queue.start(moved, 2, 1000, 1);
  Queue::move(moved, queue.turn_of(1, 0, 0));
  queue.forget_session(1, 1);
  BOOST_TEST(queue.turn_of(1, 0, 0).running() == 2u);
  queue.succeed(moved, 2);
  BOOST_TEST(queue.turn_of(1, 0, 0).running() == 0u);
}

BOOST_AUTO_TEST_CASE(every_change_is_a_transition_that_a_journal_would_hear) {
  auto& heard = job(1, 1, 2);
  (void)queue.start(heard, 2, 1000, 1);
  queue.succeed(heard, 1);
  queue.fail(heard, 1);
  queue.end(heard);
  using Kind = Transition::Kind;
  const std::vector<Kind> expected{Kind::accepted,  Kind::input,  Kind::input_ended, Kind::started,
                                   Kind::succeeded, Kind::failed, Kind::ended};
  BOOST_TEST((seen == expected));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool::queue
