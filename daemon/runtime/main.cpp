#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <exception>
#include <string_view>

#include "daemon/runtime/command.hpp"
#include "daemon/runtime/zygote.hpp"
#include "proto/version.hpp"

namespace {

using namespace taskpool;

/// The supervisor hands the control channel over under this number. PROTOCOL.md, "Connections".
constexpr int kControlFd = 3;
constexpr int kExitUsage = 2;

constexpr const char* kHelp = "taskpool-runtime: loads modules and forks workers for taskpoold, which starts it.\n"
                              "\n"
                              "Options:\n"
                              "  --commands   run programs (argv tasks) instead of modules' functions\n"
                              "  --version    print the version\n";

bool is_socket(int fd) {
  int type = 0;
  socklen_t size = sizeof type;
  return ::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_STREAM;
}

/// Nothing may get the numbers 0 to 2 by accident, and what modules print must not vanish in a closed descriptor:
/// standard output is the log unless a worker is given its own.
void settle_stdio() {
  for (int fd = 0; fd <= 2; ++fd)
    if (::fcntl(fd, F_GETFD) < 0) (void)::open("/dev/null", O_RDWR);  // the lowest free number is `fd`
  (void)::dup2(2, 1);
  std::setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);  // a line that a task printed is seen before the worker ends
}

int serve(bool commands) {
  runtime::Modules modules;
  if (commands) {
    if (const auto added = modules.add(runtime::command_module(), "commands"); !added) {
      std::fprintf(stderr, "level=error event=start_failed detail=\"%s\"\n", added.error().detail.c_str());
      return 1;
    }
  }
  runtime::Zygote zygote{os::UniqueFd{kControlFd}, std::move(modules)};
  return zygote.run();
}

}  // namespace

int main(int argc, char** argv) {
  bool commands = false;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--commands") {
      commands = true;
    } else if (argument == "--version") {
      std::printf("taskpool-runtime %s\n", std::string{kVersion}.c_str());
      return 0;
    } else {
      const bool asked = argument == "--help" || argument == "-h";
      std::fputs(kHelp, asked ? stdout : stderr);
      return asked ? 0 : kExitUsage;
    }
  }
  if (!is_socket(kControlFd)) {
    std::fputs("taskpool-runtime: descriptor 3 is no control channel: taskpoold starts this program\n", stderr);
    return kExitUsage;
  }
  settle_stdio();
  (void)::fcntl(kControlFd, F_SETFD, FD_CLOEXEC);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);        // if the supervisor is dead already, the control channel is at its end
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);  // no task gains rights through a set-uid program
  ::signal(SIGPIPE, SIG_IGN);
  try {
    return serve(commands);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "level=error event=runtime_ended detail=\"%s\"\n", error.what());
    return 1;
  }
}
