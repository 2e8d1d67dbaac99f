#include "daemon/os/usage.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <sstream>
#include <vector>

#include "daemon/os/text_file.hpp"
#include "daemon/os/unique_fd.hpp"

namespace taskpool::os {

namespace {

/// Processes below one worker that are looked at: who makes more has pids.max or RLIMIT_NPROC against it.
constexpr std::size_t kMostProcesses = 4096;

std::string proc(pid_t pid, const char* file) { return "/proc/" + std::to_string(pid) + file; }

/// The fields of /proc/PID/stat, proc(5), from the state on; none if there is no such process any more.
std::istringstream fields_of(pid_t pid) {
  const auto stat = read_text(proc(pid, "/stat"));
  const auto name_end = stat.rfind(')');  // the name may hold anything
  return std::istringstream{name_end == std::string::npos ? "" : stat.substr(name_end + 1)};
}

/// utime, stime, cutime and cstime, in ticks.
std::uint64_t ticks_of(pid_t pid) {
  auto fields = fields_of(pid);
  constexpr int kBefore = 11;  // from state to cmajflt
  std::string skipped;
  for (int field = 0; field < kBefore; ++field) fields >> skipped;
  std::uint64_t sum = 0;
  for (int field = 0; field < 4; ++field) {
    std::uint64_t ticks = 0;
    fields >> ticks;
    sum += ticks;
  }
  return sum;
}

void add_children(pid_t pid, std::vector<pid_t>& found) {
  std::error_code failed;
  for (const auto& thread : std::filesystem::directory_iterator{proc(pid, "/task"), failed}) {
    std::istringstream children{read_text(thread.path().string() + "/children")};
    for (pid_t child = 0; children >> child && found.size() < kMostProcesses;) found.push_back(child);
  }
}

}  // namespace

std::string read_text(const std::string& path) {
  const UniqueFd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  std::string text;
  if (!file) return text;
  std::array<char, 4096> buffer;
  for (;;) {
    const auto got = ::read(file.get(), buffer.data(), buffer.size());
    if (got <= 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(got));
  }
}

std::uint64_t resident_bytes(pid_t pid) {
  std::istringstream statm{read_text(proc(pid, "/statm"))};
  std::uint64_t size = 0;
  std::uint64_t resident = 0;
  if (!(statm >> size >> resident)) return 0;
  return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

std::chrono::microseconds cpu_time_of_tree(pid_t root) {
  std::vector<pid_t> found{root};
  std::uint64_t ticks = 0;
  for (std::size_t at = 0; at < found.size(); ++at) {
    const auto pid = found[at];
    ticks += ticks_of(pid);
    add_children(pid, found);
  }
  const auto per_second = static_cast<std::uint64_t>(::sysconf(_SC_CLK_TCK));
  return std::chrono::microseconds{static_cast<std::int64_t>(ticks * 1'000'000 / per_second)};
}

bool is_stopped(pid_t pid) {
  char state = 0;
  return (fields_of(pid) >> state) && state == 'T';
}

std::uint64_t oom_kills_of_host() { return field_in(read_text("/proc/vmstat"), "oom_kill").value_or(0); }

}  // namespace taskpool::os
