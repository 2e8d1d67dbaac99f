#include <signal.h>

#include <boost/test/unit_test.hpp>
#include <cstring>

#include "proto/codec.hpp"
#include "proto/fields.hpp"
#include "tests/support/runtime_driver.hpp"

namespace {

using namespace taskpool;
using namespace taskpool::test;

/// A runtime with the test module, and one worker of it.
struct OneWorker {
  RuntimeDriver runtime;
  std::unique_ptr<DrivenWorker> worker;

  OneWorker() {
    runtime.load({TESTING_MODULE, DEMO_MODULE});
    worker = runtime.make_worker({.worker = 7, .task_prefix = "t-"});
  }
  std::uint32_t number(const char* function) const { return runtime.number(function); }
  std::string apply(const char* function, const std::string& item, RunHeader header = {}) {
    const auto ticket = worker->send_apply(number(function), item, header);
    BOOST_REQUIRE(worker->read_outcomes(ticket + 1));
    return worker->outcome(ticket);
  }
};

template <class T>
T number_in(const std::string& bytes) {
  BOOST_REQUIRE(bytes.size() == sizeof(T));
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

}  // namespace

BOOST_FIXTURE_TEST_SUITE(runtime_tasks, OneWorker)

BOOST_AUTO_TEST_CASE(a_call_has_a_result_or_an_error) {
  BOOST_TEST(apply("square", "12") == "144");
  BOOST_TEST(apply("add", "[2, 40]") == "42");
  BOOST_TEST(apply("greet", "\"you\"") == "\"hello you\"");
  BOOST_TEST(apply("count_letters", "\"noon\"") == "{\"n\":2,\"o\":2}");
  BOOST_TEST(apply("fail", "\"oh\"") == "task_failed: oh");
  BOOST_TEST(worker->outcomes.rbegin()->second.error->type == "std::runtime_error");
  BOOST_TEST(apply("throw_number", "[]") == "task_failed: not a std::exception");
  BOOST_TEST(worker->outcomes.rbegin()->second.error->type == "int");
  BOOST_TEST(apply("add", "[2]") == "bad_argument: takes 2 arguments, got 1");
  BOOST_TEST(apply("not_encodable", "[]").find("not_encodable: ") == 0u);
  BOOST_TEST(apply("square", "12") == "144");
}

BOOST_AUTO_TEST_CASE(a_map_has_a_result_for_each_item_and_errors_fail_only_theirs) {
  std::vector<std::string> items;
  for (int i = 0; i < 1000; ++i) items.push_back(i == 500 ? "\"five hundred\"" : std::to_string(i));
  const auto first = worker->send_map(number("square"), items);
  BOOST_REQUIRE(worker->read_outcomes(first + 1000));
  for (Ticket i = 0; i < 1000; ++i)
    BOOST_REQUIRE(worker->outcome(first + i) ==
                  (i == 500 ? "bad_argument: argument 1 (x): want int, got \"five hundred\"" : std::to_string(i * i)));
  BOOST_TEST(worker->page().finished.load() == first + 1000);
  BOOST_TEST(worker->page().busy.load() == 0u);
}

BOOST_AUTO_TEST_CASE(an_array_is_mapped_without_parsing) {
  std::vector<std::int64_t> numbers(10'000);
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<std::int64_t>(i) - 5000;
  const auto first = worker->send_numbers(number("square"), numbers);
  BOOST_REQUIRE(worker->read_outcomes(first + 10'000));
  for (Ticket i = 0; i < 10'000; ++i) {
    const auto& outcome = worker->outcomes[first + i];
    BOOST_REQUIRE(outcome.encoding == Encoding::i64);
    BOOST_REQUIRE(number_in<std::int64_t>(outcome.value) == numbers[i] * numbers[i]);
  }
}

BOOST_AUTO_TEST_CASE(numbers_of_another_type_are_converted_and_those_that_do_not_fit_fail_alone) {
  const auto first = worker->send_numbers(number("half"), {1, 127, 128, -128, 300, 2});
  BOOST_REQUIRE(worker->read_outcomes(first + 6));
  BOOST_TEST(number_in<double>(worker->outcome(first)) == 0.5);
  BOOST_TEST(number_in<double>(worker->outcome(first + 1)) == 63.5);
  BOOST_TEST(worker->outcome(first + 2) == "bad_argument: argument 1: does not fit i8");
  BOOST_TEST(number_in<double>(worker->outcome(first + 3)) == -64);
  BOOST_TEST(worker->outcome(first + 4) == "bad_argument: argument 1: does not fit i8");
  BOOST_TEST(number_in<double>(worker->outcome(first + 5)) == 1);
}

BOOST_AUTO_TEST_CASE(an_exception_in_an_array_fails_one_number) {
  std::vector<std::int64_t> numbers(100);
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<std::int64_t>(i);
  const auto first = worker->send_numbers(number("not_thirteen"), numbers);
  BOOST_REQUIRE(worker->read_outcomes(first + 100));
  for (Ticket i = 0; i < 100; ++i) {
    if (i == 13)
      BOOST_TEST(worker->outcome(first + i) == "task_failed: thirteen");
    else
      BOOST_REQUIRE(number_in<std::int32_t>(worker->outcome(first + i)) == static_cast<std::int32_t>(i));
  }
}

BOOST_AUTO_TEST_CASE(numbers_reach_a_function_that_takes_items) {
  const auto first = worker->send_numbers(number("echo"), {7, -8});
  BOOST_REQUIRE(worker->read_outcomes(first + 2));
  BOOST_TEST(worker->outcome(first) == "7");
  BOOST_TEST(worker->outcome(first + 1) == "-8");
}

BOOST_AUTO_TEST_CASE(an_array_may_be_one_argument) {
  const std::vector<double> numbers{1.5, 2, 3};
  const auto body = std::as_bytes(std::span{numbers});
  const Prefix prefix{.encoding = Encoding::f64, .count = 3};
  const auto first = worker->send_run(number("sum"), prefix, body, {.flags = kRunSingle});
  const auto second = worker->send_run(number("echo"), prefix, body, {.flags = kRunSingle});
  BOOST_REQUIRE(worker->read_outcomes(second + 1));
  BOOST_TEST(worker->outcome(first) == "6.5");
  BOOST_TEST((worker->outcomes[second].encoding == Encoding::f64));
  BOOST_TEST(worker->outcome(second) == std::string{as_text(body)});
}

BOOST_AUTO_TEST_CASE(a_function_that_is_not_there_fails_its_run) {
  const auto first = worker->send_map(9999, {"1", "2"});
  BOOST_REQUIRE(worker->read_outcomes(first + 2));
  BOOST_TEST(worker->outcome(first) == "unknown_function: function number 9999");
  BOOST_TEST(worker->outcome(first + 1) == "unknown_function: function number 9999");
}

BOOST_AUTO_TEST_CASE(a_malformed_body_fails_its_run_alone) {
  const auto first = worker->send_run(number("square"), {.encoding = Encoding::json, .count = 2}, as_bytes("abc"));
  BOOST_REQUIRE(worker->read_outcomes(first + 2));
  BOOST_TEST(worker->outcome(first).find("bad_message: ") == 0u);
  BOOST_TEST(apply("square", "3") == "9");
}

BOOST_AUTO_TEST_CASE(a_task_knows_where_it_runs) {
  const RunHeader header{.job = 0x2a, .index = 5, .attempt = 1, .timeout_ms = 5000};
  const auto first = worker->send_map(number("describe"), {"[]", "[]"}, header);
  const auto second = worker->send_apply(number("describe"), "[]", {.job = 0xff});
  BOOST_REQUIRE(worker->read_outcomes(second + 1));
  const auto one = Json::parse(worker->outcome(first));
  const auto two = Json::parse(worker->outcome(first + 1));
  BOOST_TEST(one["task"] == "t-2a/5");
  BOOST_TEST(two["task"] == "t-2a/6");
  BOOST_TEST(one["worker"] == 7);
  BOOST_TEST(one["attempt"] == 1);
  BOOST_TEST(one["has_deadline"] == true);
  BOOST_TEST(one["seed"] != two["seed"]);
  const auto single = Json::parse(worker->outcome(second));
  BOOST_TEST(single["task"] == "t-ff");
  BOOST_TEST(single["has_deadline"] == false);
}

BOOST_AUTO_TEST_CASE(progress_is_reported_to_who_wants_it_and_logs_always) {
  const auto first = worker->send_apply(number("report"), "1000", {.flags = kRunReport});
  BOOST_REQUIRE(worker->read_outcomes(first + 1));
  BOOST_TEST_REQUIRE(worker->others.size() >= 3u);
  BOOST_TEST(worker->others.size() < 100u);  // not all thousand steps
  const auto begin = decode<Report>(worker->others.front().head);
  BOOST_TEST(*begin->done == 1);
  BOOST_TEST(*begin->total == 1000);
  BOOST_TEST(begin->message == "step");
  BOOST_TEST(*decode<Report>(worker->others[worker->others.size() - 2].head)->done == 1000);
  const auto log = decode<Report>(worker->others.back().head);
  BOOST_TEST(log->level == "warning");
  BOOST_TEST(log->log == "that was all");

  worker->others.clear();
  BOOST_TEST(apply("report", "10").empty());
  BOOST_TEST(worker->others.size() == 1u);
}

BOOST_AUTO_TEST_CASE(what_was_taken_back_does_not_run) {
  // The first item keeps the worker busy until the others have been taken back.
  const auto first = worker->send_map(number("wait_interrupt"), {"\"poll\"", "\"poll\"", "\"poll\""});
  BOOST_REQUIRE(eventually([&] { return worker->page().busy.load() == 1; }));
  const auto taken = take_back_tickets(worker->page());
  BOOST_TEST(taken.next == first + 1);
  BOOST_TEST(taken.end == first + 3);
  worker->interrupt(first, Interrupt::cancel);
  const auto next = worker->send_map(number("square"), {"4"});
  BOOST_REQUIRE(worker->read_outcomes(next + 1));
  BOOST_TEST(worker->outcome(first) == "\"interrupted\"");
  BOOST_TEST(worker->outcome(first + 1) == "nothing");
  BOOST_TEST(worker->outcome(first + 2) == "nothing");
  BOOST_TEST(worker->outcome(next) == "16");
}

BOOST_AUTO_TEST_CASE(an_interrupt_ends_a_wait_and_a_stale_one_does_nothing) {
  for (const auto* how : {"\"poll\"", "\"signal\""}) {
    const auto ticket = worker->send_apply(number("wait_interrupt"), how);
    BOOST_REQUIRE(eventually([&] { return worker->page().busy.load() == 1; }));
    worker->interrupt(ticket - 1, Interrupt::cancel);
    worker->interrupt(ticket, Interrupt::soft_timeout);
    BOOST_REQUIRE(worker->read_outcomes(ticket + 1));
    BOOST_TEST(worker->outcome(ticket) == "\"interrupted\"");
  }
  const auto ticket = worker->send_apply(number("stop_if_cancelled"), "[]");
  BOOST_REQUIRE(eventually([&] { return worker->page().running.load() == ticket && worker->page().busy.load() == 1; }));
  worker->interrupt(ticket, Interrupt::cancel);
  BOOST_REQUIRE(worker->read_outcomes(ticket + 1));
  BOOST_TEST(worker->outcome(ticket) == "cancelled: cancelled");
  // Between tasks it means nothing.
  worker->interrupt(ticket, Interrupt::cancel);
  BOOST_TEST(apply("square", "5") == "25");
}

BOOST_AUTO_TEST_CASE(a_call_is_answered_before_a_map_behind_it_begins) {
  ::kill(worker->pid(), SIGSTOP);  // both are there when it looks
  const auto call = worker->send_apply(number("square"), "12");
  worker->send_map(number("sleep"), {"60"});
  ::kill(worker->pid(), SIGCONT);
  BOOST_REQUIRE(worker->read_outcomes(call + 1));
  BOOST_TEST(worker->outcome(call) == "144");
  worker->kill();
}

BOOST_AUTO_TEST_CASE(a_slow_item_gives_the_rest_of_its_block_back) {
  // Short items first, so that blocks grow; then long ones.
  const std::vector<std::string> shorts(500, "0");
  const auto warm = worker->send_map(number("spin"), shorts);
  BOOST_REQUIRE(worker->read_outcomes(warm + 500));
  const std::vector<std::string> longs(8, "20000");
  const auto first = worker->send_map(number("spin"), longs);
  BOOST_REQUIRE(eventually([&] { return !ticket_before(worker->page().finished.load(), first + 2); }));
  const auto taken = take_back_tickets(worker->page());
  BOOST_TEST(taken.next - first < 8u);
  const auto last = worker->send_map(number("square"), {"2"});
  BOOST_REQUIRE(worker->read_outcomes(last + 1));
  for (Ticket ticket = first; ticket != first + 8; ++ticket)
    BOOST_TEST(worker->outcome(ticket) == (ticket_before(ticket, taken.next) ? "20000" : "nothing"));
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_FIXTURE_TEST_SUITE(runtime_arenas, OneWorker)

BOOST_AUTO_TEST_CASE(large_arguments_are_read_in_place_and_large_results_get_room) {
  constexpr std::size_t kBytes = 1u << 20;
  auto up = os::SharedMemory::create("up", kBytes);
  auto down = os::SharedMemory::create("down", kBytes);
  BOOST_REQUIRE((up && down));
  worker->attach({.session = 3, .segment = 1, .bytes = kBytes, .same_uid = true}, *up);
  const ArenaRef argument{1, 64, 200'000};
  const auto first =
      worker->send_run(number("byte_count"), {.flags = kInArena, .encoding = Encoding::bytes, .count = 1},
                       std::as_bytes(std::span{&argument, 1}), {.session = 3, .flags = kRunSingle});
  const auto second = worker->send_apply(number("big_result"), "100000", {.session = 3});
  const auto third = worker->send_apply(number("square"), "6");  // arrives while the worker waits for room
  const auto want = worker->read_until(Op::want_room);
  BOOST_REQUIRE(want.has_value());
  BOOST_TEST(want->prefix.request == second);
  BOOST_TEST(load<std::uint64_t>(want->body.data()) == 100'000u);
  worker->attach({.session = 3, .down = true, .segment = 1, .bytes = kBytes}, *down);
  const ArenaRef room{1, 128, 100'032};
  worker->send({.op = Op::room, .request = second}, {}, std::as_bytes(std::span{&room, 1}));
  BOOST_REQUIRE(worker->read_outcomes(third + 1));
  BOOST_TEST(worker->outcome(first) == "200000");
  BOOST_TEST(worker->outcome(second) == "@1+128:100000");
  BOOST_TEST(worker->outcome(third) == "36");
  for (std::size_t i = 0; i < 100'000; ++i) BOOST_REQUIRE(down->data()[128 + i] == static_cast<std::byte>(i * 7));
}

BOOST_AUTO_TEST_CASE(no_room_is_an_error_of_the_task) {
  const auto first = worker->send_apply(number("big_result"), "100000");
  BOOST_REQUIRE(worker->read_until(Op::want_room).has_value());
  const ArenaRef none;
  worker->send({.op = Op::room, .request = first},
               encode(ErrorHead{.code = Errc::out_of_space, .detail = "arena full"}),
               std::as_bytes(std::span{&none, 1}));
  BOOST_REQUIRE(worker->read_outcomes(first + 1));
  BOOST_TEST(worker->outcome(first) == "out_of_space: result of 100000 bytes: arena full");
}

BOOST_AUTO_TEST_CASE(a_reference_outside_every_segment_fails_its_item) {
  const ArenaRef nowhere{1, 0, 10};
  const auto first =
      worker->send_run(number("byte_count"), {.flags = kInArena, .encoding = Encoding::bytes, .count = 1},
                       std::as_bytes(std::span{&nowhere, 1}), {.session = 3});
  BOOST_REQUIRE(worker->read_outcomes(first + 1));
  BOOST_TEST(worker->outcome(first) == "out_of_space: up segment 1 of session 3: the daemon could not pass it on");

  auto up = os::SharedMemory::create("up", 4096);
  worker->attach({.session = 3, .segment = 1, .bytes = 4096, .same_uid = false}, *up);
  const ArenaRef beyond{1, 4032, 128};
  const auto second =
      worker->send_run(number("byte_count"), {.flags = kInArena, .encoding = Encoding::bytes, .count = 1},
                       std::as_bytes(std::span{&beyond, 1}), {.session = 3});
  const ArenaRef inside{1, 4032, 64};
  const auto third =
      worker->send_run(number("byte_count"), {.flags = kInArena, .encoding = Encoding::bytes, .count = 1},
                       std::as_bytes(std::span{&inside, 1}), {.session = 3});
  worker->send({.op = Op::detach}, encode(Detach{3}));
  const auto fourth =
      worker->send_run(number("byte_count"), {.flags = kInArena, .encoding = Encoding::bytes, .count = 1},
                       std::as_bytes(std::span{&inside, 1}), {.session = 3});
  BOOST_REQUIRE(worker->read_outcomes(fourth + 1));
  BOOST_TEST(worker->outcome(second) == "bad_message: up segment 1 of session 3: has no 128 bytes at 4032");
  BOOST_TEST(worker->outcome(third) == "64");
  BOOST_TEST(worker->outcome(fourth) == "out_of_space: up segment 1 of session 3: the daemon could not pass it on");
}

BOOST_AUTO_TEST_CASE(an_array_goes_from_arena_to_arena_and_one_frame_says_so) {
  constexpr std::uint32_t kCount = 100'000;
  constexpr std::size_t kBytes = kCount * sizeof(std::int64_t);
  auto up = os::SharedMemory::create("up", kBytes);
  auto down = os::SharedMemory::create("down", kBytes);
  auto* const numbers = reinterpret_cast<std::int64_t*>(up->data());
  for (std::uint32_t i = 0; i < kCount; ++i) numbers[i] = i;
  worker->attach({.session = 3, .segment = 1, .bytes = kBytes, .same_uid = true}, *up);
  worker->attach({.session = 3, .down = true, .segment = 1, .bytes = kBytes}, *down);
  const ArenaRef whole{1, 0, kBytes};
  const Prefix prefix{.flags = kInArena, .encoding = Encoding::i64, .count = kCount};
  const auto first =
      worker->send_run(number("square"), prefix, std::as_bytes(std::span{&whole, 1}), {.session = 3, .room = whole});
  BOOST_REQUIRE(worker->read_outcomes(first + kCount));
  BOOST_TEST(worker->outcome(first) == "@1+0:800000");
  BOOST_TEST(worker->outcome(first + kCount - 1) == "@1+0:800000");
  const auto* const squares = reinterpret_cast<const std::int64_t*>(down->data());
  for (std::int64_t i = 0; i < kCount; ++i) BOOST_REQUIRE(squares[i] == i * i);
}

BOOST_AUTO_TEST_SUITE_END()
