#include <cstdlib>
#include <string>
#include <vector>

#include "tests/bench/daemon.hpp"
#include "tests/bench/figures.hpp"
#include "tests/bench/programs.hpp"

namespace taskpool::bench {
namespace {

/// One measure of peers/python.py, which both packages answer.
struct Measure {
  std::string name;
  std::string unit;
  Goal goal;
  Placement placement = Placement::free;
};

double ask(const std::string& module, const std::string& measure) {
  // Debian's interpreter: another one may come first in PATH.
  return std::stod(run_program({"/usr/bin/python3", source_file("peers/python.py"), module, measure}));
}

}  // namespace

void python(Report& report) {
  const std::vector<Measure> measures{
      {"pool_2", "ms", at_most(5)},
      {"pool_64", "ms", at_most(25)},
      {"apply", "us", at_most_times(0.7), Placement::same},
      {"apply", "us", at_most_times(0.4)},
      {"apply_async", "calls/s", at_least_times(4)},
      {"map_single", "items/s", at_least_times(4)},
      {"map", "items/s", at_least_times(1.5)},
      {"payload_1m", "bytes/s", at_least_times(5)},
      {"payload_100m", "bytes/s", at_least_times(5)},
      {"get", "calls/s", at_least_times(20), Placement::same},
      {"get", "calls/s", at_least_times(100)},
      {"get_plain", "calls/s", at_least_times(20)},
      {"set", "calls/s", at_least_times(1.5)},
      {"set_from_4", "calls/s", at_least_times(3)},
      {"update", "items/s", at_least_times(1.5)},
      {"managed_lock", "pairs/s", at_least_times(1.5)},
      {"managed_put", "calls/s", at_least_times(2)},
      {"lock", "ns", at_most_times(3)},
      {"value", "calls/s", at_least_times(1)},
      {"queue", "items/s", at_least_times(1.5)},
      {"worker_pss", "bytes", at_most_times(0.5)},
  };
  constexpr int kPairs = 3;
  for (const auto& measure : measures) {
    if (!report.wants(measure.name)) continue;
    const Placed placed{measure.placement};
    const Daemon daemon;
    ::setenv("TASKPOOL_SOCKET", daemon.socket().c_str(), 1);
    ::setenv("PYTHONPATH", (program_folder() + "/../python").c_str(), 1);
    const auto [ours, reference] = measure_in_turns([&] { return ask("taskpool", measure.name); },
                                                    [&] { return ask("multiprocessing", measure.name); }, kPairs);
    const std::string where = measure.placement == Placement::same ? " same" : "";
    report.add({"python " + measure.name + where, ours, measure.unit, "multiprocessing", reference, measure.goal});
    ::unsetenv("TASKPOOL_SOCKET");
  }
}

}  // namespace taskpool::bench
