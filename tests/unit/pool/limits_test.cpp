#include "daemon/pool/limits.hpp"

#include <boost/test/unit_test.hpp>

namespace taskpool::pool {
namespace {

using namespace std::chrono_literals;

PoolConfig limited() {
  PoolConfig pool;
  pool.max_task_memory = 1u << 30;
  pool.max_task_processes = 50;
  pool.max_task_files = 100;
  pool.cpu_timeout = 2s;
  pool.nice = 5;
  return pool;
}

Means all_means() {
  return {.cgroups = true, .cgroup_memory = true, .cgroup_pids = true, .why_no_cgroups = {}, .open_files = 1000};
}

const Limit* find(const LimitPlan& plan, std::string_view key) {
  for (const auto& limit : plan.limits)
    if (limit.key == key) return &limit;
  return nullptr;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(limits)

BOOST_AUTO_TEST_CASE(a_pool_without_limits_gets_nothing) {
  const auto plan = plan_limits(PoolConfig{}, all_means());
  BOOST_TEST(plan.limits.empty());
  BOOST_TEST(!plan.own_cgroup);
  BOOST_TEST(plan.process.open_files == 0u);
}

BOOST_AUTO_TEST_CASE(a_cgroup_bounds_memory_and_processes_where_it_can) {
  const auto plan = plan_limits(limited(), all_means());
  BOOST_TEST(plan.own_cgroup);
  BOOST_TEST(plan.cgroup.memory_bytes == 1u << 30);
  BOOST_TEST(plan.cgroup.processes == 50u);
  BOOST_TEST(plan.process.data_bytes == 0u);
  BOOST_TEST(plan.process.processes == 0u);
  BOOST_TEST(plan.process.open_files == 100u);
  BOOST_TEST(plan.process.nice == 5);
  BOOST_TEST(plan.limits.size() == 5u);
  for (const auto& limit : plan.limits) BOOST_TEST(limit.note.empty(), limit.key);
}

BOOST_AUTO_TEST_CASE(without_one_the_process_does_and_the_plan_says_how_that_differs) {
  const Means means{.why_no_cgroups = "no tree", .open_files = 1000};
  const auto plan = plan_limits(limited(), means);
  BOOST_TEST(!plan.own_cgroup);
  BOOST_TEST(plan.process.data_bytes == 1u << 30);
  BOOST_TEST(plan.process.processes == 50u);
  for (const auto* const key : {"max_task_memory", "max_task_processes"}) {
    BOOST_TEST((find(plan, key)->by == Enforcer::rlimit));
    BOOST_TEST(find(plan, key)->note.find("no tree") != std::string::npos);
  }
}

BOOST_AUTO_TEST_CASE(each_controller_counts_by_itself) {
  auto means = all_means();
  means.cgroup_pids = false;
  const auto plan = plan_limits(limited(), means);
  BOOST_TEST(plan.cgroup.memory_bytes == 1u << 30);
  BOOST_TEST(plan.cgroup.processes == 0u);
  BOOST_TEST(plan.process.processes == 50u);
}

BOOST_AUTO_TEST_CASE(root_is_not_held_to_a_number_of_processes) {
  const Means means{.why_no_cgroups = "no tree", .process_limit = false, .open_files = 1000};
  const auto plan = plan_limits(limited(), means);
  BOOST_TEST((find(plan, "max_task_processes")->by == Enforcer::nobody));
  BOOST_TEST(plan.process.processes == 0u);
}

BOOST_AUTO_TEST_CASE(more_open_files_than_the_daemon_may_have_are_cut) {
  auto means = all_means();
  means.open_files = 64;
  const auto plan = plan_limits(limited(), means);
  BOOST_TEST(plan.process.open_files == 64u);
  BOOST_TEST(find(plan, "max_task_files")->note.find("64") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(cpu_time_alone_is_worth_a_cgroup) {
  PoolConfig pool;
  pool.cpu_timeout = 1s;
  BOOST_TEST(plan_limits(pool, all_means()).own_cgroup);
  BOOST_TEST((find(plan_limits(pool, all_means()), "cpu_timeout_ms")->by == Enforcer::supervisor));
  pool = {};
  pool.nice = 1;
  BOOST_TEST(!plan_limits(pool, all_means()).own_cgroup);
}

BOOST_AUTO_TEST_CASE(a_sessions_pool_has_no_weaker_limits_than_the_bound) {
  PoolConfig opened;
  bound_limits(opened, limited());
  BOOST_TEST(opened.max_task_memory == 1u << 30);
  BOOST_TEST(opened.max_task_processes == 50u);
  BOOST_TEST(opened.max_task_files == 100u);
  BOOST_TEST((opened.cpu_timeout == 2s));
  BOOST_TEST(opened.nice == 5u);
  opened.max_task_memory = 5;
  opened.max_task_files = 101;
  opened.nice = 6;
  bound_limits(opened, limited());
  BOOST_TEST(opened.max_task_memory == 5u);
  BOOST_TEST(opened.max_task_files == 100u);
  BOOST_TEST(opened.nice == 6u);
  bound_limits(opened, PoolConfig{});
  BOOST_TEST(opened.max_task_memory == 5u);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace taskpool::pool
