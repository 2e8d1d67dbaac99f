#include "tests/bench/programs.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "daemon/os/process.hpp"

namespace taskpool::bench {
namespace fs = std::filesystem;

TemporaryFolder::TemporaryFolder() {
  std::string name = (fs::temp_directory_path() / "taskpool-bench-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;  // a file left in /tmp harms nobody
  fs::remove_all(path_, ignored);
}

std::string program_folder() { return os::program_directory(); }

std::string source_file(const std::string& name) { return std::string{TASKPOOL_BENCH_SOURCE} + "/" + name; }

bool is_installed(const std::string& program) { return os::find_program(program).has_value(); }

std::string run_program(const std::vector<std::string>& argv, const std::string& input_file) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("pipe failed");
  const os::UniqueFd read_end{ends[0]};
  os::UniqueFd write_end{ends[1]};
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, 0, input_file.c_str(), O_RDONLY, 0);
  ::posix_spawn_file_actions_adddup2(&actions, write_end.get(), 1);
  std::vector<char*> words;
  for (const auto& word : argv) words.push_back(const_cast<char*>(word.c_str()));  // exec does not write
  words.push_back(nullptr);
  pid_t pid = 0;
  const int error = ::posix_spawnp(&pid, words[0], &actions, nullptr, words.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (error != 0) throw std::runtime_error("cannot start " + argv[0]);
  write_end.reset();
  std::string output;
  std::array<char, 65536> buffer;
  for (ssize_t got = 0; (got = ::read(read_end.get(), buffer.data(), buffer.size())) > 0;)
    output.append(buffer.data(), static_cast<std::size_t>(got));
  int status = 0;
  ::waitpid(pid, &status, 0);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) throw std::runtime_error(argv[0] + " failed: " + output);
  return output;
}

std::uint64_t memory_of(pid_t pid, const char* file, const char* field) {
  std::ifstream in{"/proc/" + std::to_string(pid) + "/" + file};
  const std::string prefix = std::string{field} + ":";
  for (std::string line; std::getline(in, line);)
    if (line.starts_with(prefix)) return std::stoull(line.substr(prefix.size())) * 1024;  // the kernel's unit is kB
  throw std::runtime_error("no " + prefix + " of process " + std::to_string(pid));
}

std::uint64_t sleeps_of(pid_t pid) {
  std::uint64_t sleeps = 0;
  for (const auto& thread : fs::directory_iterator{"/proc/" + std::to_string(pid) + "/task"}) {
    std::ifstream in{thread.path() / "status"};
    constexpr std::string_view kField = "voluntary_ctxt_switches:";
    for (std::string line; std::getline(in, line);)
      if (line.starts_with(kField)) sleeps += std::stoull(line.substr(kField.size()));
  }
  return sleeps;
}

std::vector<pid_t> descendants_of(pid_t pid) {
  std::vector<pid_t> found;
  std::ifstream in{"/proc/" + std::to_string(pid) + "/task/" + std::to_string(pid) + "/children"};
  for (pid_t child = 0; in >> child;) {
    found.push_back(child);
    for (const pid_t further : descendants_of(child)) found.push_back(further);
  }
  return found;
}

}  // namespace taskpool::bench
