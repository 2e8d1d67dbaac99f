#include "client/cli/top_view.hpp"

#include <boost/test/unit_test.hpp>

#include "client/cli/output.hpp"

namespace taskpool::cli {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;

json counters(std::uint64_t succeeded, std::uint64_t operations) {
  return {{{"name", "tasks_succeeded_total"}, {"value", succeeded}},
          {{"name", "store_operations_total"}, {"value", operations}},
          {{"name", "sessions_open"}, {"value", 3}}};
}

TopSample sample(std::uint64_t succeeded = 0, std::chrono::seconds at = 0s) {
  TopSample made;
  made.taken = std::chrono::steady_clock::time_point{at};
  made.stats = {{"version", "1.2"},     {"pid", 77},
                {"state", "running"},   {"uptime_ms", 61'000},
                {"rss_bytes", 1 << 20}, {"counters", counters(succeeded, 0)}};
  made.pools = {{{"pool", "default"},
                 {"workers", 2},
                 {"busy", 1},
                 {"queued_tasks", 5},
                 {"oldest_ms", 1200},
                 {"ended_tasks", succeeded},
                 {"failed_tasks", 0},
                 {"worker_restarts", 4},
                 {"up", true},
                 {"paused", false},
                 {"owner_session", 0}}};
  made.workers = {
      {{"worker", 1}, {"pid", 101}, {"pool", "default"}, {"state", "idle"}, {"tasks_done", 9}, {"rss_bytes", 3000}},
      {{"worker", 2},
       {"pid", 102},
       {"pool", "default"},
       {"state", "busy"},
       {"tasks_done", 1},
       {"rss_bytes", 1000},
       {"run_ms", 2500},
       {"task", "t-1"},
       {"function", "render"}},
      {{"worker", 3},
       {"pid", 103},
       {"pool", "other"},
       {"state", "busy"},
       {"tasks_done", 5},
       {"rss_bytes", 9000},
       {"run_ms", 70'000},
       {"task", "t-2"},
       {"function", "resize"}}};
  return made;
}

std::string text_of(const std::vector<TopLine>& lines) {
  std::string text;
  for (const auto& line : lines) text += line.text + "\n";
  return text;
}

/// The pids of the workers from the top.
std::string order(const TopOptions& options) {
  std::string pids;
  for (const auto& line : top_lines(sample(), nullptr, options))
    for (const auto* const pid : {"101", "102", "103"})
      if (line.text.find(pid) != std::string::npos) pids += pid[2];
  return pids;
}

BOOST_AUTO_TEST_SUITE(top)

BOOST_AUTO_TEST_CASE(one_sample_has_no_rates) {
  const auto text = text_of(top_lines(sample(), nullptr, {}));
  BOOST_TEST(text.starts_with("taskpoold 1.2 pid 77 running, up 1m01s, 3 sessions, 1.0 MB\ntasks: -/s done, "));
  BOOST_TEST(text.find("POOL     WORKERS  BUSY  QUEUED  OLDEST  TASKS/S  FAILED/S  RESTARTS  STATE\n"
                       "default        2     1       5    1.2s        -         -         4  ok\n") != text.npos);
  BOOST_TEST(text.find("render\n") != text.npos);
}

BOOST_AUTO_TEST_CASE(two_samples_have_rates) {
  const auto before = sample(100, 10s);
  const auto text = text_of(top_lines(sample(600, 12s), &before, {}));
  BOOST_TEST(text.find("tasks: 250/s done") != text.npos);
  BOOST_TEST(text.find("1.2s      250         0         4  ok") != text.npos);
}

BOOST_AUTO_TEST_CASE(a_daemon_that_was_started_anew_has_no_rate_for_once) {
  const auto before = sample(600, 10s);
  BOOST_TEST(text_of(top_lines(sample(100, 12s), &before, {})).find("tasks: -/s done") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(workers_in_each_order) {
  BOOST_TEST(order({.sort = TopSort::run}) == "321");
  BOOST_TEST(order({.sort = TopSort::done}) == "132");
  BOOST_TEST(order({.sort = TopSort::memory}) == "312");
  BOOST_TEST(order({.sort = TopSort::pool}) == "123");
  BOOST_TEST(order({.sort = TopSort::worker}) == "123");
  BOOST_TEST(order({.sort = TopSort::worker, .reversed = true}) == "321");
  BOOST_TEST(order({.sort = TopSort::run, .reversed = true}) == "123");
}

BOOST_AUTO_TEST_CASE(names_and_keys_of_orders) {
  for (const auto& name : top_sort_names()) BOOST_TEST((find_top_sort(name) == top_sort_of_key(name[0])));
  BOOST_TEST(!find_top_sort("colour"));
  BOOST_TEST(!top_sort_of_key('x'));
}

BOOST_AUTO_TEST_CASE(nothing_is_wider_or_longer_than_the_screen) {
  auto wide = sample();
  for (int number = 0; number < 50; ++number) {
    const auto name = "a-very-long-name-of-a-pool-\xc3\xa9-" + std::to_string(number);
    wide.pools.push_back({{"pool", name}, {"up", false}, {"last_error", std::string(300, 'e')}});
    wide.workers.push_back({{"worker", 100 + number},
                            {"pid", 4'000'000 + number},
                            {"pool", name},
                            {"state", "busy"},
                            {"run_ms", number},
                            {"task", "0123456789abcdef-0123"},
                            {"function", std::string(100, 'f')},
                            {"tasks_done", 123'456'789}});
  }
  for (const auto& [columns, rows] : {std::pair{80u, 23u}, {40u, 10u}, {200u, 60u}, {20u, 3u}, {1u, 1u}}) {
    const auto lines = top_lines(wide, nullptr, {.columns = columns, .rows = rows});
    BOOST_TEST(lines.size() <= rows);
    for (const auto& line : lines) BOOST_TEST(display_width(line.text) <= columns, line.text);
  }
  const auto text = text_of(top_lines(wide, nullptr, {.columns = 80, .rows = 23}));
  BOOST_TEST(text.find("more pools)") != text.npos);
  BOOST_TEST(text.find("more workers)") != text.npos);
  BOOST_TEST(text.find("a-very-") != text.npos);
  BOOST_TEST(text.find("+") != text.npos);
}

BOOST_AUTO_TEST_CASE(a_few_workers_and_pools_are_all_shown) {
  const auto lines = top_lines(sample(), nullptr, {.columns = 80, .rows = 23});
  BOOST_TEST(lines.size() == 4u + 2u + 1u + 4u);
  BOOST_TEST(text_of(lines).find("more") == std::string::npos);
}

BOOST_AUTO_TEST_CASE(no_name_can_drive_the_terminal) {
  auto evil = sample();
  evil.workers[0]["function"] = "\x1b[2Jboo";
  evil.pools[0]["pool"] = "\r\n";
  const auto text = text_of(top_lines(evil, nullptr, {}));
  BOOST_TEST(text.find('\x1b') == text.npos);
  BOOST_TEST(text.find('\r') == text.npos);
  BOOST_TEST(text.find("\\x1b[2Jboo") != text.npos);
}

BOOST_AUTO_TEST_CASE(pools_that_do_not_run_say_why) {
  auto broken = sample();
  broken.pools[0]["up"] = false;
  broken.pools[0]["last_error"] = "no such module";
  BOOST_TEST(text_of(top_lines(broken, nullptr, {})).find("failing: no such module") != std::string::npos);
  broken.pools[0] = {{"pool", "p"}, {"paused", true}};
  BOOST_TEST(text_of(top_lines(broken, nullptr, {})).find("paused") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(cutting_counts_characters) {
  BOOST_TEST(cut("abc", 3) == "abc");
  BOOST_TEST(cut("abcd", 3) == "ab+");
  BOOST_TEST(cut("\xc3\xa9\xc3\xa9\xc3\xa9", 2) == "\xc3\xa9+");
  BOOST_TEST(cut("abc", 1) == "+");
  BOOST_TEST(cut("abc", 0) == "");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool::cli
