#include "daemon/runtime/command_start.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace taskpool::runtime {
namespace {

/// Steps of the child that can fail, as GuardPage::start_step names them.
enum Step : int { kStepCwd = 1, kStepStdio = 2, kStepExec = 3 };

/// The child's stack until exec. Bytes; a quarter of it is used without optimisation.
constexpr std::size_t kChildStackBytes = 32 * 1024;

/// Where execvp(3) looks when there is no PATH.
constexpr std::string_view kDefaultPath = "/bin:/usr/bin";

/// Signals that a worker may handle or ignore. A handler is reset by exec anyway, but what is ignored stays ignored.
constexpr std::array kResetSignals{SIGHUP,  SIGINT,  SIGQUIT, SIGPIPE, SIGALRM, SIGTERM, SIGUSR1,
                                   SIGUSR2, SIGCHLD, SIGTSTP, SIGTTIN, SIGTTOU, SIGXFSZ};

/// The child shares our memory, and the sanitizers' bookkeeping in it, and leaves for ever when exec succeeds.
#define TASKPOOL_IN_CHILD [[gnu::no_sanitize_address, gnu::no_sanitize_thread, gnu::no_sanitize_undefined]]

/// Everything that exec needs, laid out beforehand: the child shares our memory and must not allocate.
class ExecImage {
 public:
  explicit ExecImage(const CommandSpec& spec) : argv_{pointers(spec.argv)}, cwd_{spec.cwd} {
    for (char** variable = environ; *variable != nullptr; ++variable) {
      const std::string_view text{*variable};
      if (!spec.environment.contains(std::string{text.substr(0, text.find('='))})) environment_.emplace_back(text);
    }
    for (const auto& [name, value] : spec.environment) environment_.push_back(name + "=" + value);
    envp_ = pointers(environment_);
    find_candidates(spec.argv.front());
  }

  const char* cwd() const { return cwd_.empty() ? nullptr : cwd_.c_str(); }

  /// Becomes the program, or returns the errno that says most about why not. Runs in the child.
  TASKPOOL_IN_CHILD int exec() const {
    int number = ENOENT;
    for (const auto& path : candidates_) {
      ::execve(path.c_str(), argv_.data(), envp_.data());
      if (errno != ENOENT && errno != ENOTDIR) number = errno;
      if (errno != ENOENT && errno != ENOTDIR && errno != EACCES) break;
    }
    return number;
  }

 private:
  static std::vector<char*> pointers(const std::vector<std::string>& words) {
    std::vector<char*> out;
    out.reserve(words.size() + 1);
    for (const auto& word : words) out.push_back(const_cast<char*>(word.c_str()));  // exec does not write
    out.push_back(nullptr);
    return out;
  }

  void find_candidates(const std::string& program) {
    if (program.find('/') != std::string::npos) {
      candidates_.push_back(program);
      return;
    }
    std::string_view path = kDefaultPath;
    for (const std::string_view variable : environment_)
      if (variable.starts_with("PATH=")) path = variable.substr(5);
    for (std::size_t begin = 0; begin <= path.size();) {
      const auto end = std::min(path.find(':', begin), path.size());
      const auto folder = path.substr(begin, end - begin);
      candidates_.push_back(folder.empty() ? "./" + program : std::string{folder} + "/" + program);
      begin = end + 1;
    }
  }

  std::vector<char*> argv_;
  std::vector<std::string> environment_;
  std::vector<char*> envp_;
  std::vector<std::string> candidates_;
  std::string cwd_;
};

struct Stdio {
  os::UniqueFd in;  ///< None: /dev/null.
  os::UniqueFd out;
  os::UniqueFd err;
};

/// A descriptor that dup2 onto 0, 1 and 2 cannot overwrite.
Result<os::UniqueFd> above_stdio(os::UniqueFd fd) {
  if (fd.get() > STDERR_FILENO) return fd;
  os::UniqueFd higher{::fcntl(fd.get(), F_DUPFD_CLOEXEC, STDERR_FILENO + 1)};
  if (higher.get() < 0) return errno_error("dup");
  return higher;
}

struct Pipe {
  os::UniqueFd read;  ///< Non-blocking.
  os::UniqueFd write;
};

Result<Pipe> make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return errno_error("pipe");
  Pipe made{os::UniqueFd{ends[0]}, os::UniqueFd{ends[1]}};
  if (::fcntl(made.read.get(), F_SETFL, O_NONBLOCK) != 0) return errno_error("fcntl");
  auto write = above_stdio(std::move(made.write));
  if (!write) return write.error();
  made.write = std::move(*write);
  return made;
}

/// The given text as a file to read from: nothing has to feed it while the command runs.
Result<os::UniqueFd> make_input(std::string_view text) {
  os::UniqueFd file{::memfd_create("stdin", MFD_CLOEXEC)};
  if (file.get() < 0) return errno_error("stdin");
  while (!text.empty()) {
    const auto wrote = ::write(file.get(), text.data(), text.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return errno_error("stdin");
    text.remove_prefix(static_cast<std::size_t>(wrote));
  }
  if (::lseek(file.get(), 0, SEEK_SET) != 0) return errno_error("stdin");
  return above_stdio(std::move(file));
}

struct ChildPlan {
  const ExecImage& image;
  const Stdio& stdio;
  GuardPage& page;
};

int child_fails(GuardPage& page, Step step, int number) {
  page.start_step = step;
  page.start_errno = number;
  page.group = 0;
  return 127;
}

/// The child until exec: system calls alone. It may not allocate, and what it writes the worker sees.
TASKPOOL_IN_CHILD int child_main(void* argument) {
  const auto& [image, stdio, page] = *static_cast<const ChildPlan*>(argument);
  ::setpgid(0, 0);
  page.group = ::getpid();
  if (image.cwd() != nullptr && ::chdir(image.cwd()) != 0) return child_fails(page, kStepCwd, errno);
  const int in = stdio.in ? stdio.in.get() : ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (in < 0 || (in == STDIN_FILENO ? ::fcntl(in, F_SETFD, 0) : ::dup2(in, STDIN_FILENO)) < 0 ||
      ::dup2(stdio.out.get(), STDOUT_FILENO) < 0 || ::dup2(stdio.err.get(), STDERR_FILENO) < 0)
    return child_fails(page, kStepStdio, errno);
  ::close_range(STDERR_FILENO + 1, ~0u, 0);  // also what some module has left open without close-on-exec
  struct sigaction action {};
  action.sa_handler = SIG_DFL;
  for (const int signal : kResetSignals) ::sigaction(signal, &action, nullptr);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  return child_fails(page, kStepExec, image.exec());
}

struct Cloned {
  pid_t pid = -1;
  os::UniqueFd pidfd;
  int error = 0;  ///< errno if pid is -1.
};

/// Runs child_main() as vfork(2) would, but on a stack of its own, and returns once it has exec'ed or ended.
Cloned clone_child(ChildPlan& plan) {
  alignas(16) std::array<std::byte, kChildStackBytes> stack;  // not cleared: what is not used is not touched
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);  // no handler of ours may run in the child
  int pidfd = -1;
  const pid_t pid =
      ::clone(&child_main, stack.data() + stack.size(), CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, &plan, &pidfd);
  const int number = errno;
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return {pid, os::UniqueFd{pid > 0 ? pidfd : -1}, number};
}

Error start_error(const CommandSpec& spec, const GuardPage& page) {
  const int number = page.start_errno;
  switch (page.start_step) {
    case kStepCwd: return errno_error("cwd " + spec.cwd, number);
    case kStepStdio: return errno_error("standard input and output", number);
    default: return errno_error(spec.argv.front(), number);
  }
}

}  // namespace

Result<StartedCommand> start_command(const CommandSpec& spec, CommandGuard& guard) {
  Stdio stdio;
  if (!spec.stdin_text.empty()) {
    auto input = make_input(spec.stdin_text);
    if (!input) return input.error();
    stdio.in = std::move(*input);
  }
  auto out = make_pipe();
  if (!out) return out.error();
  auto err = make_pipe();
  if (!err) return err.error();
  stdio.out = std::move(out->write);
  stdio.err = std::move(err->write);

  const ExecImage image{spec};
  auto& page = guard.page();
  page.start_errno = 0;
  ChildPlan plan{image, stdio, page};
  auto child = clone_child(plan);
  if (child.pid < 0) return errno_error("clone", child.error);
  if (page.start_errno != 0) {
    while (::waitpid(child.pid, nullptr, 0) < 0 && errno == EINTR) {
    }
    return start_error(spec, page);
  }
  return StartedCommand{child.pid, std::move(child.pidfd), std::move(out->read), std::move(err->read)};
}

}  // namespace taskpool::runtime
