#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <boost/test/unit_test.hpp>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <thread>

#include "proto/build_id.hpp"
#include "taskpool/client.hpp"
#include "tests/support/private_daemon.hpp"

// The C++ library against the real daemon, which it starts itself.

using namespace taskpool;
using namespace std::chrono_literals;

using taskpool::test::Daemon;

BOOST_FIXTURE_TEST_SUITE(client, Daemon)

BOOST_AUTO_TEST_CASE(the_first_client_starts_a_private_daemon_and_the_next_finds_it) {
  const auto server = client.server();
  BOOST_TEST(server.socket.starts_with((home.path() / "taskpool").string()));
  BOOST_TEST(server.build == build_id());
  BOOST_TEST((std::filesystem::status(home.path() / "taskpool").permissions() == std::filesystem::perms::owner_all));
  BOOST_TEST(Client::connect().value().server().pid == server.pid);
}

BOOST_AUTO_TEST_CASE(many_clients_at_once_start_one_daemon) {
  (void)client.shutdown(true);
  std::vector<std::uint64_t> pids(8);
  std::vector<std::string> errors(8);
  {
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < pids.size(); ++i)
      threads.emplace_back([&pid = pids[i], &error = errors[i]] {
        if (const auto other = Client::connect())
          pid = other->server().pid;
        else
          error = other.error().detail;
      });
    for (auto& thread : threads) thread.join();
  }
  BOOST_TEST(pids[0] != 0u);
  for (const auto pid : pids) BOOST_TEST(pid == pids[0]);
  for (const auto& error : errors) BOOST_TEST(error == "");
}

BOOST_AUTO_TEST_CASE(a_private_daemon_that_was_killed_is_started_again) {
  const auto pid = static_cast<pid_t>(client.server().pid);
  BOOST_TEST(pool.apply<int>("square", 3).value() == 9);
  ::kill(pid, SIGKILL);
  // The call that meets the break may have been written; the one after it starts the daemon anew.
  auto result = pool.apply<int>("square", 4);
  if (!result) result = pool.apply<int>("square", 4);
  BOOST_TEST(result.value() == 16);
  BOOST_TEST(client.server().pid != static_cast<std::uint64_t>(pid));
}

BOOST_AUTO_TEST_CASE(calls_with_a_key_survive_a_daemon_that_was_killed) {
  const auto keyed = [&](const std::string& key) { return pool.with({.idempotency_key = key}); };
  const std::string large(200'000, 'x');
  const std::vector<std::string> mixed{"small", large, "small again"};
  std::vector<std::int64_t> numbers(100'000), squares;
  std::iota(numbers.begin(), numbers.end(), 0);
  for (const auto number : numbers) squares.push_back(number * number);
  BOOST_TEST(
      pool.pause().has_value());  // so that all of it is under way when the daemon dies; the next one does not pause
  auto small = keyed("small").apply_async<int>("square", 12);
  auto big = keyed("big").apply_async<std::string>("echo", large);
  auto array = keyed("array").map_async<std::int64_t>("square", numbers);
  auto json = keyed("json").map_async<std::int64_t>("square", numbers, {.force_json = true});
  auto strings = keyed("strings").map_async<std::string>("echo", mixed);
  auto lost = pool.map_async<std::int64_t>("square", numbers);
  BOOST_TEST(client.flush().has_value());
  while (client.ps().value()["tasks"].size() < 6) BOOST_REQUIRE(!small.wait_for(5ms));
  const auto pid = static_cast<pid_t>(client.server().pid);
  ::kill(pid, SIGKILL);
  BOOST_TEST(small.get().value() == 144);
  BOOST_TEST((big.get().value() == large));
  BOOST_TEST((array.get().value() == squares));
  BOOST_TEST((json.get().value() == squares));
  BOOST_TEST((strings.get().value() == mixed));
  BOOST_TEST((lost.get().error().errc() == Errc::outcome_unknown));
  BOOST_TEST(client.server().pid != static_cast<std::uint64_t>(pid));
}

BOOST_AUTO_TEST_CASE(a_directory_of_somebody_else_is_refused) {
  (void)client.shutdown(true);
  std::filesystem::permissions(home.path() / "taskpool", std::filesystem::perms::all);
  std::filesystem::remove(client.server().socket);
  const auto refused = Client::connect();
  std::filesystem::permissions(home.path() / "taskpool", std::filesystem::perms::owner_all);
  BOOST_TEST((refused.error().errc() == Errc::permission_denied));
}

BOOST_AUTO_TEST_CASE(calls_have_results_or_errors) {
  BOOST_TEST(pool.apply<std::int64_t>("square", 12).value() == 144);
  BOOST_TEST(pool.apply<std::string>("echo", "grün \"x\"").value() == "grün \"x\"");
  const auto failed = pool.apply<int>("fail", "oh no");
  BOOST_TEST((failed.error().errc() == Errc::task_failed));
  BOOST_TEST(failed.error().detail == "std::runtime_error: oh no");
  BOOST_TEST((pool.apply<int>("sqare", 1).error().errc() == Errc::unknown_function));
  BOOST_TEST((client.pool("none").apply<int>("square", 1).error().errc() == Errc::unknown_pool));
  BOOST_TEST((pool.apply<int>("square", "text").error().errc() == Errc::bad_argument));
  BOOST_TEST((pool.apply<int>("crash", 9).error().errc() == Errc::worker_lost));
  BOOST_TEST((pool.with({.timeout = 50ms}).apply<double>("sleep", 30.0).error().errc() == Errc::timed_out));
}

BOOST_AUTO_TEST_CASE(a_million_numbers_are_squared_both_ways) {
  std::vector<std::int64_t> numbers(1'000'000);
  std::iota(numbers.begin(), numbers.end(), -500'000);
  for (const bool force_json : {false, true}) {
    const auto squares = pool.map<std::int64_t>("square", numbers, {.force_json = force_json}).value();
    BOOST_REQUIRE(squares.size() == numbers.size());
    for (std::size_t i = 0; i < numbers.size(); ++i) BOOST_REQUIRE(squares[i] == numbers[i] * numbers[i]);
  }
}

BOOST_AUTO_TEST_CASE(a_map_fails_item_by_item) {
  std::vector<double> times(20, 0.0);
  times[7] = 20.0;
  auto future = pool.with({.timeout = 100ms}).map_async<double>("sleep", times, {.force_json = true});
  const auto each = future.get_each().value();
  for (std::size_t i = 0; i < each.size(); ++i) BOOST_TEST(each[i].has_value() == (i != 7));
  BOOST_TEST((each[7].error().errc() == Errc::timed_out));
}

BOOST_AUTO_TEST_CASE(imap_streams_in_order_and_as_it_comes) {
  int next = 0;
  const auto feed = [&]() -> std::optional<int> { return next < 5000 ? std::optional{next++} : std::nullopt; };
  std::uint64_t expected = 0;
  for (auto& [index, square] : pool.imap<std::int64_t>("square", feed, {.window = 100})) {
    BOOST_REQUIRE(index == expected);
    BOOST_REQUIRE(square.value() == static_cast<std::int64_t>(expected * expected));
    ++expected;
  }
  BOOST_TEST(expected == 5000u);
  std::int64_t sum = 0;
  for (auto& [index, square] : pool.imap_unordered<std::int64_t>("square", std::vector{1, 2, 3})) sum += square.value();
  BOOST_TEST(sum == 14);
}

BOOST_AUTO_TEST_CASE(large_bodies_go_there_and_back) {
  std::string text(3 << 20, ' ');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>('a' + i % 26);
  const auto echo = pool.prepare("echo");
  for (int i = 0; i < 5; ++i) BOOST_REQUIRE(echo.apply(as_bytes(text)).value().text() == text);
  auto buffer = client.up_buffer(text.size()).value();
  std::memcpy(buffer.data().data(), text.data(), text.size());
  BOOST_TEST((echo.apply(buffer).value().text() == text));
  // Results that are kept in shared memory do not stop what follows.
  std::vector<Body> kept;
  for (int i = 0; i < 20; ++i) kept.push_back(echo.apply(as_bytes(text)).value());
  for (const auto& body : kept) BOOST_REQUIRE(body.text() == text);
  const std::vector<std::string> mixed{"small", text, "small again", text};
  BOOST_TEST((pool.map<std::string>("echo", mixed).value() == mixed));
}

BOOST_AUTO_TEST_CASE(a_running_task_is_cancelled) {
  auto future = pool.with({.announce = true}).apply_async<double>("sleep", 60.0);
  while (client.ps({.state = "running"}).value()["tasks"].empty()) BOOST_REQUIRE(!future.wait_for(5ms));
  BOOST_TEST(!future.task().empty());
  BOOST_TEST(future.cancel().value() == 1u);
  BOOST_TEST((future.get().error().errc() == Errc::cancelled));
}

BOOST_AUTO_TEST_CASE(a_submitted_task_outlives_its_session) {
  std::string task, job;
  {
    const auto other = Client::connect().value();
    task = other.pool().submit("square", 15).value();
    Call call;
    call.function = "square";
    std::string text;
    job = other
              .submit_map(call,
                          [&, n = 0]() mutable -> std::optional<Item> {
                            if (n == 1000) return std::nullopt;
                            text = std::to_string(n++);
                            return Item::json(text);
                          })
              .value();
  }
  BOOST_TEST(client.wait(task, 20s).value()["state"] == "succeeded");
  BOOST_TEST(client.fetch(task).value().text() == "225");
  BOOST_TEST((client.fetch(task).error().errc() == Errc::unknown_task));
  BOOST_TEST(client.wait(job, 20s).has_value());
  auto stream = client.fetch_all(job, false, 0, {.ordered = true});
  std::uint64_t n = 0;
  for (; auto outcome = stream.next(); ++n) BOOST_REQUIRE(as_text(outcome->value.bytes) == std::to_string(n * n));
  BOOST_TEST(n == 1000u);
}

BOOST_AUTO_TEST_CASE(a_submitted_map_of_numbers_is_fetched_by_another_session) {
  std::vector<std::int64_t> numbers(500'000), squares;  // 4 MB: more pieces than one
  std::iota(numbers.begin(), numbers.end(), 0);
  for (const auto number : numbers) squares.push_back(number * number);
  const auto array = Client::connect().value().pool().submit_map<std::int64_t>("square", numbers).value();
  const std::vector<std::string> texts{"a", "b"};
  const auto json = Client::connect().value().pool().submit_map<std::string>("echo", texts).value();
  BOOST_TEST(client.wait(array, 20s).value()["state"] == "succeeded");
  BOOST_TEST((client.fetch_map<std::int64_t>(array).value() == squares));
  BOOST_TEST(client.wait(json, 20s).has_value());
  BOOST_TEST((client.fetch_map<std::string>(json).value() == texts));
}

BOOST_AUTO_TEST_CASE(a_pool_of_ones_own_has_its_modules_and_ends_with_its_handle) {
  PoolOptions options;
  options.workers = 1;
  options.modules = {TESTING_MODULE};
  std::string name;
  {
    const auto own = client.open_pool(options).value();
    name = own.name();
    BOOST_TEST(own.apply<int>("add", 2, 3).value() == 5);
    BOOST_TEST(own.starmap<int>("add", std::vector<std::tuple<int, int>>{{1, 2}, {3, 4}}).value() ==
               (std::vector{3, 7}));
  }
  const auto gone = [&] { return client.pool(name).apply<int>("add", 1, 1).error().errc(); };
  BOOST_TEST((gone() == Errc::unknown_pool || gone() == Errc::pool_closed));
}

BOOST_AUTO_TEST_CASE(progress_is_reported) {
  PoolOptions options;
  options.workers = 1;
  options.modules = {TESTING_MODULE};
  const auto own = client.open_pool(options).value();
  auto future = own.with({.announce = true}).apply_async<nlohmann::json>("report", 3);
  std::vector<std::string> messages;
  future.on_progress([&](const Progress& progress) { messages.push_back(progress.message); });
  BOOST_TEST(future.get().has_value());
  BOOST_TEST(!messages.empty());
}

BOOST_AUTO_TEST_CASE(a_task_may_use_the_pool_that_it_runs_in) {
  PoolOptions options;
  options.workers = 2;
  options.modules = {NESTED_MODULE};
  const auto own = client.open_pool(options).value();
  BOOST_TEST(own.map<std::int64_t>("sum_of_squares", std::vector<int>(6, 100), {.force_json = true}).value() ==
             std::vector<std::int64_t>(6, 328'350));
}

BOOST_AUTO_TEST_CASE(threads_share_a_client) {
  std::atomic<int> right{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i)
        if (pool.apply<std::int64_t>("square", t * 1000 + i).value() == (t * 1000 + i) * (t * 1000 + i)) ++right;
    });
  for (auto& thread : threads) thread.join();
  BOOST_TEST(right == 800);
}

BOOST_AUTO_TEST_SUITE_END()
