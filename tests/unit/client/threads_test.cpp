#include <atomic>
#include <boost/test/unit_test.hpp>
#include <random>
#include <thread>

#include "fake_server.hpp"

using namespace taskpool;
using namespace taskpool::test;
using namespace std::chrono_literals;

BOOST_AUTO_TEST_SUITE(threads)

// Every thread is leader now and follower then; nobody may miss its result.
BOOST_AUTO_TEST_CASE(many_threads_share_a_client) {
  constexpr int kThreads = 8;
  constexpr int kCalls = 500;
  Connected c;
  const Background serving{[&] {
    std::mt19937 random{3};
    std::vector<Frame> held;
    for (int answered = 0; answered < kThreads * kCalls;) {
      while (auto call = held.empty() ? std::optional{c.peer->next(Op::apply)} : c.peer->try_next())
        held.push_back(std::move(*call));
      std::swap(held[random() % held.size()], held.back());
      c.peer->result(held.back(), held.back().text());
      held.pop_back();
      ++answered;
    }
  }};
  std::atomic<int> right{0};
  {
    std::vector<std::unique_ptr<Background>> workers;
    for (int t = 0; t < kThreads; ++t) {
      workers.push_back(std::make_unique<Background>([&, t] {
        for (int i = 0; i < kCalls; ++i) {
          const int value = t * kCalls + i;
          auto future = c.client.pool().apply_async<int>("echo", value);
          while (i % 5 == 0 && !future.wait_for(1ms)) continue;
          if (const auto result = future.get(); result && *result == value) ++right;
        }
      }));
    }
  }
  BOOST_TEST(right == kThreads * kCalls);
}

BOOST_AUTO_TEST_CASE(who_stops_reading_to_write_leaves_nobody_behind) {
  constexpr int kCalls = 200;
  constexpr int kThreads = 3;
  const std::string text(60'000, 'x');
  Connected c;
  std::atomic<bool> reads{false};
  const Background serving{[&] {
    // Reads nothing until all sockets and buffers are full, then answers late.
    while (!reads) std::this_thread::yield();
    std::vector<Frame> calls;
    for (int i = 0; i < kThreads * kCalls + 1; ++i) calls.push_back(c.peer->next(Op::apply));
    for (const auto& call : calls) c.peer->result(call, "1");
  }};
  auto waited_for = c.client.pool().apply_async<int>("f", 0);
  const Background waiting{[&] { expect(waited_for.get().value() == 1); }};
  std::atomic<int> submitted{0};
  std::vector<std::unique_ptr<Background>> writers;
  std::vector<std::vector<Future<int>>> futures(kThreads);
  for (auto& own : futures)
    writers.push_back(std::make_unique<Background>([&] {
      for (int i = 0; i < kCalls; ++i, ++submitted) own.push_back(c.client.pool().apply_async<int>("f", text));
      expect(c.client.flush().has_value());  // and then it is away: it neither reads nor writes any more
    }));
  while (submitted < 20) std::this_thread::yield();  // 1.2 MB: more than the socket and the client hold
  reads = true;
  writers.clear();
  for (auto& own : futures)
    for (auto& future : own) BOOST_REQUIRE(future.get().value() == 1);
}

BOOST_AUTO_TEST_CASE(a_connection_that_breaks_under_many_threads_ends_all_their_calls) {
  constexpr int kThreads = 6;
  Connected c;
  const Background serving{[&] {
    for (int round = 0; round < 20; ++round) {
      for (int i = 0; i < 10; ++i) {
        const auto call = c.peer->next(Op::apply);
        if (i % 3 != 0) c.peer->result(call, call.text());
        if (i % 3 == 0) c.peer->error(call, "task_failed", "");
      }
      c.peer->close();
      c.peer.emplace(c.server.accept());
    }
    for (;;) {
      const auto call = c.peer->next();
      if (call.prefix.op == Op::ping) return c.peer->ok(call);
      c.peer->result(call, call.text());
    }
  }};
  std::atomic<int> ended{0};
  {
    std::vector<std::unique_ptr<Background>> workers;
    for (int t = 0; t < kThreads; ++t) {
      workers.push_back(std::make_unique<Background>([&] {
        for (int i = 0; i < 200; ++i) {
          const auto result = c.client.pool().apply<int>("echo", i);
          if (result ? *result == i : result.error().errc() != Errc::internal) ++ended;
        }
      }));
    }
  }
  BOOST_TEST(ended == kThreads * 200);
  BOOST_TEST(c.client.ping().has_value());
}

BOOST_AUTO_TEST_SUITE_END()
