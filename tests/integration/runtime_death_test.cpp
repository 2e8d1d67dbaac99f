#include <signal.h>

#include <boost/test/unit_test.hpp>
#include <fstream>
#include <sstream>
#include <string>

#include "tests/support/runtime_driver.hpp"

/// How workers and runtimes end, and what is left of their work.
namespace {

using namespace taskpool;
using namespace taskpool::test;

struct OneWorker {
  RuntimeDriver runtime;
  std::unique_ptr<DrivenWorker> worker;

  OneWorker() {
    runtime.load({TESTING_MODULE, DEMO_MODULE});
    worker = runtime.make_worker({.worker = 1});
  }
  std::uint32_t number(const char* function) const { return runtime.number(function); }
};

std::vector<std::string> count_to(int end) {
  std::vector<std::string> items;
  for (int i = 0; i < end; ++i) items.push_back(std::to_string(i));
  return items;
}

bool is_alive(pid_t pid) {
  std::ifstream stat{"/proc/" + std::to_string(pid) + "/stat"};
  std::string id, name, state;
  stat >> id >> name >> state;
  return !state.empty() && state != "Z" && state != "X";
}

/// A field of /proc/PID/smaps_rollup in bytes.
std::size_t memory_of(pid_t pid, const std::string& field) {
  std::ifstream rollup{"/proc/" + std::to_string(pid) + "/smaps_rollup"};
  for (std::string line; std::getline(rollup, line);) {
    std::istringstream words{line};
    std::string name;
    std::size_t kilobytes = 0;
    words >> name >> kilobytes;
    if (name == field + ":") return kilobytes * 1024;
  }
  return 0;
}

}  // namespace

BOOST_FIXTURE_TEST_SUITE(runtime_deaths, OneWorker)

BOOST_AUTO_TEST_CASE(a_killed_worker_loses_only_the_item_that_it_ran) {
  const auto first = worker->send_map(number("die_at"), count_to(2000));
  BOOST_REQUIRE(worker->wait_death());
  worker->bury();
  const auto exit = runtime.take_exit();
  BOOST_REQUIRE(exit.has_value());
  BOOST_TEST(exit->worker == 1u);
  BOOST_TEST(exit->signal == SIGKILL);
  BOOST_TEST(exit->max_rss_bytes > 0u);
  BOOST_TEST(worker->page().running.load() == first + 1000);
  BOOST_TEST(worker->page().busy.load() == 1u);
  BOOST_TEST(worker->page().finished.load() == first + 1000);
  for (Ticket i = 0; i < 1000; ++i) BOOST_REQUIRE(worker->outcome(first + i) == std::to_string(-static_cast<int>(i)));
  BOOST_TEST(worker->outcomes.size() == 1000u);
}

BOOST_AUTO_TEST_CASE(finished_results_are_there_while_the_next_item_is_slow) {
  const auto first = worker->send_map(number("stall_at"), count_to(1010));
  BOOST_REQUIRE(eventually([&] {
    worker->read_available();
    return worker->page().running.load() == first + 1000;
  }));
  BOOST_TEST(worker->page().finished.load() == first + 1000);
  worker->kill();
  BOOST_REQUIRE(worker->wait_death());
  worker->bury();
  BOOST_TEST(worker->outcome(first + 999) == "-999");
  BOOST_TEST(worker->outcomes.size() == 1000u);
}

BOOST_AUTO_TEST_CASE(a_worker_killed_in_an_array_names_the_number_and_keeps_what_is_in_its_room) {
  std::vector<std::int64_t> numbers(2000);
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<std::int64_t>(i);
  auto down = os::SharedMemory::create("down", numbers.size() * 8);
  worker->attach({.session = 3, .down = true, .segment = 1, .bytes = down->size()}, *down);
  const auto first = worker->send_numbers(number("die_at"), numbers, {.session = 3, .room = {1, 0, down->size()}});
  BOOST_REQUIRE(worker->wait_death());
  worker->bury();
  BOOST_TEST(worker->page().running.load() == first + 1000);
  const auto finished = worker->page().finished.load() - first;
  BOOST_TEST(finished <= 1000u);
  const auto* const results = reinterpret_cast<const std::int64_t*>(down->data());
  for (std::uint32_t i = 0; i < finished; ++i) BOOST_REQUIRE(results[i] == -static_cast<std::int64_t>(i));
  BOOST_TEST(worker->outcomes.empty());
}

BOOST_AUTO_TEST_CASE(a_task_that_calls_exit_is_a_death_like_any_other) {
  const auto first = worker->send_map(number("square"), {"1", "2"});
  const auto fatal = worker->send_apply(number("leave"), "3");
  BOOST_REQUIRE(worker->wait_death());
  worker->bury();
  BOOST_TEST(worker->outcome(first + 1) == "4");
  BOOST_TEST(worker->outcome(fatal) == "nothing");
  BOOST_TEST(worker->page().running.load() == fatal);
  BOOST_TEST(runtime.take_exit()->exit_code == 3);
}

BOOST_AUTO_TEST_CASE(a_crash_reports_its_signal) {
  worker->send_apply(number("crash"), std::to_string(SIGSEGV));
  BOOST_REQUIRE(worker->wait_death());
  BOOST_TEST(runtime.take_exit()->signal == SIGSEGV);
}

BOOST_AUTO_TEST_CASE(a_task_that_closes_every_descriptor_ends_its_worker_not_its_result) {
  const auto first = worker->send_apply(number("close_all"), "5");
  BOOST_REQUIRE(worker->wait_death());
  worker->bury();
  BOOST_TEST(worker->outcome(first) == "5");
  const auto exit = runtime.take_exit();
  BOOST_TEST(exit->exit_code == 70);
}

BOOST_AUTO_TEST_CASE(a_task_that_forks_and_returns_twice_answers_once) {
  for (int round = 0; round < 20; ++round) {
    const auto first = worker->send_map(number("fork_twice"), {"1", "2", "3"});
    const auto last = worker->send_apply(number("square"), "9");
    BOOST_REQUIRE(worker->read_outcomes(last + 1));
    for (Ticket i = 0; i < 3; ++i) BOOST_TEST(worker->outcome(first + i) == std::to_string(i + 1));
    BOOST_TEST(worker->outcome(last) == "81");
  }
}

BOOST_AUTO_TEST_CASE(workers_die_with_their_runtime) {
  const pid_t pid = worker->pid();
  runtime.kill();
  BOOST_TEST(worker->wait_death());
  BOOST_TEST(eventually([&] { return !is_alive(pid); }));
}

BOOST_AUTO_TEST_CASE(the_runtime_ends_with_its_control_channel) {
  BOOST_TEST(runtime.close());
  BOOST_TEST(worker->wait_death());
}

BOOST_AUTO_TEST_CASE(a_worker_ends_when_its_channel_is_closed) {
  const pid_t pid = worker->pid();
  worker.reset();
  const auto exit = runtime.take_exit();
  BOOST_REQUIRE(exit.has_value());
  BOOST_TEST(exit->pid == static_cast<std::uint64_t>(pid));
  BOOST_TEST(exit->exit_code == 0);
  BOOST_TEST(exit->signal == 0);
}

BOOST_AUTO_TEST_CASE(garbage_on_its_channel_ends_a_worker_and_no_other) {
  const auto other = runtime.make_worker({.worker = 2});
  BOOST_REQUIRE(worker->channel().send(as_bytes(std::string(64, 'x'))).has_value());
  BOOST_REQUIRE(worker->wait_death());
  BOOST_TEST(runtime.take_exit()->exit_code == 70);
  const auto ticket = other->send_apply(number("square"), "4");
  BOOST_REQUIRE(other->read_outcomes(ticket + 1));
  BOOST_TEST(other->outcome(ticket) == "16");
}

BOOST_AUTO_TEST_CASE(an_idle_worker_is_small) {
  constexpr std::size_t kMost = 512 * 1024;
  const auto bytes = memory_of(worker->pid(), "Pss");
  BOOST_TEST_MESSAGE("PSS of an idle worker: " << bytes / 1024 << " KiB");
  BOOST_TEST(bytes > 0u);
  const auto second = runtime.make_worker({.worker = 2});
  BOOST_WARN(memory_of(second->pid(), "Pss") <= kMost);
}

BOOST_AUTO_TEST_SUITE_END()
