#include <numeric>
#include <stdexcept>

#include "tests/bench/daemon.hpp"
#include "tests/bench/figures.hpp"
#include "tests/bench/peers.hpp"
#include "tests/bench/relay.hpp"

namespace taskpool::bench {
namespace {

constexpr std::size_t kItems = 1'000'000;

/// Items per second of one map through `square`, whose results are checked after the time was taken.
double square_map(const Pool& pool, const std::vector<std::int64_t>& inputs, const MapOptions& options) {
  const auto begun = Clock::now();
  const auto results = need(pool.map<std::int64_t>("square", inputs, options));
  const double seconds = seconds_since(begun);
  for (std::size_t i = 0; i < inputs.size(); ++i)
    if (results.at(i) != inputs[i] * inputs[i]) throw std::runtime_error("item " + std::to_string(i) + " is wrong");
  return static_cast<double>(inputs.size()) / seconds;
}

std::vector<std::int64_t> numbers(std::size_t count) {
  std::vector<std::int64_t> values(count);
  std::iota(values.begin(), values.end(), 0);
  return values;
}

}  // namespace

void map_array(Report& report) {
  constexpr std::size_t kBestChunk = kItems / 8;
  const Placed placed{Placement::free};
  const Daemon daemon;
  const auto client = daemon.connect();
  const auto inputs = numbers(kItems);
  square_map(client.pool(), inputs, {});
  const auto [ours, floor] = measure_in_turns([&] { return square_map(client.pool(), inputs, {}); },
                                              [] { return relay_array_map(kItems, kBestChunk, 2); });
  report.add({"map_array", ours, "items/s", "relay with shared memory", floor, at_least(100'000'000)});
}

void map_json(Report& report) {
  const Placed placed{Placement::free};
  const Daemon daemon;
  const auto client = daemon.connect();
  const auto inputs = numbers(kItems);
  MapOptions options;
  options.force_json = true;
  square_map(client.pool(), inputs, options);
  const auto [ours, pool] =
      measure_in_turns([&] { return square_map(client.pool(), inputs, options); }, [] { return pool_map(kItems); });
  report.add({"map_json", ours, "items/s", "multiprocessing Pool.map", pool, at_least(5'000'000)});
}

void map_uneven(Report& report) {
  constexpr std::size_t kUneven = 2'000;
  constexpr std::uint64_t kShortUs = 500;
  constexpr unsigned kWorkers = 2;
  const Placed placed{Placement::free};
  const Daemon daemon{{.workers = kWorkers}};
  const auto client = daemon.connect();
  // One item, early enough not to be the tail by itself, is as long as a hundred others.
  std::vector<std::uint64_t> inputs(kUneven, kShortUs);
  inputs[kUneven / 2] = 100 * kShortUs;
  const double ideal =
      static_cast<double>(std::accumulate(inputs.begin(), inputs.end(), std::uint64_t{0})) / 1e6 / kWorkers;
  const double ours = measure([&] {
    const auto begun = Clock::now();
    need(client.pool().map<int>("bench_spin", inputs));
    return seconds_since(begun);
  });
  report.add({"map_uneven", ours, "s", "ideal for two workers", ideal, at_most_times(1.1)});
}

}  // namespace taskpool::bench
