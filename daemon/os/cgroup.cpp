#include "daemon/os/cgroup.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <sstream>
#include <utility>

#include "daemon/os/text_file.hpp"
#include "daemon/os/unique_fd.hpp"

namespace taskpool::os {

namespace {

constexpr const char* kOwnLeaf = "/supervisor";
/// Names of the cgroups that make() is asked for begin so: what a predecessor left is told by it.
constexpr std::string_view kWorkerPrefix = "worker-";

Result<void> write_text(const std::string& path, std::string_view text) {
  const UniqueFd file{::open(path.c_str(), O_WRONLY | O_CLOEXEC)};
  if (!file || ::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    return errno_error(path + " = " + std::string{text});
  return {};
}

std::vector<std::string> words_of(const std::string& text) {
  std::istringstream words{text};
  std::vector<std::string> found;
  for (std::string word; words >> word;) found.push_back(word);
  return found;
}

bool contains(const std::vector<std::string>& words, std::string_view wanted) {
  return std::find(words.begin(), words.end(), wanted) != words.end();
}

/// Where systemd runs, only what it marks as delegated is ours to divide, whatever our rights: systemd's
/// CGROUP_DELEGATION.
bool is_delegated(const std::string& base) {
  struct stat booted {};
  if (::stat("/run/systemd/system", &booted) != 0) return true;
  const auto marked = [&](const char* name) {
    std::array<char, 8> value{};
    return ::getxattr(base.c_str(), name, value.data(), value.size()) == 1 && value[0] == '1';
  };
  // Marks that others than root may read came late; but without Delegate= others than root may not write.
  return marked("trusted.delegate") || marked("user.delegate") || ::geteuid() != 0;
}

/// Ends what is in a cgroup and removes it; false if that takes another try.
bool remove(const std::string& path) {
  (void)write_text(path + "/cgroup.kill", "1");  // since Linux 5.14; before, what is left keeps the directory
  return ::rmdir(path.c_str()) == 0 || errno == ENOENT;
}

}  // namespace

Cgroup& Cgroup::operator=(Cgroup&& other) noexcept {
  if (this != &other) {
    end();
    path_ = std::move(other.path_);
    leftover_ = std::move(other.leftover_);
  }
  return *this;
}

Cgroup::~Cgroup() { end(); }

void Cgroup::end() {
  if (const auto leftover = std::exchange(leftover_, nullptr); leftover && !remove(path_)) leftover->push_back(path_);
}

CgroupUse Cgroup::use() const {
  return {.oom_kills = field_in(read_text(path_ + "/memory.events"), "oom_kill").value_or(0),
          .peak_bytes = number_in(read_text(path_ + "/memory.peak")).value_or(0)};
}

std::optional<std::chrono::microseconds> Cgroup::cpu_time() const {
  const auto used = field_in(read_text(path_ + "/cpu.stat"), "usage_usec");
  if (!used) return std::nullopt;
  return std::chrono::microseconds{static_cast<std::int64_t>(*used)};
}

Result<std::string> CgroupTree::own_directory(std::string_view membership, const std::string& mount) {
  struct statfs about {};
  if (::statfs(mount.c_str(), &about) != 0 || about.f_type != CGROUP2_SUPER_MAGIC)
    return fail(Errc::system, mount + " is not a cgroup tree of version 2");
  constexpr std::string_view kUnified = "0::";
  while (!membership.empty()) {
    const auto line = membership.substr(0, membership.find('\n'));
    if (line.starts_with(kUnified)) {
      auto directory = mount + std::string{line.substr(kUnified.size())};
      while (directory.size() > 1 && directory.back() == '/') directory.pop_back();
      return directory;
    }
    membership.remove_prefix(std::min(line.size() + 1, membership.size()));
  }
  return fail(Errc::system, "this process is in no cgroup of version 2");
}

CgroupTree::CgroupTree(std::string base, std::vector<std::string> controllers)
    : base_{std::move(base)}, controllers_{std::move(controllers)} {
  std::error_code failed;
  for (const auto& entry : std::filesystem::directory_iterator{base_, failed})
    if (entry.path().filename().string().starts_with(kWorkerPrefix)) leftover_->push_back(entry.path().string());
  sweep();
}

Result<CgroupTree> CgroupTree::take_over(const std::string& base, const std::vector<std::string>& controllers) {
  if (!is_delegated(base)) return fail(Errc::system, base + " is not delegated to this service: Delegate=yes does it");
  const auto there = words_of(read_text(base + "/cgroup.controllers"));
  std::vector<std::string> had;
  std::copy_if(controllers.begin(), controllers.end(), std::back_inserter(had),
               [&](const auto& controller) { return contains(there, controller); });
  if (had.empty() && !controllers.empty())
    return fail(Errc::system, base + " has no controller for memory or processes");
  const auto self = std::to_string(::getpid());
  if (words_of(read_text(base + "/cgroup.procs")) != std::vector{self})
    return fail(Errc::system, base + " has other processes in it: it is not the daemon's alone");
  const auto leaf = base + kOwnLeaf;
  if (::mkdir(leaf.c_str(), 0755) != 0 && errno != EEXIST) return errno_error(leaf);
  if (const auto moved = write_text(leaf + "/cgroup.procs", self); !moved) return moved.error();
  std::vector<std::string> enabled;
  Result<void> last;
  for (const auto& controller : had) {
    last = write_text(base + "/cgroup.subtree_control", "+" + controller);
    if (last) enabled.push_back(controller);
  }
  if (enabled.empty() && !had.empty()) {
    (void)write_text(base + "/cgroup.procs", self);  // as it was
    (void)::rmdir(leaf.c_str());
    return last.error();
  }
  return CgroupTree{base, std::move(enabled)};
}

bool CgroupTree::has(std::string_view controller) const { return contains(controllers_, controller); }

void CgroupTree::sweep() {
  std::erase_if(*leftover_, [](const std::string& path) { return remove(path); });
}

Result<Cgroup> CgroupTree::make(const std::string& name, const CgroupLimits& limits) {
  sweep();
  auto path = base_ + "/" + name;
  if (::mkdir(path.c_str(), 0755) != 0) return errno_error(path);
  Cgroup group{std::move(path), leftover_};
  if (limits.memory_bytes > 0) {
    if (const auto set = write_text(group.path() + "/memory.max", std::to_string(limits.memory_bytes)); !set)
      return set.error();
    (void)write_text(group.path() + "/memory.swap.max", "0");  // not there without swap accounting
    if (const auto set = write_text(group.path() + "/memory.oom.group", "1"); !set) return set.error();
  }
  if (limits.processes > 0)
    if (const auto set = write_text(group.path() + "/pids.max", std::to_string(limits.processes)); !set)
      return set.error();
  return group;
}

}  // namespace taskpool::os
