#include <cstdint>
#include <cstdio>
#include <numeric>
#include <taskpool/client.hpp>
#include <vector>

int main() {
  auto client = taskpool::Client::connect();  // starts a private daemon if none runs
  if (!client) return std::fprintf(stderr, "%s\n", client.error().detail.c_str()), 1;
  auto pool = client->pool();

  std::vector<std::int64_t> numbers(1'000'000);
  std::iota(numbers.begin(), numbers.end(), 0);
  auto one = pool.apply_async<std::int64_t>("square", 12);  // does not wait
  auto all = pool.map<std::int64_t>("square", numbers);     // in the pool's workers; results in order
  auto crash = pool.apply<void>("crash", 9);                // a worker that dies fails its own task only
  if (!all || crash) return 1;
  std::printf("%ld %ld\n%s\n", one.get().value(), all->back(), crash.error().detail.c_str());
}
