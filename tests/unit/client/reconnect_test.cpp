#include <sys/socket.h>

#include <atomic>
#include <boost/test/unit_test.hpp>
#include <map>
#include <set>

#include "fake_server.hpp"

using namespace taskpool;
using namespace taskpool::test;
using namespace std::chrono_literals;

namespace {

void impatient(ClientOptions& options) { options.reconnect_timeout = 100ms; }

}  // namespace

BOOST_AUTO_TEST_SUITE(reconnect)

BOOST_AUTO_TEST_CASE(what_was_written_may_have_run) {
  Connected c{{}, impatient};
  const Background serving{[&] {
    (void)c.peer->next(Op::apply);
    c.server.stop();
    c.peer->close();
  }};
  const auto result = c.client.pool().apply<int>("f");
  BOOST_TEST((result.error().errc() == Errc::outcome_unknown));
}

BOOST_AUTO_TEST_CASE(a_result_that_came_before_the_end_counts) {
  Connected c{{}, impatient};
  auto first = c.client.pool().apply_async<int>("f", 1);
  BOOST_TEST(c.client.flush().has_value());
  c.peer->result(c.peer->next(Op::apply), "1");
  c.server.stop();
  c.peer.reset();
  auto second = c.client.pool().apply_async<int>("f", 2);
  BOOST_TEST((second.get().error().errc() == Errc::daemon_gone));  // nobody could take it
  BOOST_TEST(first.get().value() == 1);
}

BOOST_AUTO_TEST_CASE(what_was_not_written_is_sent_to_the_daemon_that_comes_back) {
  Connected c;
  (void)c.client.pool().apply_async<int>("f", 0);
  BOOST_TEST(c.client.flush().has_value());
  (void)c.peer->next(Op::apply);
  c.peer->close();
  auto future = c.client.pool().apply_async<int>("f", 1);  // collected, not sent
  const Background serving{[&] {
    auto again = c.server.accept();
    const auto call = again.next(Op::apply);
    expect(again.prepared.at(call.prefix.target) == R"({"function":"f"})");
    expect(call.text() == "1");
    again.result(call, "5");
  }};
  BOOST_TEST(future.get().value() == 5);
}

BOOST_AUTO_TEST_CASE(a_call_with_a_key_is_sent_again) {
  Connected c;
  const auto pool = c.client.pool().with({.idempotency_key = "k"});
  const Background serving{[&] {
    const auto first = c.peer->next(Op::apply);
    c.peer->close();
    auto again = c.server.accept();
    const auto second = again.next(Op::apply);
    expect(second.text() == first.text());
    expect(second.fields()["idempotency_key"] == "k");
    again.result(second, "7");
  }};
  BOOST_TEST(pool.apply<int>("f", "x").value() == 7);
}

BOOST_AUTO_TEST_CASE(a_refusal_of_what_was_sent_again_says_nothing_of_the_first_sending) {
  Connected c;
  const auto pool = c.client.pool().with({.idempotency_key = "k"});
  const Background serving{[&] {
    (void)c.peer->next(Op::apply);
    c.peer->close();
    auto again = c.server.accept();
    again.error(again.next(Op::apply), "draining", "no new work");
    again.error(again.next(Op::apply), "draining", "no new work");
  }};
  const auto result = pool.apply<int>("f");
  BOOST_TEST((result.error().errc() == Errc::outcome_unknown));
  BOOST_TEST(result.error().detail.find("sent again, it was refused: draining: no new work") != std::string::npos);
  BOOST_TEST((pool.apply<int>("f").error().errc() == Errc::draining));  // sent once
}

BOOST_AUTO_TEST_CASE(a_question_is_asked_again) {
  Connected c;
  const Background serving{[&] {
    (void)c.peer->next(Op::ps);
    c.peer->close();
    auto again = c.server.accept();
    again.ok(again.next(Op::ps), R"({"tasks":[]})");
  }};
  BOOST_TEST(c.client.ps().has_value());
}

BOOST_AUTO_TEST_CASE(a_prepared_call_is_prepared_again) {
  Connected c;
  const auto call = c.client.pool().prepare("square");
  const Background serving{[&] {
    c.peer->result(c.peer->next(Op::apply), "1");
    c.peer->close();
    auto again = c.server.accept();
    const auto lost = again.next(Op::apply);
    expect(again.prepared.at(lost.prefix.target) == R"({"function":"square"})");
    again.result(lost, "4");
  }};
  BOOST_TEST(call.apply(Item::json("1")).value().text() == "1");
  // The end of the connection is only seen once somebody writes or reads: then this ends, and the next goes on.
  auto result = call.apply(Item::json("2"));
  if (!result) {
    BOOST_TEST((result.error().errc() == Errc::outcome_unknown));
    result = call.apply(Item::json("2"));
  }
  BOOST_TEST(result.value().text() == "4");
}

BOOST_AUTO_TEST_CASE(a_daemon_that_stays_away_is_gone) {
  Connected c{{}, impatient};
  c.server.stop();
  c.peer->close();
  auto future = c.client.pool().apply_async<int>("f", 1);
  const auto begin = std::chrono::steady_clock::now();
  BOOST_TEST((future.get().error().errc() == Errc::daemon_gone));
  BOOST_TEST((std::chrono::steady_clock::now() - begin < 10s));
  BOOST_TEST((c.client.pool().apply<int>("f").error().errc() == Errc::no_daemon));
}

BOOST_AUTO_TEST_CASE(it_waits_for_a_daemon_that_restarts) {
  Connected c;
  c.peer->close();
  c.server.stop();
  auto future = c.client.pool().apply_async<int>("f", 1);
  BOOST_TEST(!future.wait_for(50ms));  // nobody there yet
  c.server.listen();
  const Background serving{[&] {
    auto again = c.server.accept();
    again.result(again.next(Op::apply), "3");
  }};
  BOOST_TEST(future.get().value() == 3);
}

BOOST_AUTO_TEST_CASE(a_pool_of_ones_own_is_gone) {
  Connected c;
  const Background serving{[&] {
    c.peer->ok(c.peer->next(Op::pool_open), R"({"pool":"mine"})");
    (void)c.peer->next(Op::apply);
    c.peer->close();
    auto again = c.server.accept();
    again.ok(again.next(Op::ping), "{}");
  }};
  auto pool = c.client.open_pool({}).value();
  BOOST_TEST((pool.apply<int>("f").error().errc() == Errc::outcome_unknown));
  BOOST_TEST(c.client.ping().has_value());
  BOOST_TEST((pool.apply<int>("f").error().errc() == Errc::pool_closed));
  BOOST_TEST((pool.map<int>("f", std::vector{1}).error().errc() == Errc::pool_closed));
}

BOOST_AUTO_TEST_CASE(every_item_of_a_broken_map_has_an_outcome) {
  Connected c{nlohmann::json{{"session_queued_bytes", 200'000}}, impatient};
  const std::string text(1000, 'x');
  const Background serving{[&] {
    auto frame = c.peer->next(Op::map);
    c.peer->results(frame.prefix.request, 1, {"1", "2"});
    frame = c.peer->next(Op::cancel);  // everything before it has been read
    c.server.stop();
    c.peer->close();
  }};
  Call call;
  call.function = "f";
  auto stream = c.client.start_stream(call, {.window_items = 1000, .window_bytes = 10'000'000});
  for (int i = 0; i < 500; ++i) BOOST_REQUIRE(stream.try_push(Item::json(text)).value());
  stream.finish();
  (void)stream.cancel();
  std::map<Errc, int> outcomes;
  std::set<std::uint64_t> indices;
  while (const auto outcome = stream.next()) {
    ++outcomes[outcome->ok() ? Errc::ok : outcome->error->code];
    BOOST_TEST(indices.insert(outcome->index).second);
  }
  BOOST_TEST(indices.size() == 500u);
  BOOST_TEST(outcomes[Errc::ok] == 2);
  BOOST_TEST(outcomes[Errc::outcome_unknown] > 50);
  BOOST_TEST(outcomes[Errc::daemon_gone] > 100);  // what waited for room in the daemon's queue
  BOOST_TEST((stream.done().error().errc() == Errc::outcome_unknown));
}

BOOST_AUTO_TEST_CASE(a_map_that_was_not_written_is_sent_again_whole) {
  Connected c;
  c.peer->close();
  const Background serving{[&] {
    auto again = c.server.accept();
    const auto frame = again.next(Op::map);
    expect(frame.items() == (std::vector<std::string>{"1", "2"}));
    again.results(frame.prefix.request, 0, {"1", "4"});
    again.done(frame.prefix.request, 2);
  }};
  BOOST_TEST(c.client.pool().map<int>("square", std::vector{1, 2}, {.force_json = true}).value() ==
             (std::vector{1, 4}));
}

BOOST_AUTO_TEST_CASE(a_map_with_a_key_is_sent_again_whole_and_each_outcome_counts_once) {
  Connected c;
  constexpr std::size_t kItems = 30'000;  // several frames
  const Background serving{[&] {
    const auto some = c.peer->next(Op::map);
    c.peer->results(some.prefix.request, 2, {"102", "103"});  // as while the kept outcomes are being replayed
    c.peer->failed(some.prefix.request, 7, 2, "task_failed", "no");
    (void)c.peer->next(Op::input);
    c.peer->close();
    auto again = c.server.accept();
    std::vector<std::string> items;
    for (Op op = Op::map;; op = Op::input) {
      const auto frame = again.next(op);
      if (op == Op::map) expect(frame.fields()["idempotency_key"] == "k");
      for (auto& item : frame.items()) items.push_back(std::move(item));
      if ((frame.prefix.flags & kLast) == 0) continue;
      std::vector<std::string> results;
      for (const auto& item : items) results.push_back(std::to_string(std::stoi(item) + 200));
      const auto half = results.begin() + 1000;
      again.results(frame.prefix.request, 1000, {half, results.end()});
      again.failed(frame.prefix.request, 0, 2, "task_failed", "no");
      again.results(frame.prefix.request, 2, {results.begin() + 2, half});
      again.done(frame.prefix.request, items.size(), 2);
      return;
    }
  }};
  std::vector<std::string> inputs;
  for (std::size_t i = 0; i < kItems; ++i) inputs.push_back(std::to_string(i));
  Call call;
  call.function = "f";
  call.idempotency_key = "k";
  auto stream = c.client.start_stream(call, {.ordered = true, .window_items = 1});
  for (const auto& input : inputs) BOOST_REQUIRE(stream.try_push(Item::json(input)).value());  // it has no window
  stream.finish();
  std::uint64_t index = 0;
  for (; const auto outcome = stream.next(); ++index) {
    BOOST_REQUIRE(outcome->index == index);
    const bool failed = index < 2 || index == 7 || index == 8;
    BOOST_REQUIRE(outcome->ok() == !failed);
    if (failed) continue;
    const auto expected = index + (index == 2 || index == 3 ? 100 : 200);
    BOOST_REQUIRE(as_text(outcome->value.bytes) == std::to_string(expected));
  }
  BOOST_TEST(index == kItems);
  BOOST_TEST(stream.done().has_value());
}

BOOST_AUTO_TEST_CASE(a_map_with_a_key_is_not_held_back_by_outcomes_that_come_at_its_end) {
  Connected c{nlohmann::json{{"session_queued_bytes", 100'000}}};
  const std::vector<std::string> inputs(1000, std::string(1000, 'x'));
  const Background serving{[&] {
    for (Op op = Op::map;; op = Op::input) {
      const auto frame = c.peer->next(op);
      if ((frame.prefix.flags & kLast) == 0) continue;
      c.peer->results(frame.prefix.request, 0, std::vector<std::string>(1000, "1"));
      c.peer->done(frame.prefix.request, 1000);
      return;
    }
  }};
  BOOST_TEST(c.client.pool().with({.idempotency_key = "k"}).map<int>("f", inputs).value() == std::vector(1000, 1));
}

BOOST_AUTO_TEST_CASE(what_there_is_no_room_to_keep_is_not_sent_again) {
  Connected c{{}, [](ClientOptions& options) { options.resend_bytes = 100'000; }};
  const auto pool = c.client.pool().with({.idempotency_key = "k"});
  const Background serving{[&] {
    for (Op op = Op::map;; op = Op::input)
      if ((c.peer->next(op).prefix.flags & kLast) != 0) break;
    c.peer->close();
    auto again = c.server.accept();
    const auto kept = again.next(Op::apply);
    expect(kept.text() == "\"small\"");
    again.result(kept, "1");
  }};
  auto map = pool.map_async<int>("f", std::vector<std::string>(1000, std::string(1000, 'x')));
  auto call = pool.apply_async<int>("f", "small");  // what the map let go of is free again
  BOOST_TEST((map.get().error().errc() == Errc::outcome_unknown));
  BOOST_TEST(call.get().value() == 1);
}

BOOST_AUTO_TEST_CASE(what_breaks_every_connection_is_not_sent_for_ever) {
  Connected c;
  int times = 0;
  {
    const Background serving{[&] {
      (void)c.peer->next(Op::apply);
      c.peer->close();
      for (; times < 8; ++times) (void)c.server.accept().next(Op::apply);
    }};
    const auto result = c.client.pool().with({.idempotency_key = "k"}).apply<int>("f");
    BOOST_TEST((result.error().errc() == Errc::outcome_unknown));
  }
  BOOST_TEST(times == 8);
}

BOOST_AUTO_TEST_CASE(a_submitted_job_counts_once_all_of_it_was_read) {
  Connected c;
  const auto submit = [&](const std::string& key) {
    Call call;
    call.function = "f";
    call.idempotency_key = key;
    const std::string text(1000, 'x');
    return c.client.submit_map(call, [&, n = 0]() mutable -> std::optional<Item> {
      return n++ < 200 ? std::optional{Item::json(text)} : std::nullopt;
    });
  };
  const auto accept = [](Peer& peer) {
    peer.ok(peer.next(Op::map), R"({"task":"j"})");
    while ((peer.next(Op::input).prefix.flags & kLast) == 0) continue;
    return peer.next(Op::ping);
  };
  std::optional<Peer> again;
  const Background serving{[&] {
    (void)accept(*c.peer);  // accepted, but who knows whether all of it was read
    c.peer->close();
    again.emplace(c.server.accept());
    again->ok(accept(*again));
    (void)accept(*again);
    again->close();
    auto third = c.server.accept();
    third.ok(accept(third));
  }};
  BOOST_TEST((submit("").error().errc() == Errc::outcome_unknown));
  BOOST_TEST(submit("").value() == "j");
  BOOST_TEST(submit("k").value() == "j");
}

BOOST_AUTO_TEST_CASE(a_socket_that_was_given_is_not_replaced) {
  int ends[2];
  BOOST_REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  Peer peer{Fd{ends[0]}};
  Result<Client> client = fail(Errc::internal, "");
  {
    const Background connecting{[&] { client = Client::over(Fd{ends[1]}); }};
    (void)peer.greet();
  }
  peer.close();
  BOOST_TEST((client.value().pool().apply<int>("f").error().errc() == Errc::daemon_gone));
  BOOST_TEST((client.value().pool().apply<int>("f").error().errc() == Errc::daemon_gone));
}

BOOST_AUTO_TEST_SUITE_END()
