#include "daemon/pool/death.hpp"

#include <boost/test/unit_test.hpp>
#include <csignal>

namespace taskpool::pool {
namespace {

Death death_by(int signal, std::optional<os::CgroupUse> group = std::nullopt) {
  Death death{.worker = 3, .pid = 41, .exited = Exited{}, .group = group};
  death.exited->signal = signal;
  death.exited->max_rss_bytes = 900;
  return death;
}

Call call_with(std::uint32_t lost, std::uint32_t oom) {
  Call call;
  call.lost_retries = lost;
  call.oom_retries = oom;
  return call;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(death)

BOOST_AUTO_TEST_CASE(killed_by_the_kernel_in_its_own_cgroup_is_out_of_memory) {
  auto death = death_by(SIGKILL, os::CgroupUse{.oom_kills = 2, .peak_bytes = 1000});
  death.max_task_memory = 1024;
  BOOST_TEST(cause_of(death) == Errc::out_of_memory);
  BOOST_TEST(describe(death) == "worker 3 (pid 41) was killed for memory: peak 1000 bytes, max_task_memory 1024 bytes");
}

BOOST_AUTO_TEST_CASE(also_if_the_zygote_does_not_say_how_it_ended) {
  auto death = death_by(SIGKILL, os::CgroupUse{.oom_kills = 1, .peak_bytes = 1000});
  death.exited.reset();
  BOOST_TEST(cause_of(death) == Errc::out_of_memory);
}

BOOST_AUTO_TEST_CASE(an_old_kernel_gives_no_peak_and_a_limit_above_may_have_done_it) {
  const auto death = death_by(SIGKILL, os::CgroupUse{.oom_kills = 1, .peak_bytes = 0});
  BOOST_TEST(describe(death) ==
             "worker 3 (pid 41) was killed for memory: peak 900 bytes; it has no max_task_memory of its own");
}

BOOST_AUTO_TEST_CASE(other_deaths_are_told_apart_from_it) {
  const os::CgroupUse quiet{.oom_kills = 0, .peak_bytes = 1000};
  const os::CgroupUse killed{.oom_kills = 1, .peak_bytes = 1000};
  BOOST_TEST(cause_of(death_by(SIGKILL)) == Errc::worker_lost);         // no cgroup: nobody can tell
  BOOST_TEST(cause_of(death_by(SIGKILL, quiet)) == Errc::worker_lost);  // somebody's kill -9
  BOOST_TEST(cause_of(death_by(SIGSEGV, killed)) ==
             Errc::worker_lost);  // a child of the task was killed, and then it crashed
  auto exited = death_by(0, killed);
  exited.exited->exit_code = 3;
  BOOST_TEST(cause_of(exited) == Errc::worker_lost);
  BOOST_TEST(describe(exited) == "worker 3 (pid 41) died: exit code 3");
  auto with_zygote = death_by(SIGKILL, killed);
  with_zygote.exited.reset();
  with_zygote.zygote_died = "signal 9 (Killed)";
  BOOST_TEST(cause_of(with_zygote) == Errc::worker_lost);
  BOOST_TEST(describe(with_zygote) == "worker 3 (pid 41) died with its zygote: signal 9 (Killed)");
}

BOOST_AUTO_TEST_CASE(what_the_kernel_killed_on_the_host_is_a_hint_and_no_more) {
  auto death = death_by(SIGKILL);
  death.host_oom_kills = 1;
  BOOST_TEST(cause_of(death) == Errc::worker_lost);
  BOOST_TEST(describe(death) ==
             "worker 3 (pid 41) died: signal 9 (Killed); while it lived the kernel killed 1 process of this "
             "host for want of memory");
  death.exited->signal = SIGSEGV;
  BOOST_TEST(describe(death) == "worker 3 (pid 41) died: signal 11 (Segmentation fault)");
}

BOOST_AUTO_TEST_CASE(a_task_that_ran_out_of_memory_has_repeats_of_its_own) {
  queue::Range task;
  BOOST_TEST(!runs_again(task, Errc::out_of_memory, false, call_with(5, 0)));
  task = {};
  for (int repeat = 0; repeat < 3; ++repeat) BOOST_TEST(runs_again(task, Errc::out_of_memory, false, call_with(0, 3)));
  BOOST_TEST(!runs_again(task, Errc::out_of_memory, false, call_with(0, 3)));
  BOOST_TEST((task.deaths == 0u));
  BOOST_TEST(task.runs() == 4u);
}

BOOST_AUTO_TEST_CASE(a_task_that_kills_workers_is_not_repeated_for_ever) {
  queue::Range task;
  BOOST_TEST(!runs_again(task, Errc::worker_lost, false, call_with(0, 9)));
  task = {};
  BOOST_TEST(runs_again(task, Errc::worker_lost, false, call_with(100, 0)));
  BOOST_TEST(!runs_again(task, Errc::worker_lost, false, call_with(100, 0)));  // two are enough
  task = {};
  for (int death = 0; death < 4; ++death) BOOST_TEST(runs_again(task, Errc::worker_lost, true, call_with(1, 0)));
  BOOST_TEST(!runs_again(task, Errc::worker_lost, true, call_with(1, 0)));  // it may be the task after all
  BOOST_TEST(task.runs() == 5u);
  BOOST_TEST(!runs_again(task, Errc::worker_lost, true, call_with(0, 0)));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace taskpool::pool
