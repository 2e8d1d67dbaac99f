#include "daemon/os/cgroup.hpp"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <fstream>

#include "daemon/os/process_limits.hpp"
#include "daemon/os/text_file.hpp"

namespace taskpool::os {
namespace {

/// Where a tree of version 2 is mounted: by itself, or beside the controllers of version 1.
std::string find_mount() {
  for (const auto* const mount : {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"})
    if (CgroupTree::own_directory("0::/\n", mount)) return mount;
  return {};
}

/// A cgroup for one test, if this process may make one.
class Place {
 public:
  Place() {
    const auto mount = find_mount();
    const auto own = mount.empty() ? Result<std::string>{fail(Errc::system, "")}
                                   : CgroupTree::own_directory(read_text("/proc/self/cgroup"), mount);
    if (!own) return;
    path_ = *own + "/taskpool-test-" + std::to_string(::getpid());
    if (::mkdir(path_.c_str(), 0755) != 0) path_.clear();
  }
  ~Place() {
    if (path_.empty()) return;
    for (const auto* const below : {"/supervisor", "/worker-1", "/worker-9", ""}) ::rmdir((path_ + below).c_str());
  }
  bool is_there() const {
    if (path_.empty()) BOOST_TEST_MESSAGE("SKIPPED: this process may make no cgroup of version 2");
    return !path_.empty();
  }
  const std::string& path() const { return path_; }

  /// Runs `body` in a child that is alone in the place; returns its exit code.
  template <class Body>
  int run_alone(Body body) const {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(apply({.cgroup = path_}) ? body() : 99);
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

 private:
  std::string path_;
};

bool exists(const std::string& path) { return std::filesystem::exists(path); }

}  // namespace

BOOST_AUTO_TEST_SUITE(cgroup)

BOOST_AUTO_TEST_CASE(ones_own_directory_is_named_by_the_line_without_controllers) {
  const auto mount = find_mount();
  if (mount.empty()) {
    BOOST_TEST_MESSAGE("SKIPPED: no tree of version 2 is mounted");
    return;
  }
  BOOST_TEST(CgroupTree::own_directory("4:memory:/a\n0::/system.slice/x.service\n", mount).value() ==
             mount + "/system.slice/x.service");
  BOOST_TEST(CgroupTree::own_directory("0::/", mount).value() == mount);
  BOOST_TEST(!CgroupTree::own_directory("4:memory:/a\n", mount));
  BOOST_TEST(!CgroupTree::own_directory("0::/a\n", "/proc"));
}

BOOST_AUTO_TEST_CASE(a_process_that_is_alone_moves_to_a_leaf_and_makes_others) {
  const Place place;
  if (!place.is_there()) return;
  ::mkdir((place.path() + "/worker-9").c_str(), 0755);  // a predecessor's
  const auto code = place.run_alone([&] {
    auto tree = CgroupTree::take_over(place.path(), {});
    if (!tree) return 1;
    if (exists(place.path() + "/worker-9")) return 2;
    if (read_text(place.path() + "/supervisor/cgroup.procs") != std::to_string(::getpid()) + "\n") return 3;
    if (tree->has("memory")) return 4;
    auto group = tree->make("worker-1", {});
    if (!group || !exists(group->path())) return 5;
    if (group->use().oom_kills != 0 || !group->cpu_time()) return 6;
    if (tree->make("worker-1", {})) return 7;  // it is there
    const auto path = group->path();
    const pid_t inside = ::fork();
    if (inside == 0) {
      if (!apply({.cgroup = path})) ::_exit(1);
      for (;;) ::pause();
    }
    while (read_text(path + "/cgroup.procs").empty()) {
    }
    { const auto ended = std::move(*group); }  // kills what is in it
    int status = 0;
    ::waitpid(inside, &status, 0);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) return 8;
    const auto next = tree->make("worker-2", {});  // sweeps up what could not be removed at once
    if (!next || exists(path)) return 9;
    return 0;
  });
  BOOST_TEST(code == 0);
}

BOOST_AUTO_TEST_CASE(a_place_with_others_or_without_controllers_is_left_alone) {
  const Place place;
  if (!place.is_there()) return;
  const auto code = place.run_alone([&] {
    if (CgroupTree::take_over(place.path(), {"no_such_controller"})) return 1;
    if (exists(place.path() + "/supervisor")) return 2;
    const pid_t other = ::fork();
    if (other == 0)
      for (;;) ::pause();
    const auto shared = CgroupTree::take_over(place.path(), {});
    ::kill(other, SIGKILL);
    ::waitpid(other, nullptr, 0);
    if (shared || shared.error().detail.find("other processes") == std::string::npos) return 3;
    return exists(place.path() + "/supervisor") ? 4 : 0;
  });
  BOOST_TEST(code == 0);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace taskpool::os
