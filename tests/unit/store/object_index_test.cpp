#include "proto/store/object_index.hpp"

#include <boost/test/unit_test.hpp>
#include <cstdint>
#include <set>
#include <vector>

using namespace taskpool::store;

namespace {

ObjectId id(std::uint64_t number) { return static_cast<ObjectId>(number); }

}  // namespace

BOOST_AUTO_TEST_SUITE(object_index)

BOOST_AUTO_TEST_CASE(states_are_found_where_they_were_made_until_they_are_erased) {
  ObjectIndex<std::uint64_t> index;
  std::vector<std::uint64_t*> places;
  for (std::uint64_t number = 1; number <= 5000; ++number) {
    places.push_back(&index[id(number)]);
    *places.back() = number;
  }
  BOOST_TEST(index.size() == 5000u);
  for (std::uint64_t number = 1; number <= 5000; ++number)
    BOOST_TEST_REQUIRE(index.find(id(number)) == places[number - 1]);
  for (std::uint64_t number = 1; number <= 5000; ++number)
    if (number % 100 != 0) index.erase(id(number));
  BOOST_TEST(index.size() == 50u);
  BOOST_TEST(!index.contains(id(99)));
  BOOST_TEST(index.find(id(100)) == places[99]);
  BOOST_TEST(index[id(99)] == 0u);  // made anew
}

BOOST_AUTO_TEST_CASE(each_is_visited_once) {
  ObjectIndex<std::uint64_t> index;
  const std::set<std::uint64_t> numbers{1, 31, 32, 33, 64, 1'000'000, std::uint64_t{1} << 40};
  for (const auto number : numbers) index[id(number)] = number;
  std::multiset<std::uint64_t> visited;
  index.for_each([&](std::uint64_t number) { visited.insert(number); });
  BOOST_TEST(visited.size() == numbers.size());
  BOOST_TEST(std::set<std::uint64_t>(visited.begin(), visited.end()) == numbers);
  BOOST_TEST(!index.contains(id(2)));
  BOOST_TEST(!index.contains(id(5'000'000)));
}

BOOST_AUTO_TEST_SUITE_END()
