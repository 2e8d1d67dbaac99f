#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "proto/result.hpp"

namespace taskpool::os {

/// Bounds of one cgroup; 0: none.
struct CgroupLimits {
  std::uint64_t memory_bytes = 0;  ///< memory.max, without swap; at the bound all its processes are killed together.
  std::uint32_t processes = 0;     ///< pids.max: processes and threads.
};

/// What happened in a cgroup.
struct CgroupUse {
  std::uint64_t oom_kills = 0;   ///< Processes of it that the kernel killed because memory ran out.
  std::uint64_t peak_bytes = 0;  ///< The most memory that it ever used; 0 if the kernel does not say (before 5.19).
};

/// A cgroup of ours for one worker. Its end kills what is in it, and removes the directory.
class Cgroup {
 public:
  Cgroup(Cgroup&&) noexcept = default;
  Cgroup& operator=(Cgroup&&) noexcept;
  ~Cgroup();

  const std::string& path() const { return path_; }
  CgroupUse use() const;
  /// CPU time of everything that ever was in it; nothing if the kernel does not say.
  std::optional<std::chrono::microseconds> cpu_time() const;

 private:
  friend class CgroupTree;
  using Leftover = std::shared_ptr<std::vector<std::string>>;
  Cgroup(std::string path, Leftover leftover) : path_{std::move(path)}, leftover_{std::move(leftover)} {}
  void end();

  std::string path_;
  Leftover leftover_;  ///< Directories that could not be removed yet: processes take a moment to die. Null: moved from.
};

/// The part of the cgroup tree (version 2) that this process may divide, with its workers' cgroups. The process itself
/// moves to a leaf, "supervisor", as a cgroup with controlled children has no processes of its own: cgroups(7), "no
/// internal processes". Whoever starts it again in the same place finds it divided already.
class CgroupTree {
 public:
  /// The directory of our own cgroup. `membership` is the text of /proc/self/cgroup. Error: `system`, there is no tree
  /// of version 2 at `mount`.
  static Result<std::string> own_directory(std::string_view membership, const std::string& mount);
  /// Divides `base`, which this process must be alone in, and which must be delegated to it. `controllers` are those
  /// wanted; error if none of them can be had (nothing was changed), or if the kernel refuses.
  static Result<CgroupTree> take_over(const std::string& base, const std::vector<std::string>& controllers);

  bool has(std::string_view controller) const;
  const std::string& base() const { return base_; }
  /// Makes a cgroup. `name` is a file name of no other one. Limits of controllers that are not there must be 0.
  Result<Cgroup> make(const std::string& name, const CgroupLimits& limits);

 private:
  CgroupTree(std::string base, std::vector<std::string> controllers);
  void sweep();

  std::string base_;
  std::vector<std::string> controllers_;
  Cgroup::Leftover leftover_ = std::make_shared<std::vector<std::string>>();
};

}  // namespace taskpool::os
