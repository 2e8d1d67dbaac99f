/// store_model [BUG]: explores every scenario. Without a bug all properties must hold, with one some must not; the exit
/// code says whether that is so.

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "tests/model/scenario.hpp"

using namespace taskpool::model;

int main(int argc, char** argv) {
  const std::string_view wanted = argc > 1 ? argv[1] : "none";
  const auto found = std::find(kBugNames.begin(), kBugNames.end(), wanted);
  if (found == kBugNames.end()) {
    std::fprintf(stderr, "usage: store_model [BUG]\n");
    return 2;
  }
  const auto bug = static_cast<Bug>(found - kBugNames.begin());
  for (const auto& scenario : scenarios()) {
    const auto start = std::chrono::steady_clock::now();
    try {
      const auto explored = check(scenario, bug);
      const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
      std::printf("%-38s %6zu crashes, %5zu histories, %8zu executions of readers, %.2f s\n", scenario.name.c_str(),
                  explored.crashes, explored.histories, explored.executions, took.count());
      std::fflush(stdout);
    } catch (const Violation& violation) {
      std::printf("%-38s %s\n", scenario.name.c_str(), violation.what());
      return bug == Bug::none ? 1 : 0;
    }
  }
  return bug == Bug::none ? 0 : 1;
}
