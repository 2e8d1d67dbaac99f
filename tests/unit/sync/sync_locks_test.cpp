#include <boost/test/unit_test.hpp>

#include "daemon/store/semaphore_state.hpp"
#include "tests/unit/sync/sync_story.hpp"

namespace taskpool::store::testing {
namespace {

using std::chrono::milliseconds;

BOOST_FIXTURE_TEST_SUITE(locks_in_a_segment, SyncStory)

BOOST_AUTO_TEST_CASE(a_lock_goes_round_in_order_of_coming) {
  const auto lock = make(ObjectType::lock);
  const auto ann = session(), bob = session(), cid = session();
  BOOST_TEST(ask(ann, Code::acquire, lock) == "0");
  const auto bobs = start(bob, Code::acquire, lock);
  const auto cids = start(cid, Code::acquire, lock);
  BOOST_TEST(outcome(bobs) == "...");
  BOOST_TEST(ask(ann, Code::sync_state, lock) == "0 2");
  BOOST_TEST(ask(ann, Code::release, lock) == "");
  BOOST_TEST(outcome(bobs) == "0");
  BOOST_TEST(outcome(cids) == "...");
  const auto anns = start(ann, Code::acquire, lock);
  BOOST_TEST(ask(ann, Code::release, lock) == "");  // anyone may
  BOOST_TEST(outcome(cids) == "0");
  BOOST_TEST(ask(cid, Code::release, lock) == "");
  BOOST_TEST(outcome(anns) == "0");
  BOOST_TEST(ask(ann, Code::release, lock) == "");
  BOOST_TEST(ask(ann, Code::release, lock) == "!not_owner");
  BOOST_TEST(ask(ann, Code::sync_state, lock) == "1 0");
  BOOST_TEST(deadlines == 0);
}

BOOST_AUTO_TEST_CASE(a_wait_ends_with_its_time_and_leaves_the_others_in_order) {
  const auto lock = make(ObjectType::lock);
  const auto ann = session(), bob = session(), cid = session();
  ask(ann, Code::acquire, lock);
  BOOST_TEST(ask(bob, Code::acquire, lock, With{.timeout = kTry}) == "!timed_out");
  BOOST_TEST(deadlines == 0);
  const auto bobs = start(bob, Code::acquire, lock, {.timeout = 50});
  const auto cids = start(cid, Code::acquire, lock, {.timeout = 80});
  BOOST_TEST(deadlines == 1);  // the second is later: one timer serves both
  pass(milliseconds{49});
  BOOST_TEST(outcome(bobs) == "...");
  pass(milliseconds{1});
  BOOST_TEST(outcome(bobs) == "!timed_out");
  ask(ann, Code::release, lock);
  BOOST_TEST(outcome(cids) == "0");
  BOOST_TEST(!sync->next_deadline());
}

BOOST_AUTO_TEST_CASE(a_wait_is_cancelled_once) {
  const auto lock = make(ObjectType::lock);
  const auto ann = session(), bob = session();
  ask(ann, Code::acquire, lock);
  const auto bobs = start(bob, Code::acquire, lock);
  BOOST_TEST(!sync->cancel(ann, bobs));
  BOOST_TEST(sync->cancel(bob, bobs));
  work();
  BOOST_TEST(outcome(bobs) == "!cancelled");
  BOOST_TEST(!sync->cancel(bob, bobs));
  BOOST_TEST(sync->size() == 0u);
}

BOOST_AUTO_TEST_CASE(the_death_of_a_holder_frees_what_it_held_and_the_next_one_is_told) {
  const auto lock = make(ObjectType::lock), rlock = make(ObjectType::rlock);
  const auto ann = session(), bob = session(), cid = session();
  ask(ann, Code::acquire, lock);
  ask(ann, Code::acquire, rlock);
  ask(ann, Code::acquire, rlock);
  const auto first = start(bob, Code::acquire, lock);
  const auto second = start(cid, Code::acquire, lock);
  die(ann);
  BOOST_TEST(outcome(first) == "1");
  BOOST_TEST(outcome(second) == "...");
  ask(bob, Code::release, lock);
  BOOST_TEST(outcome(second) == "0");
  BOOST_TEST(ask(cid, Code::acquire, rlock) == "1");
}

BOOST_AUTO_TEST_CASE(the_death_of_one_who_waits_changes_nothing_for_the_others) {
  const auto lock = make(ObjectType::lock);
  const auto ann = session(), bob = session(), cid = session();
  ask(ann, Code::acquire, lock);
  const auto bobs = start(bob, Code::acquire, lock);
  const auto cids = start(cid, Code::acquire, lock);
  die(bob);
  ask(ann, Code::release, lock);
  BOOST_TEST(outcome(cids) == "0");
  BOOST_TEST(outcome(bobs) == "...");
}

BOOST_AUTO_TEST_CASE(an_rlock_belongs_to_a_thread_of_a_session) {
  const auto rlock = make(ObjectType::rlock);
  const auto ann = session();
  ask(ann, Code::acquire, rlock);
  const auto other = start(ann, Code::acquire, rlock, {.thread = 2});
  BOOST_TEST(ask(ann, Code::acquire, rlock) == "0");  // its own, although another waits
  BOOST_TEST(ask(ann, Code::release, rlock, With{.thread = 2}) == "!not_owner");
  ask(ann, Code::release, rlock);
  BOOST_TEST(outcome(other) == "...");
  ask(ann, Code::release, rlock);
  BOOST_TEST(outcome(other) == "0");
}

BOOST_AUTO_TEST_CASE(a_bounded_semaphore_gets_back_what_the_dead_had) {
  const auto two = make(ObjectType::bounded_semaphore, {2, 2});
  const auto ann = session(), bob = session(), cid = session();
  ask(ann, Code::acquire, two);
  ask(ann, Code::acquire, two, With{.thread = 2});
  const auto bobs = start(bob, Code::acquire, two), cids = start(cid, Code::acquire, two);
  die(ann);
  BOOST_TEST(outcome(bobs) == "1");
  BOOST_TEST(outcome(cids) == "1");
  BOOST_TEST(ask(bob, Code::release, two, With{.number = 3}) == "!out_of_range");
  BOOST_TEST(ask(bob, Code::release, two, With{.number = 2}) == "");  // cid's too: anyone may
  BOOST_TEST(ask(bob, Code::release, two) == "!out_of_range");
  BOOST_TEST(sync->holdings().empty());
  die(cid);  // has nothing left to give back
  BOOST_TEST(ask(bob, Code::sync_state, two) == "2 0");
}

BOOST_AUTO_TEST_CASE(a_plain_semaphore_is_nobodys) {
  const auto one = make(ObjectType::semaphore, {1, 0x7fffffff});
  const auto ann = session(), bob = session();
  ask(ann, Code::acquire, one);
  const auto bobs = start(bob, Code::acquire, one);
  die(ann);
  BOOST_TEST(outcome(bobs) == "...");
  const auto cid = session();
  ask(cid, Code::release, one, With{.number = 3});
  BOOST_TEST(outcome(bobs) == "0");
  BOOST_TEST(ask(cid, Code::sync_state, one) == "2 0");
}

BOOST_AUTO_TEST_CASE(a_condition_gives_up_its_lock_however_deep_and_takes_it_back) {
  const auto condition = make(ObjectType::condition);
  const auto ann = session(), bob = session();
  BOOST_TEST(ask(ann, Code::condition_wait, condition) == "!not_owner");
  for (int depth = 0; depth < 3; ++depth) ask(ann, Code::acquire, condition);
  const auto waits = start(ann, Code::condition_wait, condition);
  BOOST_TEST(ask(bob, Code::acquire, condition) == "0");
  BOOST_TEST(ask(bob, Code::condition_notify, condition) == "1");
  BOOST_TEST(outcome(waits) == "...");  // bob still has the lock
  ask(bob, Code::release, condition);
  BOOST_TEST(outcome(waits) == "1 0");
  for (int depth = 0; depth < 3; ++depth) BOOST_TEST(ask(ann, Code::release, condition) == "");
  BOOST_TEST(ask(ann, Code::release, condition) == "!not_owner");
}

BOOST_AUTO_TEST_CASE(notify_wakes_so_many_in_order) {
  const auto condition = make(ObjectType::condition);
  std::vector<std::uint64_t> who, waits;
  for (int i = 0; i < 4; ++i) {
    who.push_back(session());
    ask(who.back(), Code::acquire, condition);
    waits.push_back(start(who.back(), Code::condition_wait, condition));
  }
  const auto bob = session();
  BOOST_TEST(ask(bob, Code::condition_notify, condition) == "!not_owner");
  ask(bob, Code::acquire, condition);
  BOOST_TEST(ask(bob, Code::condition_notify, condition, With{.number = 2}) == "2");
  ask(bob, Code::release, condition);
  BOOST_TEST(outcome(waits[0]) == "1 0");
  BOOST_TEST(outcome(waits[1]) == "...");  // notified, but the first has the lock
  ask(who[0], Code::release, condition);
  BOOST_TEST(outcome(waits[1]) == "1 0");
  BOOST_TEST(ask(who[1], Code::condition_notify, condition, With{.number = -1}) == "2");
  ask(who[1], Code::release, condition);
  BOOST_TEST(outcome(waits[2]) == "1 0");
  BOOST_TEST(outcome(waits[3]) == "...");
  ask(who[2], Code::release, condition);
  BOOST_TEST(outcome(waits[3]) == "1 0");
}

BOOST_AUTO_TEST_CASE(a_wait_on_a_condition_that_times_out_or_is_cancelled_has_its_lock_back) {
  const auto condition = make(ObjectType::condition);
  const auto ann = session(), bob = session();
  ask(ann, Code::acquire, condition);
  const auto late = start(ann, Code::condition_wait, condition, {.timeout = 10});
  ask(bob, Code::acquire, condition);
  pass(milliseconds{10});
  BOOST_TEST(outcome(late) == "...");
  const auto bobs = start(bob, Code::condition_wait, condition);
  BOOST_TEST(outcome(late) == "0 0");
  BOOST_TEST(ask(ann, Code::condition_wait, condition, With{.timeout = kTry}) == "0 0");
  BOOST_TEST(sync->cancel(bob, bobs));
  ask(ann, Code::release, condition);
  work();
  BOOST_TEST(outcome(bobs) == "!cancelled");
  BOOST_TEST(ask(bob, Code::release, condition) == "");
}

BOOST_AUTO_TEST_CASE(conditions_may_share_a_lock) {
  const auto lock = make(ObjectType::lock);
  const AuxWords other{static_cast<std::uint64_t>(lock), ~std::uint64_t{0}};
  const auto full = make(ObjectType::condition, other), empty = make(ObjectType::condition, other);
  const auto ann = session(), bob = session();
  ask(ann, Code::acquire, full);
  BOOST_TEST(ask(bob, Code::acquire, lock, With{.timeout = kTry}) == "!timed_out");
  const auto waits = start(ann, Code::condition_wait, full);
  BOOST_TEST(ask(bob, Code::acquire, empty) == "0");
  BOOST_TEST(ask(bob, Code::condition_notify, empty) == "0");
  BOOST_TEST(ask(bob, Code::condition_notify, full) == "1");
  ask(bob, Code::release, lock);
  BOOST_TEST(outcome(waits) == "1 0");
  die(ann);
  BOOST_TEST(ask(bob, Code::acquire, lock) == "1");
}

BOOST_AUTO_TEST_CASE(a_removed_object_has_nobody_waiting) {
  const auto lock = make(ObjectType::lock), condition = make(ObjectType::condition);
  const auto ann = session(), bob = session();
  ask(ann, Code::acquire, lock);
  const auto bobs = start(bob, Code::acquire, lock);
  ask(ann, Code::acquire, condition);
  const auto anns = start(ann, Code::condition_wait, condition);
  for (const auto object : {lock, condition}) {
    sync->forget_object(object);
    auto tx = segment.begin();
    segment.writer->remove(tx, object).value();
    tx.commit().value();
  }
  work();
  BOOST_TEST(outcome(bobs) == "!unknown_object");
  BOOST_TEST(outcome(anns) == "!unknown_object");
  die(ann);
  BOOST_TEST(sync->size() == 0u);
  BOOST_TEST(sync->holdings().empty());
}

BOOST_AUTO_TEST_CASE(rows_say_who_holds_and_who_waits) {
  const auto rlock = make(ObjectType::rlock), sem = make(ObjectType::bounded_semaphore, {2, 2});
  const auto ann = session(), bob = session();
  ask(ann, Code::acquire, rlock);
  ask(ann, Code::acquire, rlock);
  ask(bob, Code::acquire, sem, With{.thread = 7});
  start(bob, Code::acquire, rlock);
  auto rows = sync->holdings();
  std::sort(rows.begin(), rows.end(), [](const Holding& a, const Holding& b) { return a.object < b.object; });
  BOOST_REQUIRE(rows.size() == 2u);
  BOOST_TEST((rows[0].object == rlock));
  BOOST_TEST(rows[0].depth == 2u);
  BOOST_TEST(rows[0].owner.session == ann);
  BOOST_TEST(rows[0].since_ms == 1'000'000u);
  BOOST_TEST(rows[1].owner.thread == 7u);
  BOOST_REQUIRE(sync->waiting().size() == 1u);
  BOOST_TEST((sync->waiting()[0].object == rlock));
  BOOST_TEST(sync->waiting()[0].owner.session == bob);
}

BOOST_AUTO_TEST_CASE(a_number_waits_once) {
  const auto lock = make(ObjectType::lock), condition = make(ObjectType::condition);
  const auto ann = session(), bob = session();
  ask(ann, Code::acquire, lock);
  ask(bob, Code::acquire, condition);
  const auto bobs = start(bob, Code::acquire, lock);
  for (const auto& [code, object] : {std::pair{Code::acquire, lock}, std::pair{Code::condition_wait, condition}}) {
    clients[bob].heard.clear();
    BOOST_TEST(ask(bob, code, object, With{.request = bobs}) == "!bad_message");
  }
  clients[bob].heard.clear();
  ask(ann, Code::release, lock);
  BOOST_TEST(outcome(bobs) == "0");
}

BOOST_AUTO_TEST_CASE(a_large_record_grows_in_slices_and_its_session_waits_for_that) {
  const auto lock = make(ObjectType::lock), other = make(ObjectType::lock), third = make(ObjectType::lock);
  const auto ann = session(), bob = session(), cid = session();
  for (const auto each : {lock, other, third}) ask(ann, Code::acquire, each);
  const auto bobs = start(bob, Code::acquire, other), cids = start(cid, Code::acquire, other);
  const auto cancelled = start(bob, Code::acquire, third);
  // Up to where its index has to grow, and is too large for that to be done at once.
  for (int i = 0; growing.empty(); ++i) {
    auto tx = segment.begin();
    KeyBuffer key;
    key.set_integer(i);
    const auto done = segment.writer->put(tx, static_cast<ObjectId>(bob), key, input("open"));
    if (done)
      tx.commit().value();
    else
      work_on(static_cast<ObjectId>(bob));
  }
  const auto wait = call(bob, Code::acquire, lock, {});
  BOOST_TEST(!sync->run(wait));
  BOOST_TEST(sync->size() == 3u);
  // Nor is what has to be taken out of it done meanwhile, and those behind it do not overtake it.
  ask(ann, Code::release, other);
  BOOST_TEST(sync->cancel(bob, cancelled));
  turn();
  for (const auto request : {bobs, cids, cancelled}) BOOST_TEST(outcome(request) == "...");
  work();
  BOOST_TEST(slices > 10);
  BOOST_TEST(outcome(bobs) == "0");
  BOOST_TEST(outcome(cids) == "...");
  BOOST_TEST(outcome(cancelled) == "!cancelled");
  BOOST_TEST(sync->run(wait));
  BOOST_TEST(outcome(wait.request()) == "...");
  restart();
  ask(ann, Code::release, lock);
  BOOST_TEST(!repeat(bob, Code::acquire, lock, {.request = wait.request()}, applied(bob)));
}

BOOST_AUTO_TEST_CASE(a_session_that_ends_while_its_semaphore_grows_gives_its_units_back) {
  const auto pool = make(ObjectType::bounded_semaphore);
  {
    auto tx = segment.begin();
    AuxWords words{};
    SemaphoreState{.value = 20'000, .bound = 20'000}.write(words);
    for (std::size_t index = 0; index < words.size(); ++index)
      segment.writer->set_aux(tx, pool, index, words[index]).value();
    tx.commit().value();
  }
  const auto ann = session(), bob = session();
  std::uint32_t threads = 0;
  while (sync->run(call(ann, Code::acquire, pool, {.thread = ++threads}))) {
  }
  BOOST_TEST(!growing.empty());
  sync->end_session(ann, [] {});
  BOOST_TEST(ask(bob, Code::sync_state, pool) == std::to_string(20'001 - threads) + " 0");
  work();
  BOOST_TEST(ask(bob, Code::sync_state, pool) == "20000 0");
}

BOOST_AUTO_TEST_CASE(a_full_segment_does_not_keep_anybody_from_waiting) {
  const auto lock = make(ObjectType::lock);
  const auto ann = session(), bob = session();
  ask(ann, Code::acquire, lock);
  // Fill it to the last block that a record's entry could take.
  segment.limit = segment.extended;
  const auto dict = make(ObjectType::value);
  const std::string filler(200, 'x');
  for (int i = 0;; ++i) {
    auto tx = segment.begin();
    KeyBuffer key;
    key.set_integer(i);
    const auto done = segment.writer->put(tx, static_cast<ObjectId>(bob), key, input(filler));
    if (!done || !tx.commit()) break;
  }
  (void)dict;
  const auto bobs = start(bob, Code::acquire, lock);
  BOOST_TEST(outcome(bobs) == "...");
  ask(ann, Code::release, lock);
  BOOST_TEST(outcome(bobs) == "0");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool::store::testing
