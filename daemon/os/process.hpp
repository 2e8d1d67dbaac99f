#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/os/unique_fd.hpp"
#include "proto/result.hpp"

namespace taskpool::os {

/// A child that has not been reaped. The pidfd becomes readable when it exits.
struct Child {
  UniqueFd pidfd;
  pid_t pid = 0;
};

struct SpawnOptions {
  std::vector<std::string> argv;                   ///< argv[0] is the program: a path, or a name looked up in PATH.
  std::map<std::string, std::string> environment;  ///< Added to ours, and replacing it.
  std::string cwd;                                 ///< Empty: ours.
  std::vector<std::pair<int, int>> descriptors;    ///< Ours, and the number that it has in the child.
};

/// Starts a program in a process group of its own, so that a Ctrl-C at a terminal reaches only us. Its signals are
/// unblocked and have their default actions; it has no other descriptors than those named, /dev/null as input, and our
/// output and error unless named. It does not die with us by itself: a runtime asks for that (PR_SET_PDEATHSIG).
/// Error: the operating system's, that of exec included; detail names the program.
Result<Child> spawn(const SpawnOptions& options);

/// Sends a signal; `ESRCH` if the child has exited and was reaped.
Result<void> signal(const UniqueFd& pidfd, int signo);
/// Kills a process that leads a group of its own, or is about to, and all of the group. No effect if it was reaped.
void kill_group(const UniqueFd& pidfd, pid_t leader);

/// Whether the process has ended. An event loop may say "readable" of a pidfd without cause: Asio hands a wake-up that
/// was on its way for a closed descriptor to the next one that takes its place.
bool has_ended(int pidfd);

/// How a child ended and what it used.
struct Exit {
  int code = 0;    ///< Exit code if `signal` is 0; -1 if unknown, because somebody else reaped it.
  int signal = 0;  ///< The signal that killed it.
  std::chrono::microseconds user{0};
  std::chrono::microseconds system{0};
  std::uint64_t max_rss_bytes = 0;
};
/// "exit code 3", "signal 9 (Killed)".
std::string describe(const Exit& exit);

/// Reaps one of our children if it has exited; does not wait.
std::optional<Exit> try_reap(const UniqueFd& pidfd);
/// Waits until the child exits, and reaps it.
Exit reap(const UniqueFd& pidfd);

/// Reaps exited children for which `ours` says no: orphans that a subreaper or PID 1 inherits. Stops at one of ours, as
/// the kernel shows one exited child at a time: call it at SIGCHLD and after each reaped child of our own. Returns how
/// many it reaped.
std::size_t reap_orphans(const std::function<bool(pid_t)>& ours);

/// Makes orphaned descendants our children (PR_SET_CHILD_SUBREAPER).
Result<void> set_subreaper();

/// -1000..1000; higher is killed first. Going down needs CAP_SYS_RESOURCE.
Result<void> set_oom_score_adj(int score);

/// The directory of the program that runs, "/usr/bin"; empty if /proc is not there.
std::string program_directory();
/// The path of a program: itself if it has a slash, else in program_directory(), else in PATH.
std::optional<std::string> find_program(std::string_view name);

}  // namespace taskpool::os
