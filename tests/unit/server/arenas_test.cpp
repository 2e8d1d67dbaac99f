#include "daemon/server/arenas.hpp"

#include <boost/test/unit_test.hpp>

namespace taskpool::server {
namespace {

struct Fixture {
  Config config;
  Metrics metrics;
  std::vector<std::uint32_t> announced;
  std::unique_ptr<Arenas> arenas;

  Fixture() {
    config.arena_bytes = 64u << 20;
    arenas = std::make_unique<Arenas>(config, metrics);
    arenas->add(7, 1000, [this](std::uint32_t segment, std::uint64_t, int) { announced.push_back(segment); });
  }
};

BOOST_FIXTURE_TEST_SUITE(arenas_of_sessions, Fixture)

BOOST_AUTO_TEST_CASE(a_segment_is_announced_before_its_first_region_and_reused_after_release) {
  const auto first = arenas->allocate(7, 1000);
  BOOST_REQUIRE(first.has_value());
  BOOST_TEST(announced == std::vector<std::uint32_t>{1}, boost::test_tools::per_element());
  BOOST_TEST(arenas->release_down(7, *first));
  const auto second = arenas->allocate(7, 1000);
  BOOST_TEST((*second == *first));
  BOOST_TEST(announced.size() == 1u);
}

BOOST_AUTO_TEST_CASE(what_was_not_given_cannot_be_released) {
  const auto region = arenas->allocate(7, 1000);
  BOOST_TEST(!arenas->release_down(7, {region->segment, region->offset + 64, 100}));
  BOOST_TEST(!arenas->release_down(7, {9, 0, 100}));
  BOOST_TEST(!arenas->release_down(8, *region));
  BOOST_TEST(arenas->release_down(7, *region));
  BOOST_TEST(!arenas->release_down(7, *region));
}

BOOST_AUTO_TEST_CASE(the_sum_of_a_session_is_bounded) {
  BOOST_TEST(arenas->open_up(7, 48u << 20).has_value());
  const auto refused = arenas->open_up(7, 48u << 20);
  BOOST_REQUIRE(!refused.has_value());
  BOOST_TEST((refused.error().errc() == Errc::out_of_space));
  BOOST_TEST(!arenas->allocate(7, 63u << 20).has_value());
  BOOST_TEST(!arenas->open_up(7, 0).has_value());
}

BOOST_AUTO_TEST_CASE(references_are_checked_against_the_segments) {
  const auto opened = arenas->open_up(7, 1u << 20);
  BOOST_REQUIRE(opened.has_value());
  const auto size = opened->bytes;
  BOOST_TEST(arenas->is_up(7, {1, 0, size}));
  BOOST_TEST(arenas->is_up(7, {0, 0, 0}));
  BOOST_TEST(!arenas->is_up(7, {1, 64, size}));
  BOOST_TEST(!arenas->is_up(7, {1, ~std::uint64_t{63}, 128}));
  BOOST_TEST(!arenas->is_up(7, {2, 0, 1}));
  BOOST_TEST(!arenas->is_up(8, {1, 0, 1}));
}

BOOST_AUTO_TEST_CASE(a_session_s_memory_goes_with_it) {
  (void)arenas->open_up(7, 1u << 20);
  BOOST_TEST(metrics.arena_bytes > 0u);
  arenas->remove(7);
  BOOST_TEST(metrics.arena_bytes == 0u);
  BOOST_TEST((arenas->allocate(7, 10).error().errc() == Errc::cancelled));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool::server
