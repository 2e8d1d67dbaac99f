#include <cstdint>
#include <numeric>
#include <stdexcept>
#include <vector>

#include "taskpool/client.hpp"
#include "taskpool/module.hpp"

// A function that uses the client library from inside of a task.

namespace {

/// The sum of the squares below `n`, each computed by a task of its own.
std::int64_t sum_of_squares(std::int64_t n) {
  auto client = taskpool::Client::connect();
  if (!client) throw std::runtime_error{client.error().detail};
  std::vector<std::int64_t> numbers(static_cast<std::size_t>(n));
  std::iota(numbers.begin(), numbers.end(), 0);
  const auto squares = client->pool().map<std::int64_t>("square", numbers, {.force_json = true});
  if (!squares) throw std::runtime_error{squares.error().detail};
  return std::accumulate(squares->begin(), squares->end(), std::int64_t{0});
}

}  // namespace

TASKPOOL_MODULE(m, "nested") { m.def("sum_of_squares", &sum_of_squares); }
