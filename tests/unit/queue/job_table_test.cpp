#include "daemon/queue/job_table.hpp"

#include <boost/test/unit_test.hpp>
#include <set>
#include <string>

namespace taskpool::queue {
namespace {

BOOST_AUTO_TEST_SUITE(job_table)

BOOST_AUTO_TEST_CASE(a_job_is_found_by_its_name_until_it_is_released) {
  JobTable table{0x6921f3a2};
  auto& job = *table.create();
  const auto name = table.text(job.id);
  BOOST_TEST(name.starts_with("6921f3a2-"));
  std::optional<std::uint32_t> item;
  BOOST_TEST(table.find(name, item) == &job);
  BOOST_TEST(!item);
  BOOST_TEST(table.find(name + "/17", item) == &job);
  BOOST_TEST(item.value() == 17u);
  table.release(job);
  BOOST_TEST(table.find(name, item) == nullptr);
  BOOST_TEST(table.size() == 0u);
}

BOOST_AUTO_TEST_CASE(names_that_are_none_are_not_found) {
  JobTable table{1};
  (void)table.create();
  std::optional<std::uint32_t> item;
  for (const std::string wrong : {"", "1", "00000001-", "00000001-zz", "00000001-1000000x", "00000002-1000000",
                                  "00000001-1000000/", "00000001-1000000/-1", "00000001-fffffffffffffffff"})
    BOOST_TEST(table.find(wrong, item) == nullptr, wrong);
}

BOOST_AUTO_TEST_CASE(numbers_do_not_repeat_though_places_do) {
  JobTable table{1};
  std::set<JobId> seen;
  for (int round = 0; round < 1000; ++round) {
    auto& job = *table.create();
    BOOST_TEST(seen.insert(job.id).second);
    table.release(job);
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool::queue
