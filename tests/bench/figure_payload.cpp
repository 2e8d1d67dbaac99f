#include <cstring>
#include <stdexcept>

#include "tests/bench/daemon.hpp"
#include "tests/bench/figures.hpp"
#include "tests/bench/peers.hpp"

namespace taskpool::bench {
namespace {

/// Bytes per second: an argument of that size through half a round trip of an echo. The argument is copied into the
/// arena by the library, and again by the worker into the result, which is read where it lies.
double echo_rate(const PreparedCall& call, const Bytes& argument) {
  const auto begun = Clock::now();
  const auto result = need(call.apply(argument));
  const double half = seconds_since(begun) / 2;
  if (result.bytes().size() != argument.size() ||
      std::memcmp(result.bytes().data(), argument.data(), argument.size()) != 0)
    throw std::runtime_error("the echo is not what was sent");
  return static_cast<double>(argument.size()) / half;
}

void measure_size(Report& report, const PreparedCall& call, const char* figure, std::size_t bytes, double goal) {
  Bytes argument(bytes);
  for (std::size_t i = 0; i < bytes; ++i) argument[i] = static_cast<std::byte>(i * 31);
  const auto repeats = std::max<std::size_t>(5, (std::size_t{200} << 20) / bytes);
  const auto typical = [&] {
    std::vector<double> rates;
    for (std::size_t i = 0; i < repeats; ++i) rates.push_back(echo_rate(call, argument));
    return median(rates);
  };
  typical();  // the arena grows and is faulted in
  const auto [ours, pool] = measure_in_turns(typical, [bytes] { return pool_argument_rate(bytes); });
  report.add({figure, ours / 1e9, "GB/s", "multiprocessing argument", pool / 1e9, at_least(goal)});
}

}  // namespace

void payload(Report& report) {
  const Placed placed{Placement::free};
  const Daemon daemon{{.workers = 2}};
  const auto client = daemon.connect();
  const auto call = client.pool().prepare("bench_noop");
  measure_size(report, call, "payload_1MB", std::size_t{1} << 20, 4);
  measure_size(report, call, "payload_100MB", std::size_t{100} << 20, 3);
}

}  // namespace taskpool::bench
