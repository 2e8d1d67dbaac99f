#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

/// Other programs: running them, and reading what the kernel knows of a process.
namespace taskpool::bench {

/// A directory of its own that goes with the object.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// The folder of the programs that this build made: bin/, with modules/ beside it.
std::string program_folder();
/// A file below tests/bench in the source tree.
std::string source_file(const std::string& name);
/// Whether a program of that name is in PATH.
bool is_installed(const std::string& program);

/// Runs a program to its end and returns its standard output. Throws if it fails.
std::string run_program(const std::vector<std::string>& argv, const std::string& input_file = "/dev/null");

/// A line of /proc/PID/status or smaps_rollup, "VmRSS", in bytes.
std::uint64_t memory_of(pid_t pid, const char* file, const char* field);
/// How often the threads of a process have gone to sleep of their own will so far.
std::uint64_t sleeps_of(pid_t pid);
/// The processes that a process has started and that still run, with theirs.
std::vector<pid_t> descendants_of(pid_t pid);

}  // namespace taskpool::bench
