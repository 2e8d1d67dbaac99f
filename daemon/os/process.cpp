#include "daemon/os/process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <cassert>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>

extern "C" {  // until glibc 2.37, which declares it so itself
#include <sys/pidfd.h>
}

namespace taskpool::os {
namespace {

/// posix_spawn's two parameter objects, freed together.
class SpawnPlan {
 public:
  SpawnPlan() {
    ::posix_spawn_file_actions_init(&actions_);
    ::posix_spawnattr_init(&attributes_);
  }
  SpawnPlan(const SpawnPlan&) = delete;
  SpawnPlan& operator=(const SpawnPlan&) = delete;
  ~SpawnPlan() {
    ::posix_spawn_file_actions_destroy(&actions_);
    ::posix_spawnattr_destroy(&attributes_);
  }
  posix_spawn_file_actions_t* actions() { return &actions_; }
  posix_spawnattr_t* attributes() { return &attributes_; }

 private:
  posix_spawn_file_actions_t actions_;
  posix_spawnattr_t attributes_;
};

/// Our environment with `additions`, as "NAME=VALUE" texts.
std::vector<std::string> merged_environment(const std::map<std::string, std::string>& additions) {
  std::vector<std::string> merged;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text{*entry};
    if (!additions.contains(std::string{text.substr(0, text.find('='))})) merged.emplace_back(text);
  }
  for (const auto& [name, value] : additions) merged.push_back(name + "=" + value);
  return merged;
}

std::vector<char*> as_pointers(const std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  pointers.reserve(texts.size() + 1);
  for (const auto& text : texts) pointers.push_back(const_cast<char*>(text.c_str()));  // exec(3) only reads it
  pointers.push_back(nullptr);
  return pointers;
}

std::chrono::microseconds to_microseconds(const timeval& time) {
  return std::chrono::seconds{time.tv_sec} + std::chrono::microseconds{time.tv_usec};
}

/// waitid on a pidfd. glibc's wrapper hides the fifth parameter.
std::optional<Exit> wait_on(const UniqueFd& pidfd, int options) {
  siginfo_t info{};
  rusage usage{};
  long outcome = 0;
  do {
    outcome = ::syscall(SYS_waitid, P_PIDFD, pidfd.get(), &info, WEXITED | options, &usage);
  } while (outcome != 0 && errno == EINTR);
  if (outcome != 0) return Exit{.code = -1};
  if (info.si_pid == 0) return std::nullopt;
  Exit exit;
  (info.si_code == CLD_EXITED ? exit.code : exit.signal) = info.si_status;
  exit.user = to_microseconds(usage.ru_utime);
  exit.system = to_microseconds(usage.ru_stime);
  exit.max_rss_bytes = static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
  return exit;
}

}  // namespace

Result<Child> spawn(const SpawnOptions& options) {
  assert(!options.argv.empty());
  SpawnPlan plan;
  int highest = 2;
  for (const auto& [ours, number] : options.descriptors) highest = std::max(highest, number);

  // Each is copied above all target numbers first, so that placing one never overwrites another.
  std::vector<UniqueFd> copies;
  if (::posix_spawn_file_actions_addopen(plan.actions(), 0, "/dev/null", O_RDONLY, 0) != 0)
    return errno_error("posix_spawn", ENOMEM);
  for (const auto& [ours, number] : options.descriptors) {
    copies.emplace_back(::fcntl(ours, F_DUPFD_CLOEXEC, highest + 1));
    if (!copies.back()) return errno_error("descriptor for " + options.argv.front());
    if (::posix_spawn_file_actions_adddup2(plan.actions(), copies.back().get(), number) != 0)
      return errno_error("posix_spawn", ENOMEM);
  }
  // Ours are close-on-exec; whoever started us may have left others.
  if (::posix_spawn_file_actions_addclosefrom_np(plan.actions(), highest + 1) != 0)
    return errno_error("posix_spawn", ENOMEM);
  if (!options.cwd.empty() && ::posix_spawn_file_actions_addchdir_np(plan.actions(), options.cwd.c_str()) != 0)
    return errno_error("posix_spawn", ENOMEM);

  sigset_t none;
  sigset_t all;
  ::sigemptyset(&none);
  ::sigfillset(&all);
  ::posix_spawnattr_setsigmask(plan.attributes(), &none);
  ::posix_spawnattr_setsigdefault(plan.attributes(), &all);
  ::posix_spawnattr_setpgroup(plan.attributes(), 0);
  ::posix_spawnattr_setflags(plan.attributes(), POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);

  const auto environment = merged_environment(options.environment);
  pid_t pid = 0;
  const int failure = ::posix_spawnp(&pid, options.argv.front().c_str(), plan.actions(), plan.attributes(),
                                     as_pointers(options.argv).data(), as_pointers(environment).data());
  if (failure != 0) return errno_error(options.argv.front(), failure);

  UniqueFd pidfd{::pidfd_open(pid, 0)};  // not reaped yet, so pid still means our child
  if (pidfd) return Child{std::move(pidfd), pid};
  auto error = errno_error("pidfd_open");
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
  return error;
}

Result<void> signal(const UniqueFd& pidfd, int signo) {
  if (::pidfd_send_signal(pidfd.get(), signo, nullptr, 0) != 0) return errno_error("pidfd_send_signal");
  return {};
}

void kill_group(const UniqueFd& pidfd, pid_t leader) {
  if (!signal(pidfd, 0)) return;
  // If it ends and is reaped right here, the number still means its group or nothing: numbers come round, but not so
  // soon.
  ::kill(-leader, SIGKILL);
  (void)signal(pidfd, SIGKILL);  // it leads no group yet
}

bool has_ended(int pidfd) {
  pollfd asked{pidfd, POLLIN, 0};
  return ::poll(&asked, 1, 0) > 0;
}

std::string describe(const Exit& exit) {
  if (exit.signal != 0) return "signal " + std::to_string(exit.signal) + " (" + ::strsignal(exit.signal) + ")";
  if (exit.code < 0) return "unknown exit";
  return "exit code " + std::to_string(exit.code);
}

std::optional<Exit> try_reap(const UniqueFd& pidfd) { return wait_on(pidfd, WNOHANG); }

Exit reap(const UniqueFd& pidfd) { return wait_on(pidfd, 0).value_or(Exit{.code = -1}); }

std::size_t reap_orphans(const std::function<bool(pid_t)>& ours) {
  for (std::size_t reaped = 0;; ++reaped) {
    siginfo_t info{};
    if (::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0 || ours(info.si_pid))
      return reaped;
    if (::waitid(P_PID, static_cast<id_t>(info.si_pid), &info, WEXITED | WNOHANG) != 0) return reaped;
  }
}

Result<void> set_subreaper() {
  if (::prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) return errno_error("PR_SET_CHILD_SUBREAPER");
  return {};
}

Result<void> set_oom_score_adj(int score) {
  // Not a std::ofstream: each new worker comes through here, and streams would touch 20 pages more of it.
  const UniqueFd file{::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC)};
  const auto text = std::to_string(score);
  if (!file || ::write(file.get(), text.data(), text.size()) < 0)
    return errno_error("/proc/self/oom_score_adj: " + text);
  return {};
}

std::string program_directory() {
  std::error_code failed;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", failed);
  return failed ? std::string{} : program.parent_path().string();
}

std::optional<std::string> find_program(std::string_view name) {
  const auto runs = [](const std::string& path) { return ::access(path.c_str(), X_OK) == 0; };
  const std::string text{name};
  if (name.find('/') != std::string_view::npos) return runs(text) ? std::optional{text} : std::nullopt;
  if (auto beside = program_directory() + "/" + text; runs(beside)) return beside;
  const char* const path = std::getenv("PATH");
  std::string_view rest = path != nullptr ? path : "/usr/local/bin:/usr/bin:/bin";
  while (!rest.empty()) {
    const auto end = std::min(rest.find(':'), rest.size());
    if (auto found = std::string{rest.substr(0, end)} + "/" + text; end > 0 && runs(found)) return found;
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return std::nullopt;
}

}  // namespace taskpool::os
