#include "daemon/os/process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>

#include <array>
#include <boost/test/unit_test.hpp>
#include <csignal>
#include <fstream>
#include <string>

#include "daemon/os/fd_passing.hpp"

namespace taskpool::os {
namespace {

/// Runs a shell script with one end of a socket pair as descriptor 3, and returns what it wrote there.
std::string output_of(const std::string& script, SpawnOptions options = {}) {
  auto [ours, theirs] = socket_pair().value();
  options.argv = {"sh", "-c", script};
  options.descriptors.emplace_back(theirs.get(), 3);
  const auto child = spawn(options).value();
  theirs.reset();
  std::string text;
  std::array<std::byte, 4096> into{};
  std::vector<UniqueFd> fds;
  for (;;) {
    const auto received = receive_blocking(ours.get(), into, fds).value();
    if (received.closed) break;
    text.append(reinterpret_cast<const char*>(into.data()), received.bytes);
  }
  BOOST_TEST(reap(child.pidfd).code == 0);
  return text;
}

BOOST_AUTO_TEST_SUITE(process)

BOOST_AUTO_TEST_CASE(a_child_has_the_descriptors_named_and_no_others) {
  const UniqueFd leak{::fcntl(0, F_DUPFD, 50)};
  BOOST_TEST(output_of("[ -e /proc/$$/fd/" + std::to_string(leak.get()) + " ] || echo closed >&3") == "closed\n");
  BOOST_TEST(output_of("readlink /proc/$$/fd/0 >&3") == "/dev/null\n");
}

BOOST_AUTO_TEST_CASE(descriptors_can_trade_places) {
  auto [a, b] = socket_pair().value();
  const UniqueFd left{::fcntl(a.get(), F_DUPFD_CLOEXEC, 20)};
  const UniqueFd right{::fcntl(b.get(), F_DUPFD_CLOEXEC, 20)};
  SpawnOptions options;
  options.descriptors = {{left.get(), right.get()}, {right.get(), left.get()}};
  std::array<char, 64> link{};
  const auto size = ::readlink(("/proc/self/fd/" + std::to_string(right.get())).c_str(), link.data(), link.size());
  const std::string right_here{link.data(), static_cast<std::size_t>(size)};
  BOOST_TEST(output_of("readlink /proc/$$/fd/" + std::to_string(left.get()) + " >&3", options) == right_here + "\n");
}

BOOST_AUTO_TEST_CASE(environment_is_added_and_replaced_and_the_directory_set) {
  ::setenv("TASKPOOL_TEST_A", "old", 1);
  ::setenv("TASKPOOL_TEST_B", "kept", 1);
  SpawnOptions options;
  options.environment = {{"TASKPOOL_TEST_A", "new"}, {"TASKPOOL_TEST_C", "added"}};
  options.cwd = "/usr";
  BOOST_TEST(output_of("echo $TASKPOOL_TEST_A $TASKPOOL_TEST_B $TASKPOOL_TEST_C $(pwd) >&3", options) ==
             "new kept added /usr\n");
}

BOOST_AUTO_TEST_CASE(a_child_starts_with_default_signals_in_a_group_of_its_own) {
  std::signal(SIGPIPE, SIG_IGN);
  sigset_t blocked;
  sigset_t before;
  ::sigemptyset(&blocked);
  ::sigaddset(&blocked, SIGTERM);
  ::pthread_sigmask(SIG_BLOCK, &blocked, &before);
  const auto ignored_here = spawn({.argv = {"sh", "-c", "kill -PIPE $$; exit 3"}}).value();
  const auto blocked_here = spawn({.argv = {"sh", "-c", "kill -TERM $$; exit 3"}}).value();
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  BOOST_TEST(reap(ignored_here.pidfd).signal == SIGPIPE);
  BOOST_TEST(reap(blocked_here.pidfd).signal == SIGTERM);
  BOOST_TEST(output_of("[ $(cut -d' ' -f5 /proc/$$/stat) = $$ ] && echo own >&3") == "own\n");
}

BOOST_AUTO_TEST_CASE(a_program_that_does_not_exist_is_an_error_that_names_it) {
  const auto child = spawn({.argv = {"/nonexistent/program"}});
  BOOST_REQUIRE(!child);
  BOOST_TEST(child.error().code.value() == ENOENT);
  BOOST_TEST(child.error().detail.find("/nonexistent/program") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(exit_codes_signals_and_use_are_reported) {
  const auto ended = spawn({.argv = {"sh", "-c", "exit 7"}}).value();
  auto exit = reap(ended.pidfd);
  BOOST_TEST(exit.code == 7);
  BOOST_TEST(exit.signal == 0);
  BOOST_TEST(exit.max_rss_bytes > 100'000u);
  BOOST_TEST(describe(exit) == "exit code 7");
  BOOST_TEST(reap(ended.pidfd).code == -1);

  const auto killed = spawn({.argv = {"sleep", "600"}}).value();
  BOOST_TEST(!try_reap(killed.pidfd));
  BOOST_TEST(signal(killed.pidfd, SIGKILL).has_value());
  pollfd readable{killed.pidfd.get(), POLLIN, 0};
  BOOST_TEST(::poll(&readable, 1, 30'000) == 1);
  exit = try_reap(killed.pidfd).value();
  BOOST_TEST(exit.signal == SIGKILL);
  BOOST_TEST(describe(exit) == "signal 9 (Killed)");
  BOOST_TEST(signal(killed.pidfd, SIGKILL).error().code.value() == ESRCH);
}

BOOST_AUTO_TEST_CASE(orphans_are_reaped_and_our_own_children_are_not) {
  BOOST_TEST(set_subreaper().has_value());
  // The shell ends at once; its child, which outlives it, becomes ours and ends when we close the pipe.
  auto [ours, theirs] = socket_pair().value();
  const auto shell =
      spawn({.argv = {"sh", "-c", "cat <&3 >/dev/null & echo $! >&3"}, .descriptors = {{theirs.get(), 3}}}).value();
  theirs.reset();
  std::array<std::byte, 32> into{};
  std::vector<UniqueFd> fds;
  const auto bytes = receive_blocking(ours.get(), into, fds)->bytes;
  const int orphan = std::stoi(std::string{reinterpret_cast<const char*>(into.data()), bytes});
  (void)reap(shell.pidfd);
  ours.reset();
  siginfo_t info{};
  BOOST_REQUIRE(::waitid(P_PID, static_cast<id_t>(orphan), &info, WEXITED | WNOWAIT) == 0);

  BOOST_TEST(reap_orphans([&](pid_t pid) { return pid == orphan; }) == 0u);
  BOOST_TEST(reap_orphans([](pid_t) { return false; }) == 1u);
  BOOST_TEST(reap_orphans([](pid_t) { return false; }) == 0u);
}

BOOST_AUTO_TEST_CASE(the_oom_score_can_be_raised) {
  std::string before;
  std::ifstream{"/proc/self/oom_score_adj"} >> before;
  BOOST_TEST(set_oom_score_adj(std::stoi(before)).has_value());
  BOOST_TEST(!set_oom_score_adj(5000));
}

BOOST_AUTO_TEST_CASE(programs_are_found_beside_ours_and_in_the_path) {
  BOOST_TEST(find_program("unit_os").value() == program_directory() + "/unit_os");
  BOOST_TEST(find_program("/bin/sh").value() == "/bin/sh");
  BOOST_TEST(find_program("sh").value().ends_with("/sh"));
  BOOST_TEST(!find_program("no-such-program-anywhere"));
  BOOST_TEST(!find_program("/no/such/program"));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool::os
