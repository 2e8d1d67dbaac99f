#include "daemon/server/metrics_page.hpp"

#include <boost/test/unit_test.hpp>

namespace taskpool::server {
namespace {

using namespace std::chrono_literals;

std::string page_of(const Snapshot& snapshot) {
  std::string page;
  for (std::size_t part = 0; part < metrics_page_parts(); ++part) append_metrics_part(page, snapshot, part);
  return page;
}

bool has_line(const std::string& page, const std::string& line) {
  return ("\n" + page).find("\n" + line + "\n") != std::string::npos;
}

Snapshot with_pool(std::string name) {
  Snapshot snapshot;
  snapshot.pools.push_back({.name = std::move(name)});
  return snapshot;
}

BOOST_AUTO_TEST_SUITE(metrics_page)

BOOST_AUTO_TEST_CASE(a_histogram_counts_up_to_each_bound) {
  DurationHistogram histogram;
  histogram.add(10us);        // a bound belongs to its class
  histogram.add(10us + 1ns);  // the next one
  histogram.add(2h, 3);       // above all
  histogram.add(-1s);         // a clock that was read in another order
  BOOST_TEST(histogram.classes().front() == 2u);
  BOOST_TEST(histogram.classes()[1] == 1u);
  BOOST_TEST(histogram.classes().back() == 3u);
  BOOST_TEST(histogram.sum_ns() == 20'001u + 6 * 3'600'000'000'000u);
}

BOOST_AUTO_TEST_CASE(bounds_rise_and_are_spelled_as_they_are) {
  double last = 0;
  for (const auto& bound : DurationHistogram::kBounds) {
    const auto seconds = static_cast<double>(bound.ns) / 1e9;
    BOOST_TEST(seconds > last);
    BOOST_TEST(std::stod(std::string{bound.text}) == seconds);
    last = seconds;
  }
}

BOOST_AUTO_TEST_CASE(buckets_are_cumulative) {
  auto snapshot = with_pool("p");
  snapshot.pools[0].metrics.run.add(1ms, 2);
  snapshot.pools[0].metrics.run.add(3s);
  const auto page = page_of(snapshot);
  BOOST_TEST(has_line(page, R"(taskpool_task_run_seconds_bucket{pool="p",le="0.0005"} 0)"));
  BOOST_TEST(has_line(page, R"(taskpool_task_run_seconds_bucket{pool="p",le="0.001"} 2)"));
  BOOST_TEST(has_line(page, R"(taskpool_task_run_seconds_bucket{pool="p",le="5"} 3)"));
  BOOST_TEST(has_line(page, R"(taskpool_task_run_seconds_bucket{pool="p",le="+Inf"} 3)"));
  BOOST_TEST(has_line(page, R"(taskpool_task_run_seconds_sum{pool="p"} 3.002000000)"));
  BOOST_TEST(has_line(page, R"(taskpool_task_run_seconds_count{pool="p"} 3)"));
}

BOOST_AUTO_TEST_CASE(outcomes_that_matter_are_there_from_the_start_and_others_once_they_came) {
  auto snapshot = with_pool("p");
  auto page = page_of(snapshot);
  for (const auto* const outcome : {"done", "task_failed", "worker_lost", "timed_out", "cancelled", "out_of_memory"})
    BOOST_TEST(
        has_line(page, std::string{R"(taskpool_pool_tasks_ended_total{pool="p",outcome=")"} + outcome + "\"} 0"));
  BOOST_TEST(page.find("bad_argument") == std::string::npos);
  snapshot.pools[0].metrics.count(Errc::bad_argument, 7);
  BOOST_TEST(has_line(page_of(snapshot), R"(taskpool_pool_tasks_ended_total{pool="p",outcome="bad_argument"} 7)"));
}

BOOST_AUTO_TEST_CASE(names_are_escaped) {
  BOOST_TEST(escape_label("a\"b\\c\nd") == R"(a\"b\\c\nd)");
  BOOST_TEST(escape_label("\xc3\xa9") == "\xc3\xa9");
  BOOST_TEST(escape_label("\xff|") == "\xef\xbf\xbd|");  // what is not UTF-8 is replaced
  BOOST_TEST(has_line(page_of(with_pool("a\"b")), R"(taskpool_pool_up{pool="a\"b"} 1)"));
}

BOOST_AUTO_TEST_CASE(numbers_of_each_kind) {
  Snapshot snapshot;
  snapshot.sessions = {{0, 2}, {1000, 1}};
  snapshot.loop_lag = 1'500'000us;
  snapshot.uptime = 61'007ms;
  snapshot.metrics.tasks_succeeded = 18'446'744'073'709'551'615u;
  const auto page = page_of(snapshot);
  BOOST_TEST(has_line(page, R"(taskpool_user_open_sessions{uid="1000"} 1)"));
  BOOST_TEST(has_line(page, "taskpool_loop_lag_seconds 1.500000000"));
  BOOST_TEST(has_line(page, "taskpool_uptime_seconds 61.007"));
  BOOST_TEST(has_line(page, "taskpool_tasks_succeeded_total 18446744073709551615"));
  BOOST_TEST(has_line(page, "# TYPE taskpool_tasks_succeeded_total counter"));
  BOOST_TEST(has_line(page, "# TYPE taskpool_task_wait_seconds histogram"));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool::server
