#include "client/cpp/autostart.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <thread>
#include <vector>

#include "client/cpp/environment.hpp"
#include "proto/build_id.hpp"
#include "proto/codec.hpp"

extern char** environ;  // NOLINT: POSIX's name

namespace taskpool::client {
namespace {

constexpr std::chrono::milliseconds kFirstPoll{1};
constexpr std::chrono::milliseconds kLongestPoll{20};
/// How long a daemon of another build may take to leave.
constexpr std::chrono::milliseconds kLeaving{1000};
/// A private daemon leaves after so long without work and clients.
constexpr const char* kIdleExit = "60s";
/// Hexadecimal digits of the build id in the socket's name.
constexpr std::size_t kBuildDigits = 12;

std::string user_directory(const char* parent) {
  return std::string{parent} + "/taskpool-" + std::to_string(::geteuid());
}

std::string directory_of(const std::string& path) { return path.substr(0, path.rfind('/')); }

/// Opens the directory, making it if need be, and checks on the descriptor that it is ours and nobody else's: in /tmp
/// anybody could have made it first.
Result<Fd> open_directory(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return errno_error(path);
  Fd directory{::open(path.c_str(), O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_RDONLY)};
  if (!directory) return errno_error(path);
  struct stat status {};
  if (::fstat(directory.get(), &status) != 0) return errno_error(path);
  if (status.st_uid != ::geteuid() || (status.st_mode & 077) != 0)
    return fail(Errc::permission_denied, path + ": not a directory of this user alone");
  return directory;
}

bool is_program(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) && ::access(path.c_str(), X_OK) == 0;
}

std::string find_program() {
  std::vector<std::string> directories;
  if (const auto home = environment("TASKPOOL_HOME"); !home.empty()) directories.push_back(home + "/bin");
  std::array<char, 4096> self;
  if (const auto size = ::readlink("/proc/self/exe", self.data(), self.size()); size > 0)
    directories.push_back(directory_of({self.data(), static_cast<std::size_t>(size)}));
  const auto path = environment("PATH");
  for (std::size_t at = 0; at <= path.size();) {
    const auto end = std::min(path.find(':', at), path.size());
    if (end > at) directories.push_back(path.substr(at, end - at));
    at = end + 1;
  }
  for (const auto& directory : directories)
    if (auto program = directory + "/taskpoold"; is_program(program)) return program;
  return {};
}

/// What the daemon inherits: not what only concerns this process.
std::vector<char*> daemon_environment() {
  std::vector<char*> kept;
  for (char** each = environ; *each != nullptr; ++each) {
    const std::string_view entry{*each};
    if (!entry.starts_with("TASKPOOL_WORKER_TOKEN=") && !entry.starts_with("TASKPOOL_SOCKET=")) kept.push_back(*each);
  }
  kept.push_back(nullptr);
  return kept;
}

/// What the processes between this one and the daemon say.
struct Said {
  int error;  ///< errno of the one that could not go on, or 0.
  pid_t daemon;
};

/// In the process that becomes the daemon, after a fork of a program with threads: system calls only.
[[noreturn]] void become_daemon(const char* program, char* const* arguments, char* const* variables, const char* log,
                                int status_pipe) {
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  for (int number = 1; number < NSIG; ++number) ::sigaction(number, &standard, nullptr);
  const int nothing = ::open("/dev/null", O_RDWR);
  const int output = ::open(log, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0600);
  ::dup2(status_pipe, 3);
  ::fcntl(3, F_SETFD, FD_CLOEXEC);
  ::dup2(nothing, 0);
  ::dup2(nothing, 1);
  ::dup2(output < 0 ? nothing : output, 2);
  ::close_range(4, ~0u, 0);
  if (::chdir("/") == 0) ::execve(program, arguments, variables);
  const Said said{errno, 0};
  [[maybe_unused]] const auto told = ::write(3, &said, sizeof said);
  ::_exit(127);
}

/// Starts the program in a session of its own, as nobody's child (this program may wait for its children), and returns
/// its pidfd.
Result<Fd> spawn(const std::string& program, const std::string& socket, const std::string& log) {
  const std::array<const char*, 8> arguments{program.c_str(), "--socket", socket.c_str(), "--idle-exit",
                                             kIdleExit,       "--audit",  "none",         nullptr};
  auto variables = daemon_environment();
  std::array<int, 2> ends;
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return errno_error("pipe");
  const Fd from_child{ends[0]};
  Fd to_parent{ends[1]};
  // Descriptors below 4 are rearranged in the child; the pipe must not be among them.
  if (to_parent.get() < 4) to_parent.reset(::fcntl(to_parent.get(), F_DUPFD_CLOEXEC, 4));

  const pid_t child = ::fork();
  if (child < 0) return errno_error("fork");
  if (child == 0) {
    ::setsid();
    const pid_t grandchild = ::fork();
    if (grandchild == 0)
      become_daemon(program.c_str(), const_cast<char* const*>(arguments.data()), variables.data(), log.c_str(),
                    to_parent.get());
    const Said said{grandchild < 0 ? errno : 0, grandchild};
    [[maybe_unused]] const auto told = ::write(to_parent.get(), &said, sizeof said);
    ::_exit(0);
  }
  to_parent.reset();
  while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
  Fd pidfd;
  for (Said said{}; ::read(from_child.get(), &said, sizeof said) == sizeof said;) {  // until exec closes the pipe
    if (said.error != 0) return errno_error(program, said.error);
    pidfd.reset(static_cast<int>(::syscall(SYS_pidfd_open, said.daemon, 0)));
  }
  return pidfd;
}

bool has_ended(const Fd& pidfd) {
  pollfd ended{pidfd.get(), POLLIN, 0};
  return !pidfd || ::poll(&ended, 1, 0) > 0;
}

std::string last_line(const std::string& path) {
  const Fd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  std::array<char, 1024> tail;
  const auto size = ::lseek(file.get(), 0, SEEK_END);
  const auto got = size < 0 ? -1
                            : ::pread(file.get(), tail.data(), tail.size(),
                                      std::max<off_t>(size - static_cast<off_t>(tail.size()), 0));
  if (got <= 0) return "no log at " + path;
  std::string_view text{tail.data(), static_cast<std::size_t>(got)};
  while (!text.empty() && text.back() == '\n') text.remove_suffix(1);
  return std::string{text.substr(text.rfind('\n') + 1)};
}

}  // namespace

std::string private_socket_name() {
  const auto runtime = environment("XDG_RUNTIME_DIR");
  std::string directory;
  if (!runtime.empty() && ::access(runtime.c_str(), W_OK) == 0) {
    directory = runtime + "/taskpool";
  } else {
    directory = user_directory(::access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
  }
  return directory + "/taskpool-" + std::string{build_id().substr(0, kBuildDigits)} + ".sock";
}

Result<void> start_private_daemon(const std::string& socket, const Deadline& deadline) {
  const auto program = find_program();
  if (program.empty())
    return fail(Errc::no_daemon,
                "no daemon runs, and no taskpoold is in $TASKPOOL_HOME/bin, beside this program or in $PATH");
  const auto directory = open_directory(directory_of(socket));
  if (!directory) return directory.error();

  // One starter at a time: the others wait here and then find it running. The lock goes with the descriptor; it is not
  // the daemon's own, which it holds for as long as it lives.
  const auto lock_path = socket + ".start";
  const Fd lock{::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)};
  if (!lock) return errno_error(lock_path);
  auto pause = kFirstPoll;
  while (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (passed(deadline)) return fail(Errc::timed_out, lock_path + ": another process is starting the daemon");
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, kLongestPoll);
  }
  if (Socket::connect(socket)) return {};

  const auto log = socket + ".log";
  ::unlink(log.c_str());  // of the last daemon: it must not grow for ever
  const auto daemon = spawn(program, socket, log);
  if (!daemon) return daemon.error();
  for (pause = kFirstPoll;; pause = std::min(pause * 2, kLongestPoll)) {
    if (Socket::connect(socket)) break;
    if (has_ended(*daemon)) return fail(Errc::no_daemon, program + " ended: " + last_line(log));
    if (passed(deadline)) return fail(Errc::timed_out, program + " does not listen yet: " + last_line(log));
    std::this_thread::sleep_for(pause);
  }
  return {};
}

bool is_current_program(std::uint64_t pid) {
  struct stat runs {
  }, would_run{};
  return ::stat(("/proc/" + std::to_string(pid) + "/exe").c_str(), &runs) == 0 &&
         ::stat(find_program().c_str(), &would_run) == 0 && runs.st_dev == would_run.st_dev &&
         runs.st_ino == would_run.st_ino;
}

void dismiss(Link& link, const Deadline& deadline) {
  ByteBuffer out;
  Prefix prefix;
  prefix.op = Op::shutdown;
  prefix.request = 1;
  append_frame(out, prefix);
  if (!link.socket->send(out.data())) return;
  auto until = Clock::now() + kLeaving;
  if (deadline) until = std::min(until, *deadline);
  for (;;) {  // until it closes
    link.decoder = {};
    const auto event = link.socket->receive(link.decoder, link.fds, {.deadline = until});
    if (!event || *event == Socket::Event::timed_out) return;
  }
}

}  // namespace taskpool::client
