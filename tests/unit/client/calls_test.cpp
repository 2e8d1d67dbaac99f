#include <unistd.h>

#include <array>
#include <boost/test/unit_test.hpp>

#include "fake_server.hpp"

using namespace taskpool;
using namespace taskpool::test;
using namespace std::chrono_literals;

BOOST_AUTO_TEST_SUITE(calls)

BOOST_AUTO_TEST_CASE(the_greeting_names_the_program_and_the_version) {
  FakeServer server;
  auto options = server.options();
  options.name = std::string(100, 'x');
  const Background connecting{[&] { expect(Client::connect(options).has_value()); }};
  auto peer = server.accept_raw();
  const auto hello = peer.greet().fields();
  BOOST_TEST(hello["version"] == 1);
  BOOST_TEST(hello["client"].get<std::string>() == std::string(64, 'x'));
}

BOOST_AUTO_TEST_CASE(apply_sends_one_frame_and_returns_its_result) {
  Connected c;
  const Background serving{[&] {
    const auto call = c.peer->next(Op::apply);
    expect(c.peer->prepared.at(call.prefix.target) == R"({"function":"square"})");
    expect(call.text() == "12");
    expect(call.prefix.count == 1u);
    c.peer->result(call, "144");
  }};
  BOOST_TEST(c.client.pool().apply<int>("square", 12).value() == 144);
}

BOOST_AUTO_TEST_CASE(a_function_is_prepared_once) {
  Connected c;
  const Background serving{[&] {
    for (int i = 0; i < 3; ++i) {
      const auto call = c.peer->next(Op::apply);
      expect(call.prefix.target == 1u);
      expect(call.head == "");
      c.peer->result(call, call.text());
    }
    expect(c.peer->prepared.size() == 1u);
  }};
  for (int i = 0; i < 3; ++i) BOOST_TEST(c.client.pool("p").apply<int>("echo", i).value() == i);
}

BOOST_AUTO_TEST_CASE(options_travel_in_the_head) {
  Connected c;
  const Background serving{[&] {
    const auto call = c.peer->next(Op::apply);
    expect(call.prefix.target == 0u);
    expect(call.fields() ==
           nlohmann::json::parse(
               R"({"function":"f","pool":"p","timeout_ms":0,"retries":2,"priority":-7,"name":"n","announce":true})"));
    c.peer->result(call, "null");
  }};
  const auto pool =
      c.client.pool("p").with({.timeout = 0ms, .retries = 2, .priority = -7, .name = "n", .announce = true});
  BOOST_TEST(pool.apply<void>("f").has_value());
}

BOOST_AUTO_TEST_CASE(an_error_has_its_code_and_says_what_was_thrown) {
  Connected c;
  const Background serving{[&] {
    const auto call = c.peer->next(Op::apply);
    Prefix prefix;
    prefix.op = Op::error;
    prefix.request = call.prefix.request;
    c.peer->send(prefix,
                 R"({"code":"task_failed","type":"std::runtime_error","detail":"oh","traceback":"t","task":"9"})");
  }};
  auto future = c.client.pool().apply_async<int>("fail");
  const auto result = future.get();
  BOOST_TEST((result.error().errc() == Errc::task_failed));
  BOOST_TEST(result.error().detail == "std::runtime_error: oh");
  BOOST_TEST(future.failure()->traceback == "t");
}

BOOST_AUTO_TEST_CASE(futures_may_be_answered_in_any_order_and_taken_in_any) {
  Connected c;
  const Background serving{[&] {
    std::vector<Frame> calls;
    for (int i = 0; i < 100; ++i) calls.push_back(c.peer->next(Op::apply));
    for (auto call = calls.rbegin(); call != calls.rend(); ++call) c.peer->result(*call, call->text());
  }};
  std::vector<Future<int>> futures;
  for (int i = 0; i < 100; ++i) futures.push_back(c.client.pool().apply_async<int>("echo", i));
  BOOST_TEST(!futures[0].ready());
  for (int i = 1; i < 100; i += 2) BOOST_TEST(futures[static_cast<std::size_t>(i)].get().value() == i);
  for (int i = 0; i < 100; i += 2) BOOST_TEST(futures[static_cast<std::size_t>(i)].get().value() == i);
  BOOST_TEST((futures[3].get().error().errc() == Errc::bad_argument));  // taken already
}

BOOST_AUTO_TEST_CASE(waiting_ends_with_its_timeout) {
  Connected c;
  auto future = c.client.pool().apply_async<int>("sleep", 10);
  BOOST_TEST(!future.wait_for(10ms));
  const auto call = c.peer->next(Op::apply);  // waiting sends
  c.peer->result(call, "1");
  BOOST_TEST(future.wait_for(20s));
  BOOST_TEST(future.ready());
  BOOST_TEST(future.get().value() == 1);
}

BOOST_AUTO_TEST_CASE(flush_sends_without_waiting_for_results) {
  Connected c;
  auto future = c.client.pool().apply_async<int>("f", 1);
  BOOST_TEST(c.client.flush().has_value());
  const auto call = c.peer->next(Op::apply);
  c.peer->result(call, "2");
  BOOST_TEST(future.get().value() == 2);
}

// Neither side reads before it has written all: more than two sockets hold.
BOOST_AUTO_TEST_CASE(two_full_sockets_do_not_wait_for_each_other) {
  Connected c;
  constexpr int kCalls = 2000;
  const std::string text(10'000, 'x');
  const Background serving{[&] {
    for (int i = 0; i < kCalls; ++i) {
      const auto call = c.peer->next(Op::apply);
      c.peer->result(call, call.text());
    }
  }};
  std::vector<Future<std::string>> futures;
  for (int i = 0; i < kCalls; ++i) futures.push_back(c.client.pool().apply_async<std::string>("echo", text));
  for (auto& future : futures) BOOST_REQUIRE(future.get().value() == text);
}

BOOST_AUTO_TEST_CASE(progress_is_kept_and_passed_on) {
  Connected c;
  const Background serving{[&] {
    const auto call = c.peer->next(Op::apply);
    Prefix prefix;
    prefix.op = Op::progress;
    prefix.request = call.prefix.request;
    c.peer->send(prefix, R"({"task":"t7"})");
    c.peer->send(prefix, R"({"task":"t7","done":1,"total":4,"message":"quarter"})");
    c.peer->result(call, "0");
  }};
  auto future = c.client.pool().with({.announce = true}).apply_async<int>("f");
  std::vector<std::string> messages;
  future.on_progress([&](const Progress& progress) { messages.push_back(progress.message); });
  BOOST_TEST(future.wait_for(20s));
  BOOST_TEST(future.task() == "t7");
  BOOST_TEST(future.progress()->total.value() == 4.0);
  BOOST_TEST(messages == std::vector<std::string>{"quarter"});
}

BOOST_AUTO_TEST_CASE(cancel_names_the_request) {
  Connected c;
  const Background serving{[&] {
    const auto call = c.peer->next(Op::apply);
    const auto cancel = c.peer->next(Op::cancel);
    expect(cancel.fields()["request"].get<std::uint64_t>() == call.prefix.request);
    expect(cancel.fields()["force"] == true);
    c.peer->ok(cancel, R"({"cancelled":1})");
    c.peer->error(call, "cancelled", "by its caller");
  }};
  auto future = c.client.pool().apply_async<int>("f");
  BOOST_TEST(future.cancel(CancelMode::kill).value() == 1u);
  BOOST_TEST((future.get().error().errc() == Errc::cancelled));
}

BOOST_AUTO_TEST_CASE(cancel_of_what_has_not_begun) {
  Connected c;
  const Background serving{[&] {
    const auto call = c.peer->next(Op::apply);
    const auto cancel = c.peer->next(Op::cancel);
    expect(cancel.fields()["waiting"] == true && !cancel.fields().contains("force"));
    c.peer->ok(cancel, R"({"cancelled":0})");
    c.peer->result(call, "7");
  }};
  auto future = c.client.pool().apply_async<int>("f");
  BOOST_TEST(future.cancel(CancelMode::waiting).value() == 0u);
  BOOST_TEST(future.get().value() == 7);
}

BOOST_AUTO_TEST_CASE(a_result_that_nobody_waits_for_is_dropped) {
  Connected c;
  const Background serving{[&] {
    auto call = c.peer->next(Op::apply);
    c.peer->result(call, "1");
    call = c.peer->next(Op::apply);
    c.peer->result(call, "2");
  }};
  (void)c.client.pool().apply_async<int>("f");
  BOOST_TEST(c.client.pool().apply<int>("f").value() == 2);
}

BOOST_AUTO_TEST_CASE(a_result_of_another_type_is_an_error) {
  Connected c;
  const Background serving{[&] { c.peer->result(c.peer->next(Op::apply), "\"text\""); }};
  const auto result = c.client.pool().apply<int>("f");
  BOOST_TEST((result.error().errc() == Errc::bad_message));
  BOOST_TEST(result.error().detail == "result: want an integer, got \"text\"");
}

BOOST_AUTO_TEST_CASE(administration_replies_with_json) {
  Connected c;
  const Background serving{[&] {
    auto request = c.peer->next(Op::ps);
    expect(request.fields() == nlohmann::json::parse(R"({"pool":"p","all":true,"limit":5})"));
    c.peer->ok(request, R"({"tasks":[],"more":false})");
    request = c.peer->next(Op::pool_resize);
    expect(request.fields() == nlohmann::json::parse(R"({"pool":"p","workers":3})"));
    c.peer->error(request, "permission_denied", "not yours");
    c.peer->ok(c.peer->next(Op::ping), "not json");
  }};
  BOOST_TEST(c.client.ps({.pool = "p", .all = true, .limit = 5}).value()["more"] == false);
  BOOST_TEST((c.client.pool_resize("p", 3).error().errc() == Errc::permission_denied));
  BOOST_TEST((c.client.ping().error().errc() == Errc::bad_message));
}

BOOST_AUTO_TEST_CASE(a_pool_of_ones_own_carries_descriptors_and_closes_with_its_last_copy) {
  Connected c;
  int ends[2];
  BOOST_REQUIRE(::pipe(ends) == 0);
  const Fd out{ends[0]}, in{ends[1]};
  const Background serving{[&] {
    expect(c.peer->next(Op::apply).prefix.fds == 0);
    const auto open = c.peer->next(Op::pool_open);
    expect(open.prefix.fds == 2);
    expect(c.peer->fds() == 2);
    expect(open.fields() == nlohmann::json::parse(R"({"workers":2,"modules":["demo"]})"));
    c.peer->ok(open, R"({"pool":"session-1"})");
    const auto call = c.peer->next(Op::apply);
    expect(c.peer->prepared.at(call.prefix.target) == R"({"function":"f","pool":"session-1"})");
    c.peer->result(call, "1");
    expect(c.peer->next(Op::pool_close).fields()["pool"] == "session-1");
  }};
  PoolOptions options;
  options.workers = 2;
  options.modules = {"demo"};
  options.stdio = {out.get(), in.get()};
  const auto before = c.client.pool().apply_async<int>("f", 1);  // collected: goes out with what follows
  auto pool = c.client.open_pool(options).value();
  const auto copy = pool;
  BOOST_TEST(copy.apply<int>("f").value() == 1);
}

BOOST_AUTO_TEST_CASE(a_submitted_task_is_named_by_its_id) {
  Connected c;
  const Background serving{[&] {
    auto request = c.peer->next(Op::apply);
    expect(request.fields()["detached"] == true);
    c.peer->ok(request, R"({"task":"t1"})");
    request = c.peer->next(Op::wait);
    expect(request.fields() == nlohmann::json::parse(R"({"task":"t1","timeout_ms":1500})"));
    c.peer->ok(request, R"({"state":"succeeded"})");
    request = c.peer->next(Op::fetch);
    c.peer->result(request, "42");
    request = c.peer->next(Op::fetch);  // of a job
    c.peer->results(request.prefix.request, 0, {"1"});
    c.peer->done(request.prefix.request, 1);
    request = c.peer->next(Op::cancel);
    expect(request.fields() == nlohmann::json::parse(R"({"task":"t1"})"));
    c.peer->ok(request, R"({"cancelled":0})");
  }};
  BOOST_TEST(c.client.pool().submit("f", 1).value() == "t1");
  BOOST_TEST(c.client.wait("t1", 1500ms).value()["state"] == "succeeded");
  BOOST_TEST(c.client.fetch("t1").value().text() == "42");
  BOOST_TEST((c.client.fetch("t1").error().errc() == Errc::bad_argument));
  BOOST_TEST(c.client.cancel("t1").value() == 0u);
}

BOOST_AUTO_TEST_CASE(a_log_comes_with_its_files) {
  Connected c;
  int ends[2];
  BOOST_REQUIRE(::pipe(ends) == 0);
  const Fd out{ends[0]}, in{ends[1]};
  const Background serving{[&] {
    const std::array fds{out.get(), in.get()};
    c.peer->ok(c.peer->next(Op::log), R"({"task":"t"})", fds);
    c.peer->ok(c.peer->next(Op::log), "{}");
  }};
  const auto log = c.client.log("t").value();
  BOOST_TEST(log.out.get() >= 0);
  BOOST_TEST(log.err.get() >= 0);
  BOOST_TEST((c.client.log("t").error().errc() == Errc::bad_message));
}

BOOST_AUTO_TEST_CASE(nobody_there_is_no_daemon) {
  FakeServer server;
  server.stop();
  const auto client = Client::connect(server.options());
  BOOST_TEST((client.error().errc() == Errc::no_daemon));
  BOOST_TEST(client.error().detail == "no daemon listens on " + server.path());
}

BOOST_AUTO_TEST_CASE(a_daemon_that_refuses_says_why) {
  FakeServer server;
  const Background serving{[&] {
    auto peer = server.accept_raw();
    Frame connection;
    (void)peer.next(Op::hello);
    peer.error(connection, "unsupported_version", "this daemon speaks 7");
  }};
  const auto client = Client::connect(server.options());
  BOOST_TEST((client.error().errc() == Errc::unsupported_version));
}

BOOST_AUTO_TEST_CASE(a_daemon_that_says_nothing_is_given_up) {
  FakeServer server;  // its backlog takes the connection
  auto options = server.options();
  options.connect_timeout = 50ms;
  BOOST_TEST((Client::connect(options).error().errc() == Errc::timed_out));
}

BOOST_AUTO_TEST_SUITE_END()
