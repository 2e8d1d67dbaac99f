#include "daemon/os/usage.hpp"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <ctime>

#include "daemon/os/process_limits.hpp"
#include "daemon/os/text_file.hpp"

namespace taskpool::os {
namespace {

using namespace std::chrono_literals;

void burn(std::chrono::milliseconds time) {
  const auto used = [] { return std::chrono::microseconds{std::clock() * 1'000'000 / CLOCKS_PER_SEC}; };
  const auto end = used() + time;
  while (used() < end) {
  }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(usage)

BOOST_AUTO_TEST_CASE(fields_of_text_files) {
  constexpr std::string_view kText = "low 0\noom 7\noom_kill 3\noom_kill_more 4\n";
  BOOST_TEST(field_in(kText, "oom_kill").value() == 3u);
  BOOST_TEST(field_in(kText, "low").value() == 0u);
  BOOST_TEST(!field_in(kText, "kill"));
  BOOST_TEST(!field_in("oom_kill", "oom_kill"));
  BOOST_TEST(!field_in("oom_kill x\n", "oom_kill"));
  BOOST_TEST(number_in("12\n").value() == 12u);
  BOOST_TEST(!number_in("max\n"));
  BOOST_TEST(read_text("/nonexistent").empty());
}

BOOST_AUTO_TEST_CASE(memory_and_cpu_time_of_processes) {
  BOOST_TEST(resident_bytes(::getpid()) > 100'000u);
  BOOST_TEST(resident_bytes(-5) == 0u);
  // A child that has ended counts once it was waited for, one that runs at once.
  const auto before = cpu_time_of_tree(::getpid());
  const pid_t ended = ::fork();
  if (ended == 0) {
    burn(100ms);
    ::_exit(0);
  }
  ::waitpid(ended, nullptr, 0);
  const auto between = cpu_time_of_tree(::getpid());
  BOOST_TEST((between - before >= 80ms));
  const pid_t running = ::fork();
  if (running == 0)
    for (;;) burn(100ms);
  while (cpu_time_of_tree(::getpid()) - between < 80ms) {
  }
  ::kill(running, SIGKILL);
  ::waitpid(running, nullptr, 0);
}

BOOST_AUTO_TEST_CASE(a_process_sets_its_limits_for_good) {
  const pid_t child = ::fork();
  if (child == 0) {
    const auto niceness = ::getpriority(PRIO_PROCESS, 0);
    if (!apply({.open_files = 77, .nice = 1})) ::_exit(1);
    rlimit both{};
    ::getrlimit(RLIMIT_NOFILE, &both);
    if (both.rlim_cur != 77 || both.rlim_max != 77) ::_exit(2);
    if (::getpriority(PRIO_PROCESS, 0) != niceness + 1) ::_exit(3);
    const auto refused = apply({.cgroup = "/nonexistent"});
    if (refused || refused.error().detail.find("/nonexistent") == std::string::npos) ::_exit(4);
    ::_exit(most_open_files() == 77 ? 0 : 5);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  BOOST_TEST(WEXITSTATUS(status) == 0);
}

BOOST_AUTO_TEST_CASE(a_process_is_stopped_until_it_is_continued) {
  const pid_t child = ::fork();
  if (child == 0)
    for (;;) ::pause();
  BOOST_TEST(!is_stopped(child));
  ::kill(child, SIGSTOP);
  ::waitpid(child, nullptr, WUNTRACED);
  BOOST_TEST(is_stopped(child));
  ::kill(child, SIGCONT);
  ::waitpid(child, nullptr, WCONTINUED);
  BOOST_TEST(!is_stopped(child));
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  BOOST_TEST(!is_stopped(child));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace taskpool::os
