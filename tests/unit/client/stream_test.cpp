#include <atomic>
#include <boost/test/unit_test.hpp>
#include <future>

#include "fake_server.hpp"

using namespace taskpool;
using namespace taskpool::test;
using namespace std::chrono_literals;

namespace {

MapStream start(Connected& c, const StreamOptions& options) {
  Call call;
  call.function = "f";
  return c.client.start_stream(call, options);
}

/// Echoes a job frame by frame.
void echo(Peer& peer) {
  std::uint32_t first = 0;
  for (Op op = Op::map;; op = Op::input) {
    const auto frame = peer.next(op);
    if (frame.prefix.count > 0) peer.results(frame.prefix.request, first, frame.items());
    first += frame.prefix.count;
    if ((frame.prefix.flags & kLast) != 0) return peer.done(frame.prefix.request, first);
  }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(stream)

BOOST_AUTO_TEST_CASE(one_thread_feeds_and_takes_within_the_window) {
  Connected c;
  const Background serving{[&] { echo(*c.peer); }};
  auto stream = start(c, {.ordered = true, .window_items = 50});
  std::uint64_t expected = 0;
  const auto take = [&](const std::optional<Outcome>& outcome) {
    BOOST_REQUIRE(outcome.has_value());
    BOOST_REQUIRE(outcome->index == expected);
    BOOST_REQUIRE(as_text(outcome->value.bytes) == std::to_string(expected));
    ++expected;
  };
  for (int i = 0; i < 1000; ++i) {
    while (!stream.try_push(Item::json(std::to_string(i))).value()) {
      BOOST_REQUIRE(stream.pushed() - stream.taken() == 50u);
      take(stream.next());
    }
  }
  stream.finish();
  while (expected < 1000) take(stream.next());
  BOOST_TEST(!stream.next().has_value());
  BOOST_TEST(stream.done().value().total == 1000u);
}

BOOST_AUTO_TEST_CASE(one_thread_feeds_and_another_takes) {
  Connected c;
  const Background serving{[&] { echo(*c.peer); }};
  auto stream = start(c, {.window_items = 100});
  const Background feeding{[&] {
    for (int i = 0; i < 20'000; ++i) expect(stream.push(Item::json(std::to_string(i))).has_value());
    stream.finish();
  }};
  std::uint64_t taken = 0;
  while (taken < 20'000) {
    if (stream.wait_for(20s) != MapStream::State::ready) continue;
    while (stream.try_next()) ++taken;
  }
  expect(!stream.next().has_value());
}

BOOST_AUTO_TEST_CASE(pushing_ends_if_nobody_takes) {
  Connected c;
  auto stream = start(c, {.window_items = 2});
  BOOST_TEST(stream.push(Item::json("0")).has_value());
  BOOST_TEST(stream.push(Item::json("1")).has_value());
  BOOST_TEST((stream.push(Item::json("2"), 20ms).error().errc() == Errc::timed_out));
  BOOST_TEST(stream.pushed() == 2u);
  const Background serving{[&] {
    auto frame = c.peer->next(Op::map);
    c.peer->results(frame.prefix.request, 0, {"0", "1"});
    frame = c.peer->next(Op::input);
    c.peer->results(frame.prefix.request, 2, frame.items());
    c.peer->done(frame.prefix.request, 3);
  }};
  BOOST_TEST(stream.next()->index == 0u);
  BOOST_TEST(stream.next()->index == 1u);
  BOOST_TEST(stream.push(Item::json("2"), 20ms).has_value());
  stream.finish();
  BOOST_TEST(stream.next()->index == 2u);
  BOOST_TEST(!stream.next().has_value());
}

BOOST_AUTO_TEST_CASE(pushing_is_patient_with_a_taker_who_waits) {
  Connected c;
  auto stream = start(c, {.window_items = 1});
  BOOST_TEST(stream.try_push(Item::json("0")).value());
  std::promise<void> taker_waits;
  std::atomic<bool> pushed{false};
  std::atomic<bool> finished{false};
  const Background serving{[&] {
    const auto frame = c.peer->next(Op::map);  // the taker sent it before it waited
    taker_waits.set_value();
    expect(!c.peer->closes(500ms));
    expect(!pushed);
    c.peer->results(frame.prefix.request, 0, {"0"});
    while ((c.peer->next(Op::input).prefix.flags & kLast) == 0) continue;
    c.peer->results(frame.prefix.request, 1, {"1"});
    c.peer->done(frame.prefix.request, 2);
  }};
  const Background feeding{[&] {
    taker_waits.get_future().wait();
    expect(stream.push(Item::json("1"), 100ms).has_value());  // several times as long; the taker may be slow to wake up
    pushed = true;
    stream.finish();
    finished = true;
  }};
  std::uint64_t taken = 0;
  while (taken < 2 && !(finished && stream.wait_for(20s) == MapStream::State::idle))
    if (stream.wait_for(20s) == MapStream::State::ready) taken += stream.try_next() ? 1 : 0;
  BOOST_TEST(taken == 2u);
  BOOST_TEST(!stream.next().has_value());
}

BOOST_AUTO_TEST_CASE(ordered_outcomes_wait_for_those_before_them) {
  Connected c;
  auto stream = start(c, {.ordered = true});
  for (const auto* text : {"a", "b", "c"}) (void)stream.try_push(Item::json(text));
  BOOST_TEST((stream.wait_for(1ms) == MapStream::State::timed_out));
  const auto job = c.peer->next(Op::map).prefix.request;
  c.peer->results(job, 1, {"B", "C"});
  BOOST_TEST((stream.wait_for(20ms) == MapStream::State::timed_out));
  c.peer->failed(job, 0, 1, "task_failed", "no");
  BOOST_TEST((stream.wait_for(20s) == MapStream::State::ready));
  BOOST_TEST(stream.try_next()->error->detail == "no");
  BOOST_TEST(as_text(stream.try_next()->value.bytes) == "B");
  BOOST_TEST(as_text(stream.try_next()->value.bytes) == "C");
  BOOST_TEST((stream.wait_for(20s) == MapStream::State::idle));  // nothing is due
  stream.finish();
  BOOST_TEST((stream.wait_for(1ms) == MapStream::State::timed_out));  // but the job has not ended
  c.peer->done(job, 3, 1);
  BOOST_TEST((stream.wait_for(20s) == MapStream::State::idle));
}

BOOST_AUTO_TEST_CASE(a_job_that_fails_gives_every_item_its_error) {
  Connected c;
  auto stream = start(c, {});
  (void)stream.try_push(Item::json("1"));
  stream.flush();
  (void)stream.try_push(Item::json("2"));  // still collected when the job fails
  (void)c.client.flush();
  const auto frame = c.peer->next(Op::map);
  c.peer->error(frame, "unknown_function", "f");
  for (int i = 0; i < 2; ++i) {
    const auto outcome = stream.next();
    BOOST_REQUIRE(outcome.has_value());
    BOOST_TEST((outcome->error->code == Errc::unknown_function));
  }
  BOOST_TEST((stream.try_push(Item::json("3")).error().errc() == Errc::unknown_function));
  BOOST_TEST(!stream.next().has_value());
  BOOST_TEST((stream.done().error().errc() == Errc::unknown_function));
}

BOOST_AUTO_TEST_CASE(items_of_a_map_have_one_encoding) {
  Connected c;
  auto stream = start(c, {});
  BOOST_TEST(stream.try_push(Item::json("1")).value());
  BOOST_TEST((stream.try_push(Item::raw(as_bytes("x"))).error().errc() == Errc::bad_argument));
  stream.finish();
  BOOST_TEST((stream.try_push(Item::json("1")).error().errc() == Errc::bad_argument));
}

BOOST_AUTO_TEST_CASE(the_window_bounds_bytes_too) {
  Connected c;
  auto stream = start(c, {.window_bytes = 10'000});
  const std::string text(4000, '1');
  BOOST_TEST(stream.try_push(Item::json(text)).value());
  BOOST_TEST(stream.try_push(Item::json(text)).value());
  BOOST_TEST(!stream.try_push(Item::json(text)).value());
  const Background serving{[&] { echo(*c.peer); }};
  BOOST_TEST(stream.next()->value.bytes.size() == 4000u);
  BOOST_TEST(stream.try_push(Item::json(text)).value());
  stream.finish();
  while (stream.next()) continue;
}

BOOST_AUTO_TEST_CASE(imap_pulls_its_input_as_it_needs_it) {
  Connected c;
  const Background serving{[&] { echo(*c.peer); }};
  int pulled = 0;
  auto imap = c.client.pool().imap<int>("f",
                                        [&]() -> std::optional<int> {
                                          if (pulled == 500) return std::nullopt;
                                          return pulled++;
                                        },
                                        {.window = 10});
  for (int i = 0; i < 500; ++i) {
    const auto output = imap.next();
    BOOST_REQUIRE(output.has_value());
    BOOST_REQUIRE(output->value.value() == i);
    BOOST_REQUIRE(pulled <= i + 12);  // the window, and one that did not fit
  }
  BOOST_TEST(!imap.next().has_value());
}

BOOST_AUTO_TEST_CASE(imap_takes_ranges_and_is_one) {
  Connected c;
  const Background serving{[&] {
    echo(*c.peer);
    echo(*c.peer);
  }};
  std::vector<std::string> outputs;
  for (auto& [index, output] : c.client.pool().imap<std::string>("f", std::vector<std::string>{"a", "b"}))
    outputs.push_back(std::to_string(index) + output.value());
  BOOST_TEST(outputs == (std::vector<std::string>{"0a", "1b"}));
  const std::vector<int> numbers{7};
  auto imap = c.client.pool().imap_unordered<int>("f", numbers);
  BOOST_TEST(imap.next()->value.value() == 7);
  BOOST_TEST(!imap.next().has_value());
  BOOST_TEST(imap.done().value().total == 1u);
}

BOOST_AUTO_TEST_CASE(an_input_that_cannot_be_encoded_is_the_last_output) {
  Connected c;
  const Background serving{[&] { echo(*c.peer); }};
  auto imap = c.client.pool().imap<std::string>("f", std::vector<std::string>{"a", "\xff", "b"});
  BOOST_TEST(imap.next()->value.value() == "a");
  const auto last = imap.next();
  BOOST_TEST(last->index == 1u);
  BOOST_TEST((last->value.error().errc() == Errc::bad_argument));
  BOOST_TEST(!imap.next().has_value());
}

BOOST_AUTO_TEST_SUITE_END()
