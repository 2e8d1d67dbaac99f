#include "daemon/runtime/command_process.hpp"

#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace {

using namespace taskpool;
using namespace taskpool::runtime;
using namespace std::chrono_literals;

constexpr auto kPatience = 20s;

struct Commands {
  CommandGuard guard = CommandGuard::start().value();
  CommandControl control;

  Result<CommandOutcome> run(CommandSpec spec) { return run_command(spec, guard, control); }
  CommandOutcome shell(const std::string& script, CommandSpec spec = {}) {
    spec.argv = {"sh", "-c", script};
    return run(spec).value();
  }
};

struct Folder {
  std::string path;
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "taskpool-command-XXXXXX").string();
    BOOST_REQUIRE(::mkdtemp(name.data()) != nullptr);
    path = name;
  }
  ~Folder() { std::filesystem::remove_all(path); }
};

/// Makes orphaned descendants our children, so that their end can be waited for.
struct Subreaper {
  Subreaper() { ::prctl(PR_SET_CHILD_SUBREAPER, 1); }
  ~Subreaper() { ::prctl(PR_SET_CHILD_SUBREAPER, 0); }
};

std::string contents(const std::string& path) {
  std::ifstream in{path, std::ios::binary};
  return {std::istreambuf_iterator<char>{in}, {}};
}

/// Numbers on the first line of a file, once the line is complete.
std::vector<pid_t> wait_for_pids(const std::string& path) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (std::chrono::steady_clock::now() < deadline) {
    const auto text = contents(path);
    if (text.find('\n') == std::string::npos) {
      ::usleep(1000);
      continue;
    }
    std::istringstream words{text};
    std::vector<pid_t> pids;
    for (pid_t pid = 0; words >> pid;) pids.push_back(pid);
    return pids;
  }
  BOOST_FAIL(path + " stayed empty");
  return {};
}

std::size_t open_descriptors() {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator{"/proc/self/fd"}) ++count;
  return count;
}

BOOST_FIXTURE_TEST_SUITE(command_process, Commands)

BOOST_AUTO_TEST_CASE(a_command_returns_its_output_status_and_use) {
  const auto before = open_descriptors();
  const auto outcome = shell("echo out; echo err >&2; exit 3");
  BOOST_TEST(outcome.exit_code == 3);
  BOOST_TEST(outcome.signal == 0);
  BOOST_TEST(outcome.out.head() == "out\n");
  BOOST_TEST(outcome.err.head() == "err\n");
  BOOST_TEST(outcome.max_rss_bytes > 100'000u);
  BOOST_TEST(!outcome.stopped);
  BOOST_TEST(guard.page().group == 0);
  BOOST_TEST(open_descriptors() == before);
}

BOOST_AUTO_TEST_CASE(a_signal_that_ends_it_is_named) {
  const auto outcome = shell("kill -9 $$");
  BOOST_TEST(outcome.signal == SIGKILL);
  BOOST_TEST(outcome.exit_code == 128 + SIGKILL);
}

BOOST_AUTO_TEST_CASE(a_program_that_does_not_start_says_why_and_leaves_nothing) {
  const auto before = open_descriptors();
  const auto missing = run({.argv = {"no-such-program-here"}});
  BOOST_TEST(missing.error().code == boost::system::errc::no_such_file_or_directory);
  BOOST_TEST(missing.error().detail.find("no-such-program-here") != std::string::npos);
  BOOST_TEST(run({.argv = {"/etc/passwd"}}).error().code == boost::system::errc::permission_denied);
  const auto nowhere = run({.argv = {"true"}, .cwd = "/no/such/folder"});
  BOOST_TEST(nowhere.error().detail.find("cwd /no/such/folder") != std::string::npos);
  BOOST_TEST(open_descriptors() == before);
  BOOST_TEST(::waitpid(-1, nullptr, WNOHANG) == 0);  // there is a child, and it runs: the guard
  BOOST_TEST(shell("exit 0").exit_code == 0);
}

BOOST_AUTO_TEST_CASE(input_is_what_was_given_or_nothing) {
  BOOST_TEST(shell("cat").out.total() == 0u);
  const std::string big(300'000, 'x');
  BOOST_TEST(shell("cat", {.stdin_text = big}).out.head() == big);
  BOOST_TEST(shell("exit 4", {.stdin_text = big}).exit_code == 4);  // nobody reads it: no SIGPIPE, no wait
}

BOOST_AUTO_TEST_CASE(folder_and_environment_are_the_commands_own) {
  const Folder folder;
  const auto outcome =
      shell("pwd; echo $FIRST $SECOND", {.cwd = folder.path, .environment = {{"FIRST", "1"}, {"SECOND", "b c"}}});
  BOOST_TEST(outcome.out.head() == folder.path + "\n1 b c\n");
  std::ofstream{folder.path + "/hello"} << "#!/bin/sh\necho found\n";
  std::filesystem::permissions(folder.path + "/hello", std::filesystem::perms::owner_all);
  const auto own_path = run({.argv = {"hello"}, .environment = {{"PATH", "/nowhere:" + folder.path}}}).value();
  BOOST_TEST(own_path.out.head() == "found\n");
}

BOOST_AUTO_TEST_CASE(it_gets_no_descriptor_and_no_ignored_signal_of_ours) {
  const int leak = ::eventfd(0, 0);  // without close-on-exec
  const auto old = std::signal(SIGPIPE, SIG_IGN);
  const auto outcome = shell("ls /proc/self/fd | wc -l; grep SigIgn /proc/self/status");
  std::signal(SIGPIPE, old);
  ::close(leak);
  BOOST_TEST(outcome.out.head() == "4\nSigIgn:\t0000000000000000\n");  // 0 to 2, and the directory that ls reads
}

BOOST_AUTO_TEST_CASE(long_output_is_counted_and_cut) {
  CommandSpec spec;
  spec.max_output_bytes = 1000;
  const auto outcome = shell("head -c 3000000 /dev/zero; head -c 2000000 /dev/zero >&2", spec);
  BOOST_TEST(outcome.out.total() == 3'000'000u);
  BOOST_TEST(outcome.err.total() == 2'000'000u);
  BOOST_TEST(outcome.out.truncated());
  BOOST_TEST(outcome.out.head().size() + outcome.out.tail().size() == 1000u);
}

BOOST_AUTO_TEST_CASE(stopping_reaches_the_whole_group_even_those_that_ignore_it) {
  const Subreaper subreaper;
  control.interrupt_fd = ::eventfd(1, EFD_CLOEXEC);  // asked from the beginning
  control.stop_grace = 300ms;
  const auto begun = std::chrono::steady_clock::now();
  const auto outcome = shell("trap '' TERM; sleep 30 & sleep 30; sleep 30");
  ::close(control.interrupt_fd);
  BOOST_TEST(outcome.stopped);
  BOOST_TEST(outcome.signal != 0);
  BOOST_TEST((std::chrono::steady_clock::now() - begun < kPatience));
  while (::waitpid(-outcome.pid, nullptr, 0) > 0) {
  }
  BOOST_TEST(::kill(-outcome.pid, 0) == -1);  // nobody is left in the group
}

BOOST_AUTO_TEST_CASE(what_it_leaves_in_the_background_is_not_waited_for) {
  const auto begun = std::chrono::steady_clock::now();
  const auto outcome = shell("sleep 30 & echo $!");
  BOOST_TEST((std::chrono::steady_clock::now() - begun < kPatience));
  BOOST_TEST(outcome.exit_code == 0);
  BOOST_TEST(::kill(std::stoi(outcome.out.head()), SIGKILL) == 0);  // it was running
}

BOOST_AUTO_TEST_CASE(kept_output_is_appended_as_it_arrives_and_a_full_disk_costs_only_that) {
  const Folder folder;
  control.out_path = folder.path + "/1-0.out";
  control.err_path = "/dev/full";
  const auto outcome = shell("echo out; echo err >&2");
  BOOST_TEST(contents(control.out_path) == "out\n");
  BOOST_TEST(outcome.err.head() == "err\n");
  BOOST_TEST(outcome.output_error.find("/dev/full: No space left") != std::string::npos);
  BOOST_TEST(outcome.exit_code == 0);
}

BOOST_AUTO_TEST_CASE(killing_the_worker_kills_everything_that_its_command_started) {
  const Folder folder;
  const auto path = folder.path + "/pids";
  const Subreaper subreaper;
  const pid_t worker = ::fork();
  if (worker == 0) {
    auto own = CommandGuard::start().value();
    CommandControl kept;
    kept.out_path = path;
    (void)run_command({.argv = {"sh", "-c", "sleep 30 & echo $$ $!; sleep 30"}}, own, kept);
    ::_exit(0);
  }
  const auto pids = wait_for_pids(path);
  ::kill(worker, SIGKILL);
  ::waitpid(worker, nullptr, 0);
  BOOST_TEST(pids.size() == 2u);
  for (const pid_t pid : pids) {
    ::waitpid(pid, nullptr, 0);  // it has become our child, unless the shell reaped it while dying
    BOOST_TEST(::kill(pid, 0) == -1);
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
