#include "proto/arena_space.hpp"

#include <boost/test/unit_test.hpp>
#include <random>
#include <vector>

#include "proto/limits.hpp"

namespace taskpool {
namespace {

constexpr std::uint64_t kUnit = kArenaAlignment;

BOOST_AUTO_TEST_SUITE(arena_space)

BOOST_AUTO_TEST_CASE(places_are_aligned_and_the_lowest_that_fit) {
  ArenaSpace space;
  BOOST_TEST(!space.allocate(1));
  space.add(1, 4 * kUnit + 7);  // what is less than a unit at the end is not used
  space.add(2, 8 * kUnit);
  BOOST_TEST(space.total_bytes() == 12 * kUnit);
  BOOST_TEST((space.allocate(1) == ArenaRef{1, 0, kUnit}));
  BOOST_TEST((space.allocate(kUnit + 1) == ArenaRef{1, kUnit, 2 * kUnit}));
  BOOST_TEST((space.allocate(2 * kUnit) == ArenaRef{2, 0, 2 * kUnit}));
  BOOST_TEST((space.allocate(kUnit) == ArenaRef{1, 3 * kUnit, kUnit}));
  BOOST_TEST(space.used_bytes() == 6 * kUnit);
  BOOST_TEST(!space.allocate(7 * kUnit));
  BOOST_TEST(!space.allocate(~std::uint64_t{0}));
}

BOOST_AUTO_TEST_CASE(what_is_given_back_joins_its_neighbours) {
  ArenaSpace space;
  space.add(1, 3 * kUnit);
  const auto first = *space.allocate(kUnit);
  const auto second = *space.allocate(kUnit);
  const auto third = *space.allocate(kUnit);
  space.free(first);
  space.free(third);
  BOOST_TEST(!space.allocate(2 * kUnit));
  space.free(second);
  BOOST_TEST(space.used_bytes() == 0u);
  BOOST_TEST((space.allocate(3 * kUnit) == ArenaRef{1, 0, 3 * kUnit}));
}

BOOST_AUTO_TEST_CASE(no_two_places_ever_overlap) {
  constexpr std::uint64_t kUnits = 64;
  ArenaSpace space;
  space.add(1, kUnits * kUnit);
  space.add(2, kUnits * kUnit);
  std::vector<std::vector<bool>> taken(3, std::vector<bool>(kUnits));
  std::vector<ArenaRef> places;
  std::mt19937 random{3};
  const auto mark = [&](const ArenaRef& place, bool value) {
    for (auto unit = place.offset / kUnit; unit < (place.offset + place.bytes) / kUnit; ++unit) {
      BOOST_REQUIRE(taken.at(place.segment).at(unit) != value);
      taken[place.segment][unit] = value;
    }
  };
  for (int round = 0; round < 5000; ++round) {
    if (random() % 2 == 0) {
      if (const auto place = space.allocate(1 + random() % (9 * kUnit))) {
        mark(*place, true);
        places.push_back(*place);
      }
    } else if (!places.empty()) {
      std::swap(places[random() % places.size()], places.back());
      mark(places.back(), false);
      space.free(places.back());
      places.pop_back();
    }
  }
  for (const auto& place : places) space.free(place);
  BOOST_TEST(space.used_bytes() == 0u);
  BOOST_TEST((space.allocate(kUnits * kUnit) == ArenaRef{1, 0, kUnits * kUnit}));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool
