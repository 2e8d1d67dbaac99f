#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <boost/test/unit_test.hpp>
#include <chrono>
#include <fstream>
#include <string>

#include "proto/codec.hpp"
#include "tests/support/runtime_driver.hpp"

/// How the runtime program starts, and what its workers start with.
namespace {

using namespace taskpool;
using namespace taskpool::test;

std::string read_all(int fd) {
  std::string text;
  std::array<char, 512> block{};
  for (ssize_t got = 0; (got = ::read(fd, block.data(), block.size())) > 0;)
    text.append(block.data(), static_cast<std::size_t>(got));
  return text;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(runtime_start)

BOOST_AUTO_TEST_CASE(it_lists_what_its_modules_have) {
  RuntimeDriver runtime;
  const auto answer = runtime.start({DEMO_MODULE});
  BOOST_TEST(name(answer.prefix.op) == "ready");
  const auto ready = decode<Ready>(answer.head);
  BOOST_REQUIRE(ready.has_value());
  BOOST_TEST(!ready->open);
  BOOST_TEST(ready->functions.at(0).name == "square");
  BOOST_TEST(ready->functions.at(0).array);
  BOOST_TEST(runtime.close());
}

BOOST_AUTO_TEST_CASE(a_module_that_does_not_load_is_a_start_failure_that_names_it) {
  RuntimeDriver runtime;
  const auto answer = runtime.start({DEMO_MODULE, "/nowhere/broken.so"});
  BOOST_TEST(name(answer.prefix.op) == "start_failed");
  const auto failed = decode<StartFailed>(answer.head);
  BOOST_REQUIRE(failed.has_value());
  BOOST_TEST(failed->detail.find("module /nowhere/broken.so: ") == 0u);
}

BOOST_AUTO_TEST_CASE(it_refuses_to_be_started_by_hand) {
  const auto child = os::spawn({.argv = {TASKPOOL_RUNTIME}, .descriptors = {}});
  BOOST_REQUIRE(child.has_value());
  BOOST_TEST(os::reap(child->pidfd).code == 2);
}

BOOST_AUTO_TEST_CASE(the_commands_are_built_in) {
  RuntimeDriver runtime{{"--commands"}};
  runtime.load({});
  const auto worker = runtime.make_worker();
  const auto ticket = worker->send_apply(runtime.number("run"), R"(["true"])");
  BOOST_REQUIRE(worker->read_outcomes(ticket + 1));
  BOOST_TEST(worker->outcome(ticket).find("\"exit_code\":0") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_worker_has_the_place_that_was_asked_for) {
  RuntimeDriver runtime;
  runtime.load({TESTING_MODULE});
  std::array<int, 2> pipe_ends{};
  BOOST_REQUIRE(::pipe2(pipe_ends.data(), O_CLOEXEC) == 0);
  os::UniqueFd output{pipe_ends[0]};
  os::UniqueFd input{pipe_ends[1]};
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  const std::array stdio{null, input.get(), null};
  const Fork fork{.token = "secret",
                  .socket = "/run/x",
                  .environment = {{"COLOUR", "blue"}},
                  .cwd = "/proc",
                  .initializer = "initialize",
                  .initializer_arguments = "[41]",
                  .oom_score_adj = 321};
  const auto worker = runtime.make_worker(fork, stdio);
  input.reset();
  ::close(null);
  const auto proc = "/proc/" + std::to_string(worker->pid());
  std::ifstream environment{proc + "/oom_score_adj"};
  std::string oom;
  environment >> oom;
  BOOST_TEST(oom == "321");
  std::array<char, 64> cwd{};
  BOOST_TEST(::readlink((proc + "/cwd").c_str(), cwd.data(), cwd.size()) == 5);
  BOOST_TEST(std::string{cwd.data()} == "/proc");
  const auto ticket = worker->send_apply(runtime.number("initialized"), "[]");
  worker->send_apply(runtime.number("print"), "\"seen\"");
  BOOST_REQUIRE(worker->read_outcomes(ticket + 2));
  BOOST_TEST(worker->outcome(ticket) == "41");
  worker->kill();
  BOOST_TEST(read_all(output.get()) == "seen\n");
}

BOOST_AUTO_TEST_CASE(a_failed_initializer_says_why) {
  RuntimeDriver runtime;
  runtime.load({TESTING_MODULE, DEMO_MODULE});
  const auto failure_of = [&](const Fork& fork) {
    runtime.ask_worker(fork);
    const auto worker = runtime.take_worker();
    const auto first = read_frame(worker->channel());
    BOOST_REQUIRE(first.has_value());
    BOOST_TEST(name(first->prefix.op) == "worker_failed");
    const auto exit = runtime.take_exit();
    BOOST_REQUIRE(exit.has_value());
    BOOST_TEST(exit->exit_code == 1);
    return decode<WorkerFailed>(first->head)->detail;
  };
  BOOST_TEST(failure_of({.initializer = "fail", .initializer_arguments = "[\"no database\"]"}) ==
             "initializer fail: std::runtime_error: no database");
  BOOST_TEST(failure_of({.initializer = "nobody"}) == "initializer nobody: no such function");
  BOOST_TEST(failure_of({.cwd = "/nowhere"}).find("cwd /nowhere: ") == 0u);
}

BOOST_AUTO_TEST_CASE(sixty_four_workers_are_ready_soon) {
  RuntimeDriver runtime;
  runtime.load({DEMO_MODULE});
  const auto begin = std::chrono::steady_clock::now();
  constexpr std::uint32_t kWorkers = 64;
  for (std::uint32_t i = 0; i < kWorkers; ++i) runtime.ask_worker({.worker = i});
  std::vector<std::unique_ptr<DrivenWorker>> workers;
  for (std::uint32_t i = 0; i < kWorkers; ++i) workers.push_back(runtime.take_worker());
  for (const auto& worker : workers) BOOST_TEST(read_frame(worker->channel()).has_value());
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begin;
  BOOST_TEST_MESSAGE("64 workers ready in " << took.count() << " ms");
}

BOOST_AUTO_TEST_SUITE_END()
