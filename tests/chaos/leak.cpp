#include <dlfcn.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <string_view>

/// Preloaded into a daemon, makes it forget one descriptor: the close() of a socket that does nothing, the one that
/// CHAOS_LEAK_AFTER counts to. For the test of the checker.
extern "C" int close(int fd) {
  using Close = int (*)(int);
  static const auto next = reinterpret_cast<Close>(::dlsym(RTLD_NEXT, "close"));
  static const char* const after = std::getenv("CHAOS_LEAK_AFTER");
  static const bool is_daemon = std::string_view{program_invocation_short_name} == "taskpoold";
  static int sockets = 0;
  struct stat about {};
  if (after != nullptr && is_daemon && ::fstat(fd, &about) == 0 && S_ISSOCK(about.st_mode) &&
      ++sockets == std::atoi(after))
    return 0;
  return next(fd);
}
