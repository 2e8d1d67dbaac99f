#include "daemon/server/keeper.hpp"

#include <boost/asio/io_context.hpp>
#include <boost/test/unit_test.hpp>
#include <string>

#include "proto/items.hpp"

namespace taskpool::server {
namespace {

struct Fixture {
  boost::asio::io_context io;
  wire::Turn turn{io};
  Config config;
  Metrics metrics;
  queue::JobTable jobs{1};
  Arenas arenas{config, metrics};
  Keeper keeper{turn, config, metrics, jobs, arenas};
  std::vector<std::string> dropped;

  Fixture() {
    keeper.on_dropped = [this](const queue::Job& job) { dropped.push_back(jobs.text(job.id)); };
  }

  queue::Job& job(std::optional<Keeper::Key> key = {}) {
    auto& made = *jobs.create();
    keeper.adopt(made, std::move(key));
    return made;
  }

  /// A result of that many bytes, and the end.
  void end(queue::Job& job, std::size_t bytes, std::vector<std::string> refs = {}) {
    Packer packer;
    packer.add(std::vector<std::byte>(bytes));
    const Prefix form{.op = Op::run_results, .encoding = Encoding::bytes, .count = 1};
    keeper.on_results(job, 0, 1, form, packer.table(), packer.payload(), refs);
    job.ended = true;
    BOOST_TEST(keeper.on_done(job));
    io.restart();
    io.poll();
  }
};

BOOST_FIXTURE_TEST_SUITE(keepers, Fixture)

BOOST_AUTO_TEST_CASE(the_oldest_goes_when_there_are_too_many) {
  config.kept_results = 2;
  const auto first = jobs.text([&]() -> queue::JobId {
    auto& made = job();
    end(made, 10);
    return made.id;
  }());
  end(job(), 10);
  BOOST_TEST(dropped.empty());
  end(job(), 10);
  BOOST_TEST(dropped == std::vector<std::string>{first}, boost::test_tools::per_element());
  BOOST_TEST(jobs.size() == 2u);
}

BOOST_AUTO_TEST_CASE(what_a_kept_result_names_is_kept_with_it) {
  std::vector<std::weak_ptr<void>> pins;
  keeper.pin = [&](const std::string& id, std::uint32_t uid) {
    BOOST_TEST(id == "u1000-17");
    BOOST_TEST(uid == 0u);
    auto pin = std::make_shared<int>(0);
    pins.push_back(pin);
    return pin;
  };
  auto& made = job();
  end(made, 10, {"u1000-17"});
  BOOST_TEST(pins.size() == 1u);
  BOOST_TEST(!pins[0].expired());
  keeper.drop(made);
  BOOST_TEST(pins[0].expired());
}

BOOST_AUTO_TEST_CASE(the_oldest_goes_when_they_are_too_large) {
  config.kept_result_bytes = 10'000;
  for (int round = 0; round < 20; ++round) end(job(), 1000);
  BOOST_TEST(metrics.results_kept_bytes <= 10'000u);
  BOOST_TEST(dropped.size() >= 10u);
}

BOOST_AUTO_TEST_CASE(a_key_names_the_job_until_it_is_dropped) {
  const Keeper::Key key{1000, "default", "once"};
  auto& keyed = job(key);
  BOOST_TEST(keeper.find(key) == &keyed);
  BOOST_TEST(keeper.find({1001, "default", "once"}) == nullptr);
  end(keyed, 10);
  keeper.drop(keyed);
  BOOST_TEST(keeper.find(key) == nullptr);
  BOOST_TEST(jobs.size() == 0u);
}

BOOST_AUTO_TEST_CASE(the_first_error_is_remembered) {
  auto& failed = job();
  ErrorHead error;
  error.code = Errc::task_failed;
  error.detail = "first";
  keeper.on_failed(failed, 0, 1, error);
  error.detail = "second";
  keeper.on_failed(failed, 1, 1, error);
  BOOST_REQUIRE(keeper.error_of(failed) != nullptr);
  BOOST_TEST(keeper.error_of(failed)->detail == "first");
}

BOOST_AUTO_TEST_CASE(a_failure_that_goes_unread_is_told_once) {
  config.kept_results = 1;
  std::vector<std::uint32_t> told;
  keeper.on_uncollected = [&](const queue::Job&, std::uint32_t index, const ErrorHead&) { told.push_back(index); };
  ErrorHead error;
  error.code = Errc::task_failed;
  auto& failed = job();
  keeper.on_failed(failed, 7, 1, error);
  keeper.on_failed(failed, 8, 1, error);
  end(failed, 10);
  auto& cancelled = job();
  error.code = Errc::cancelled;
  keeper.on_failed(cancelled, 0, 1, error);
  end(cancelled, 10);
  end(job(), 10);
  BOOST_TEST(told == std::vector<std::uint32_t>{7}, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool::server
