#include "tests/bench/peers.hpp"

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/bench/bench.hpp"
#include "tests/bench/programs.hpp"

namespace taskpool::bench {
namespace {

/// Debian's interpreter: another one may come first in PATH, and does not see what apt installed.
constexpr const char* kPython = "/usr/bin/python3";

nlohmann::json run_pool(const std::string& what, std::size_t count) {
  return nlohmann::json::parse(run_program({kPython, source_file("peers/pool.py"), what, std::to_string(count)}));
}

}  // namespace

PoolApply pool_apply(std::size_t count) {
  const auto result = run_pool("apply", count);
  return {result["p50_us"], result["p99_us"]};
}
double pool_apply_async(std::size_t count) { return run_pool("apply_async", count)["per_second"]; }
double pool_map(std::size_t count) { return run_pool("map", count)["per_second"]; }
double pool_argument_rate(std::size_t bytes) { return run_pool("argument", bytes)["per_second"]; }

double xargs_rate(std::size_t commands) {
  const TemporaryFolder folder;
  const auto inputs = folder.path() + "/inputs";
  std::ofstream out{inputs};
  for (std::size_t i = 0; i < commands; ++i) out << i << '\n';
  out.close();
  const auto begun = Clock::now();
  run_program({"xargs", "-P2", "-n1", "true"}, inputs);
  return static_cast<double>(commands) / seconds_since(begun);
}

}  // namespace taskpool::bench
