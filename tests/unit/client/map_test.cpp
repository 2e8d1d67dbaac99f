#include <array>
#include <boost/test/unit_test.hpp>
#include <numeric>

#include "fake_server.hpp"

using namespace taskpool;
using namespace taskpool::test;
using namespace std::chrono_literals;

namespace {

/// Reads a job's input to its end and answers each frame by `answer`, given the index of its first item.
void serve_job(Peer& peer, const std::function<void(const Frame&, std::uint32_t first)>& answer) {
  std::uint32_t first = 0;
  for (Op op = Op::map;; op = Op::input) {
    const auto frame = peer.next(op);
    answer(frame, first);
    first += frame.prefix.count;
    if ((frame.prefix.flags & kLast) == 0) continue;
    peer.done(frame.prefix.request, first);
    return;
  }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(map)

BOOST_AUTO_TEST_CASE(results_come_in_any_order_and_are_placed) {
  Connected c;
  const Background serving{[&] {
    const auto frame = c.peer->next(Op::map);
    expect((frame.prefix.flags & kLast) != 0);
    expect(frame.items() == (std::vector<std::string>{"\"a\"", "\"b\"", "\"c\"", "\"d\""}));
    const auto job = frame.prefix.request;
    c.peer->results(job, 2, {"3", "4"});
    c.peer->results(job, 0, {"1"});
    c.peer->results(job, 1, {"2"});
    c.peer->done(job, 4);
  }};
  const auto result = c.client.pool().map<int>("f", std::vector<std::string>{"a", "b", "c", "d"});
  BOOST_TEST(result.value() == (std::vector{1, 2, 3, 4}));
}

BOOST_AUTO_TEST_CASE(nothing_to_map_is_still_a_job) {
  Connected c;
  const Background serving{[&] {
    auto frame = c.peer->next(Op::map);
    expect(frame.prefix.count == 0u);
    expect((frame.prefix.flags & kLast) != 0);
    c.peer->done(frame.prefix.request, 0);
    frame = c.peer->next(Op::map);
    c.peer->error(frame, "unknown_function", "f");
  }};
  BOOST_TEST(c.client.pool().map<int>("f", std::vector<std::string>{}).value().empty());
  BOOST_TEST((c.client.pool().map<int>("f", std::vector<std::string>{}).error().errc() == Errc::unknown_function));
}

BOOST_AUTO_TEST_CASE(the_lowest_failed_item_is_the_error) {
  Connected c;
  const auto serve = [&] {
    const auto job = c.peer->next(Op::map).prefix.request;
    c.peer->failed(job, 3, 1, "worker_lost", "killed by signal 9");
    c.peer->results(job, 0, {"0"});
    c.peer->failed(job, 1, 2, "task_failed", "no");
    c.peer->done(job, 4, 3);
  };
  const Background serving{[&] {
    serve();
    serve();
  }};
  const std::vector<std::string> inputs(4, "x");
  const auto all = c.client.pool().map<int>("f", inputs);
  BOOST_TEST((all.error().errc() == Errc::task_failed));
  BOOST_TEST(all.error().detail == "item 1: no");
  const auto each = c.client.pool().map_each<int>("f", inputs).value();
  BOOST_TEST(each[0].value() == 0);
  BOOST_TEST((each[2].error().errc() == Errc::task_failed));
  BOOST_TEST(each[3].error().detail == "killed by signal 9");
}

BOOST_AUTO_TEST_CASE(many_items_are_packed_and_kept_within_the_daemons_queue) {
  constexpr std::size_t kLimit = 512 * 1024;
  Connected c{nlohmann::json{{"session_queued_bytes", kLimit}}};
  std::size_t frames = 0;
  const Background serving{[&] {
    // Holds answers back until the queue is full: the client must wait, and must not wait for more than that.
    std::vector<std::pair<Frame, std::uint32_t>> held;
    std::size_t bytes = 0;
    std::uint32_t next = 0;
    for (Op op = Op::map;; op = Op::input) {
      auto frame = c.peer->next(op);
      ++frames;
      bytes += frame.body.size();
      expect(bytes <= kLimit);
      const bool last = (frame.prefix.flags & kLast) != 0;
      held.emplace_back(std::move(frame), next);
      next += held.back().first.prefix.count;
      if (!last && bytes < kLimit / 4) continue;
      for (const auto& [each, first] : held) c.peer->results(each.prefix.request, first, each.items());
      const auto job = held.back().first.prefix.request;
      held.clear();
      bytes = 0;
      if (!last) continue;
      c.peer->done(job, next);
      return;
    }
  }};
  std::vector<std::int64_t> inputs(300'000);
  std::iota(inputs.begin(), inputs.end(), 1'000'000'000);
  const auto outputs = c.client.pool().map<std::int64_t>("echo", inputs, {.force_json = true}).value();
  BOOST_TEST((outputs == inputs));
  BOOST_TEST(frames > 40);
  BOOST_TEST(frames < 100);
}

BOOST_AUTO_TEST_CASE(numbers_go_as_an_array) {
  Connected c;
  const Background serving{[&] {
    const auto frame = c.peer->next(Op::map);
    expect(frame.fields() == nlohmann::json::parse(R"({"function":"f","result_element":"f64"})"));
    expect((frame.prefix.encoding == Encoding::i32));
    expect(frame.prefix.count == 3u);
    Prefix prefix;
    prefix.op = Op::results;
    prefix.request = frame.prefix.request;
    prefix.target = 1;
    prefix.count = 2;
    prefix.encoding = Encoding::f64;
    const std::array<double, 2> some{2.5, 3.5};
    c.peer->send(prefix, {}, std::as_bytes(std::span{some}));
    prefix.target = 0;
    prefix.count = 1;
    prefix.encoding = Encoding::i8;  // another type is converted
    const std::array<std::int8_t, 1> one{-1};
    c.peer->send(prefix, {}, std::as_bytes(std::span{one}));
    const auto last = c.peer->next(Op::input);
    expect((last.prefix.flags & kLast) != 0);
    c.peer->done(frame.prefix.request, 3);
  }};
  BOOST_TEST(c.client.pool().map<double>("f", std::vector{1, 2, 3}).value() == (std::vector{-1.0, 2.5, 3.5}));
}

BOOST_AUTO_TEST_CASE(types_of_the_callers_own_are_converted_by_json) {
  Connected c;
  const Background serving{[&] {
    serve_job(*c.peer, [&](const Frame& frame, std::uint32_t first) {
      expect(frame.items() == (std::vector<std::string>{R"([1,"a"])", R"([2,"b"])"}));
      c.peer->results(frame.prefix.request, first, {R"({"a":1})", R"({"b":2})"});
    });
  }};
  using Map = std::map<std::string, int>;
  const std::vector<std::pair<int, std::string>> inputs{{1, "a"}, {2, "b"}};
  const auto outputs = c.client.pool().map<Map>("f", inputs).value();
  BOOST_TEST((outputs == std::vector<Map>{{{"a", 1}}, {{"b", 2}}}));
}

BOOST_AUTO_TEST_CASE(starmap_spreads_tuples) {
  Connected c;
  const Background serving{[&] {
    serve_job(*c.peer, [&](const Frame& frame, std::uint32_t first) {
      expect(frame.items() == (std::vector<std::string>{R"([1,"a"])"}));
      c.peer->results(frame.prefix.request, first, {"true"});
    });
  }};
  const std::vector<std::tuple<int, std::string>> inputs{{1, "a"}};
  BOOST_TEST(c.client.pool().starmap<bool>("f", inputs).value() == std::vector{true});
}

BOOST_AUTO_TEST_CASE(an_input_that_cannot_be_encoded_ends_the_map) {
  Connected c;
  const Background serving{[&] {
    const auto cancel_or_map = c.peer->next();
    expect((cancel_or_map.prefix.op == Op::ping));
    c.peer->ok(cancel_or_map);
  }};
  const auto result = c.client.pool().map<int>("f", std::vector<std::string>{"good", "\xff"});
  BOOST_TEST((result.error().errc() == Errc::bad_argument));
  BOOST_TEST(c.client.ping().has_value());
}

BOOST_AUTO_TEST_CASE(a_result_of_another_type_fails_its_item) {
  Connected c;
  const Background serving{[&] {
    serve_job(*c.peer, [&](const Frame& frame, std::uint32_t first) {
      c.peer->results(frame.prefix.request, first, {"1", "\"two\""});
    });
  }};
  const auto each = c.client.pool().map_each<int>("f", std::vector<std::string>{"a", "b"}).value();
  BOOST_TEST(each[0].value() == 1);
  BOOST_TEST(each[1].error().detail == "result: want an integer, got \"two\"");
}

BOOST_AUTO_TEST_CASE(a_map_under_way_can_be_watched_and_cancelled) {
  Connected c;
  const Background serving{[&] {
    const auto job = c.peer->next(Op::map).prefix.request;
    c.peer->results(job, 0, {"1"});
    const auto cancel = c.peer->next(Op::cancel);
    expect(cancel.fields()["request"].get<std::uint64_t>() == job);
    c.peer->failed(job, 1, 1, "cancelled", "");
    c.peer->ok(cancel, R"({"cancelled":1})");
    c.peer->done(job, 2);
  }};
  auto future = c.client.pool().map_async<int>("f", std::vector<std::string>{"a", "b"});
  while (future.completed() == 0) BOOST_TEST(!future.wait_for(5ms));
  BOOST_TEST(future.cancel().value() == 1u);
  BOOST_TEST((future.get().error().errc() == Errc::cancelled));
}

BOOST_AUTO_TEST_CASE(a_map_that_nobody_wants_any_more_is_cancelled) {
  Connected c;
  { (void)c.client.pool().map_async<int>("f", std::vector<std::string>{"a"}); }
  (void)c.client.flush();
  const auto job = c.peer->next(Op::map).prefix.request;
  const auto cancel = c.peer->next();
  // The last frame had gone already; the cancel follows.
  const auto& request = cancel.prefix.op == Op::input ? c.peer->next(Op::cancel) : cancel;
  BOOST_TEST(request.fields()["request"].get<std::uint64_t>() == job);
}

BOOST_AUTO_TEST_CASE(a_job_that_outlives_the_session_is_submitted_whole) {
  Connected c;
  const Background serving{[&] {
    const auto frame = c.peer->next(Op::map);
    expect(frame.fields()["detached"] == true);
    expect(frame.items() == (std::vector<std::string>{"0", "1", "2"}));
    c.peer->ok(frame, R"({"task":"j"})");
    const auto fetch = c.peer->next(Op::fetch);
    expect(fetch.fields() == nlohmann::json::parse(R"({"task":"j","index":1})"));
    c.peer->results(fetch.prefix.request, 2, {"\"c\""});
    c.peer->results(fetch.prefix.request, 1, {"\"b\""});
    c.peer->done(fetch.prefix.request, 3);
  }};
  Call call;
  call.function = "f";
  std::string text;
  const auto id = c.client.submit_map(call, [&, n = 0]() mutable -> std::optional<Item> {
    if (n == 3) return std::nullopt;
    text = std::to_string(n++);
    return Item::json(text);
  });
  BOOST_TEST(id.value() == "j");
  auto stream = c.client.fetch_all("j", false, 1, {.ordered = true});
  std::vector<std::string> texts;
  while (const auto outcome = stream.next()) texts.emplace_back(as_text(outcome->value.bytes));
  BOOST_TEST(texts == (std::vector<std::string>{"\"b\"", "\"c\""}));
  BOOST_TEST(stream.done().value().total == 3u);
}

BOOST_AUTO_TEST_CASE(a_submitted_job_takes_arrays_and_its_results_are_fetched_with_their_type) {
  Connected c{nlohmann::json{{"detached_body_bytes", 100'000}}};
  std::vector<std::int32_t> inputs(16'000);
  std::iota(inputs.begin(), inputs.end(), 0);
  const Background serving{[&] {
    const auto frame = c.peer->next(Op::map);
    expect(frame.fields()["detached"] == true);
    expect((frame.prefix.encoding == Encoding::i32));
    expect(frame.prefix.count == 16'000u);
    c.peer->ok(frame, R"({"task":"j"})");
    expect((c.peer->next(Op::input).prefix.flags & kLast) != 0);
    c.peer->ok(c.peer->next(Op::ping));
    auto fetch = c.peer->next(Op::fetch);
    c.peer->results(fetch.prefix.request, 1, {"4"});
    c.peer->results(fetch.prefix.request, 0, {"2"});
    c.peer->done(fetch.prefix.request, 2);
    fetch = c.peer->next(Op::fetch);
    expect(fetch.fields()["keep"] == true);
    c.peer->results(fetch.prefix.request, 0, {"2"});
    c.peer->failed(fetch.prefix.request, 1, 1, "task_failed", "no");
    c.peer->done(fetch.prefix.request, 2, 1);
    c.peer->result(c.peer->next(Op::fetch), "7");
  }};
  BOOST_TEST(c.client.pool().submit_map<std::int64_t>("square", inputs).value() == "j");
  BOOST_TEST(c.client.fetch_map<int>("j").value() == (std::vector{2, 4}));
  const auto each = c.client.fetch_map_each<int>("j", true).value();
  BOOST_TEST(each[0].value() == 2);
  BOOST_TEST((each[1].error().errc() == Errc::task_failed));
  BOOST_TEST(c.client.fetch<int>("t").value() == 7);
}

BOOST_AUTO_TEST_CASE(an_input_that_cannot_be_encoded_takes_the_submitted_job_with_it) {
  Connected c;
  const Background serving{[&] {
    const auto frame = c.peer->next(Op::map);
    expect(frame.items() == (std::vector<std::string>{"\"good\""}));
    c.peer->ok(frame, R"({"task":"j"})");
    const auto cancel = c.peer->next(Op::cancel);
    expect(cancel.fields() == nlohmann::json::parse(R"({"task":"j","force":true})"));
    c.peer->ok(cancel, R"({"cancelled":1})");
    c.peer->ok(c.peer->next(Op::wait), R"({"state":"cancelled"})");
    const auto fetch = c.peer->next(Op::fetch);
    c.peer->failed(fetch.prefix.request, 0, 1, "cancelled", "");
    c.peer->done(fetch.prefix.request, 1, 1);
  }};
  const auto id = c.client.pool().submit_map<int>("f", std::vector<std::string>{"good", "\xff"});
  BOOST_TEST((id.error().errc() == Errc::bad_argument));
}

BOOST_AUTO_TEST_SUITE_END()
