#include <boost/test/unit_test.hpp>

#include "daemon/store/barrier_state.hpp"
#include "daemon/store/lock_state.hpp"
#include "daemon/store/queue_state.hpp"
#include "daemon/store/semaphore_state.hpp"

namespace taskpool::store {
namespace {

constexpr Owner kAnn{1, 1};
constexpr Owner kAnnsOtherThread{1, 2};
constexpr Owner kBob{2, 1};
constexpr bool kRecursive = true;
constexpr bool kPlain = false;

constexpr LockState held_by(Owner owner, std::uint32_t depth = 1) { return {owner, depth, false, 5}; }

template <class State>
State round_trip(const State& state) {
  AuxWords words{};
  state.write(words);
  return State::from(words);
}

BOOST_AUTO_TEST_SUITE(lock_table)

BOOST_AUTO_TEST_CASE(a_free_lock_is_taken) {
  for (const bool recursive : {kPlain, kRecursive}) {
    const auto taken = acquire(LockState{}, recursive, kAnn, 5);
    BOOST_TEST((taken.verdict == Verdict::done));
    BOOST_TEST((taken.state == held_by(kAnn)));
    BOOST_TEST(!taken.owner_died);
  }
}

BOOST_AUTO_TEST_CASE(a_held_lock_is_waited_for_even_by_its_holder) {
  BOOST_TEST((acquire(held_by(kAnn), kPlain, kBob, 9).verdict == Verdict::wait));
  BOOST_TEST((acquire(held_by(kAnn), kPlain, kAnn, 9).verdict == Verdict::wait));
}

BOOST_AUTO_TEST_CASE(an_rlock_counts_for_its_owner_alone) {
  const auto twice = acquire(held_by(kAnn), kRecursive, kAnn, 9);
  BOOST_TEST((twice.state == held_by(kAnn, 2)));  // and it is still held since 5
  BOOST_TEST((acquire(held_by(kAnn), kRecursive, kBob, 9).verdict == Verdict::wait));
  BOOST_TEST((acquire(held_by(kAnn), kRecursive, kAnnsOtherThread, 9).verdict == Verdict::wait));
  const auto too_often = acquire(held_by(kAnn, LockState::kMaxDepth), kRecursive, kAnn, 9);
  BOOST_TEST((too_often.verdict == Verdict::refused));
  BOOST_TEST(too_often.error == Errc::limit_reached);
  BOOST_TEST((too_often.state == held_by(kAnn, LockState::kMaxDepth)));
}

BOOST_AUTO_TEST_CASE(anyone_releases_a_lock_but_only_the_owner_an_rlock) {
  BOOST_TEST((release(held_by(kAnn), kPlain, kBob).state == LockState{}));
  for (const auto owner : {kBob, kAnnsOtherThread}) {
    const auto refused = release(held_by(kAnn, 2), kRecursive, owner);
    BOOST_TEST((refused.verdict == Verdict::refused));
    BOOST_TEST(refused.error == Errc::not_owner);
    BOOST_TEST((refused.state == held_by(kAnn, 2)));
  }
  BOOST_TEST((release(held_by(kAnn, 2), kRecursive, kAnn).state == held_by(kAnn)));
  BOOST_TEST((release(held_by(kAnn), kRecursive, kAnn).state == LockState{}));
}

BOOST_AUTO_TEST_CASE(a_free_lock_cannot_be_released) {
  BOOST_TEST(release(LockState{}, kPlain, kAnn).error == Errc::not_owner);
  BOOST_TEST(release(LockState{}, kRecursive, kAnn).error == Errc::not_owner);
}

BOOST_AUTO_TEST_CASE(the_next_owner_learns_of_a_death_and_the_one_after_does_not) {
  const auto orphan = abandon(held_by(kAnn, 3), kAnn.session);
  BOOST_TEST(!orphan.is_held());
  BOOST_TEST((abandon(held_by(kAnn), kBob.session) == held_by(kAnn)));
  const auto next = acquire(orphan, kRecursive, kBob, 9);
  BOOST_TEST(next.owner_died);
  BOOST_TEST(next.state.depth == 1u);
  const auto after = acquire(release(next.state, kRecursive, kBob).state, kRecursive, kAnn, 10);
  BOOST_TEST(!after.owner_died);
}

BOOST_AUTO_TEST_CASE(a_condition_gives_up_and_takes_back_the_whole_depth) {
  BOOST_TEST((give_up(held_by(kAnn, 3)) == LockState{}));
  BOOST_TEST((acquire(LockState{}, kRecursive, kAnn, 5, 3).state == held_by(kAnn, 3)));
  BOOST_TEST(may_use_condition(held_by(kAnn), kRecursive, kAnn));
  BOOST_TEST(!may_use_condition(held_by(kAnn), kRecursive, kBob));
  BOOST_TEST(may_use_condition(held_by(kAnn), kPlain, kBob));
  BOOST_TEST(!may_use_condition(LockState{}, kPlain, kAnn));
}

BOOST_AUTO_TEST_CASE(the_words_keep_it_all) {
  const LockState state{{0x123456789abcdef0, 0xfedcba98}, 0x7ffffffe, true, 1'700'000'000'123};
  BOOST_TEST((round_trip(state) == state));
  BOOST_TEST((round_trip(LockState{}) == LockState{}));
  BOOST_TEST((LockState::from({}) == LockState{}));
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(semaphore_table)

BOOST_AUTO_TEST_CASE(units_are_taken_and_given_back) {
  const SemaphoreState two{2, 2};
  const auto one = acquire(two);
  BOOST_TEST(one.state.value == 1u);
  const auto none = acquire(one.state);
  BOOST_TEST((acquire(none.state).verdict == Verdict::wait));
  BOOST_TEST(release(none.state, 2).state.value == 2u);
}

BOOST_AUTO_TEST_CASE(a_bounded_one_cannot_be_released_too_often) {
  const SemaphoreState full{2, 2};
  BOOST_TEST(release(full).error == Errc::out_of_range);
  BOOST_TEST(release({1, 2}, 2).error == Errc::out_of_range);
  BOOST_TEST(release({1, 2}, ~std::uint64_t{0}).error == Errc::out_of_range);
  BOOST_TEST(release({7, 2}).error == Errc::out_of_range);  // words that somebody damaged
  BOOST_TEST(release({1, 2}, 2).state.value == 1u);
}

BOOST_AUTO_TEST_CASE(an_unbounded_one_has_the_bound_of_sem_post) {
  BOOST_TEST((release(SemaphoreState{SemaphoreState::kMaxSemaphore - 1}).verdict == Verdict::done));
  BOOST_TEST(release(SemaphoreState{SemaphoreState::kMaxSemaphore}).error == Errc::out_of_range);
}

BOOST_AUTO_TEST_CASE(as_many_learn_of_a_death_as_units_came_from_it) {
  auto state = abandon(SemaphoreState{0, 3}, 2);
  BOOST_TEST(state.value == 2u);
  for (const bool died : {true, true}) {
    const auto next = acquire(state);
    BOOST_TEST(next.owner_died == died);
    state = next.state;
  }
  BOOST_TEST(!acquire(release(state).state).owner_died);
  BOOST_TEST(abandon(SemaphoreState{2, 3}, 5).value == 3u);  // never above the bound
}

BOOST_AUTO_TEST_CASE(the_words_keep_it_all) {
  const SemaphoreState state{3, 4, 1};
  BOOST_TEST((round_trip(state) == state));
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(barrier_table)

using Phase = BarrierState::Phase;
using enum BarrierEvent;

BarrierAction action_of(const BarrierState& state, BarrierEvent event, std::uint64_t waiting = 0,
                        std::uint64_t session = 0) {
  return step(state, event, waiting, session).action;
}

BOOST_AUTO_TEST_CASE(the_last_one_lets_all_pass) {
  const BarrierState three{.parties = 3};
  BOOST_TEST((action_of(three, arrived, 2) == BarrierAction::none));
  BOOST_TEST((action_of(three, arrived, 3) == BarrierAction::pass));
  BOOST_TEST((step(three, arrived, 3).state == three));
  BOOST_TEST((action_of({.parties = 1}, arrived, 1) == BarrierAction::pass));
}

BOOST_AUTO_TEST_CASE(with_an_action_the_last_one_runs_it_first) {
  auto now = step({.parties = 2, .has_action = true}, arrived, 2);
  BOOST_TEST((now.action == BarrierAction::elect));
  BOOST_TEST((now.state.phase == Phase::acting));
  now.state.actor = 7;
  BOOST_TEST((action_of(now.state, arrived, 5) == BarrierAction::none));  // the next round waits
  BOOST_TEST((action_of(now.state, acted, 1, 8) == BarrierAction::refuse));
  const auto done = step(now.state, acted, 1, 7);
  BOOST_TEST((done.action == BarrierAction::pass_rest));
  BOOST_TEST((done.state == BarrierState{.parties = 2, .has_action = true}));
  BOOST_TEST((action_of(done.state, acted, 1, 7) == BarrierAction::refuse));
}

BOOST_AUTO_TEST_CASE(one_who_leaves_breaks_it_until_a_reset) {
  for (const auto phase : {Phase::filling, Phase::acting}) {
    const auto broken = step({.parties = 2, .phase = phase, .actor = 7}, left, 1);
    BOOST_TEST((broken.action == BarrierAction::break_all));
    BOOST_TEST((broken.state.phase == Phase::broken));
    BOOST_TEST(broken.state.actor == 0u);
    BOOST_TEST((action_of(broken.state, arrived, 1) == BarrierAction::break_all));
    BOOST_TEST((action_of(broken.state, left) == BarrierAction::none));
    BOOST_TEST((action_of(broken.state, acted, 0, 7) == BarrierAction::refuse));
    const auto again = step(broken.state, reset, 0);
    BOOST_TEST((again.state == BarrierState{.parties = 2}));
  }
}

BOOST_AUTO_TEST_CASE(reset_and_abort_send_everybody_away) {
  const BarrierState two{.parties = 2};
  BOOST_TEST((action_of(two, reset, 1) == BarrierAction::break_all));
  BOOST_TEST((step(two, reset, 1).state == two));
  BOOST_TEST((action_of(two, aborted, 1) == BarrierAction::break_all));
  BOOST_TEST((step(two, aborted, 1).state.phase == Phase::broken));
}

BOOST_AUTO_TEST_CASE(the_words_keep_it_all) {
  for (const auto phase : {Phase::filling, Phase::acting, Phase::broken})
    for (const bool has_action : {false, true}) {
      const BarrierState state{0xffffffff, has_action, phase, 99};
      BOOST_TEST((round_trip(state) == state));
    }
  BOOST_TEST((BarrierState::from({std::uint64_t{77} << 32, 0}).phase == Phase::broken));  // words that somebody damaged
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(queue_table)

BOOST_AUTO_TEST_CASE(puts_wait_while_it_is_full_and_gets_while_it_is_empty) {
  const auto one = put({.maxsize = 1});
  BOOST_TEST((one.verdict == Verdict::done));
  BOOST_TEST((put(one.state).verdict == Verdict::wait));
  const auto none = get(one.state);
  BOOST_TEST((none.verdict == Verdict::done));
  BOOST_TEST((get(none.state).verdict == Verdict::wait));
  BOOST_TEST((put({.maxsize = 0, .items = 1'000'000}).verdict == Verdict::done));
}

BOOST_AUTO_TEST_CASE(join_waits_for_task_done_not_for_get) {
  auto state = put(put({}).state).state;
  state = get(get(state).state).state;
  BOOST_TEST((join(state).verdict == Verdict::wait));
  state = task_done(state).state;
  BOOST_TEST((join(state).verdict == Verdict::wait));
  state = task_done(state).state;
  BOOST_TEST((join(state).verdict == Verdict::done));
  BOOST_TEST(task_done(state).error == Errc::out_of_range);
}

BOOST_AUTO_TEST_CASE(the_words_keep_it_all) {
  AuxWords words{};
  QueueState{5, 3, 2}.write(words);
  BOOST_TEST((QueueState::from(words, 2) == QueueState{5, 3, 2}));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool::store
