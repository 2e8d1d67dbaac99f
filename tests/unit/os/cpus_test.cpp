#include "daemon/os/cpus.hpp"

#include <boost/test/unit_test.hpp>
#include <cstdlib>
#include <fstream>
#include <thread>

namespace taskpool::os {
namespace {

namespace fs = std::filesystem;

/// A directory that looks like /sys/fs/cgroup.
struct Cgroups {
  fs::path root;
  Cgroups() {
    char name[] = "/tmp/taskpool-cgroup-XXXXXX";
    root = ::mkdtemp(name);
  }
  ~Cgroups() { fs::remove_all(root); }
  void write(const fs::path& file, const std::string& text) const {
    fs::create_directories((root / file).parent_path());
    std::ofstream{root / file} << text << "\n";
  }
};

BOOST_AUTO_TEST_SUITE(cpus)

BOOST_AUTO_TEST_CASE(there_is_at_least_one_and_no_more_than_the_machine_has) {
  BOOST_TEST(available_cpus() >= 1);
  BOOST_TEST(available_cpus() <= static_cast<int>(std::thread::hardware_concurrency()));
}

BOOST_FIXTURE_TEST_CASE(version_2_takes_the_least_of_all_levels, Cgroups) {
  write("a/b/cpu.max", "max 100000");
  write("a/cpu.max", "150000 100000");
  BOOST_TEST(cgroup_cpu_quota("0::/a/b\n", root).value() == 1.5);
  write("a/b/cpu.max", "50000 100000");
  BOOST_TEST(cgroup_cpu_quota("0::/a/b\n", root).value() == 0.5);
}

BOOST_FIXTURE_TEST_CASE(version_1_reads_the_hierarchy_that_has_cpu, Cgroups) {
  write("cpu/x/cpu.cfs_quota_us", "300000");
  write("cpu/x/cpu.cfs_period_us", "100000");
  write("cpu/cpu.cfs_quota_us", "-1");
  write("cpu/cpu.cfs_period_us", "100000");
  const auto quota = cgroup_cpu_quota("5:memory:/x\n4:cpuset:/x\n3:cpu,cpuacct:/x\n1:name=systemd:/x\n0::/\n", root);
  BOOST_TEST(quota.value() == 3.0);
}

BOOST_FIXTURE_TEST_CASE(a_path_from_outside_the_container_falls_back_to_the_mount, Cgroups) {
  write("cpu.max", "200000 100000");
  BOOST_TEST(cgroup_cpu_quota("0::/../outside/scope\n", root).value() == 2.0);
}

BOOST_FIXTURE_TEST_CASE(no_quota_and_nonsense_are_no_quota, Cgroups) {
  BOOST_TEST(!cgroup_cpu_quota("0::/\n", root));
  BOOST_TEST(!cgroup_cpu_quota("", root));
  BOOST_TEST(!cgroup_cpu_quota("garbage\n:\n::\n", root));
  write("cpu.max", "lots of it");
  BOOST_TEST(!cgroup_cpu_quota("0::/\n", root));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool::os
