#include "daemon/store/domain.hpp"

#include <boost/test/unit_test.hpp>

namespace taskpool::store {
namespace {

BOOST_AUTO_TEST_SUITE(domain)

BOOST_AUTO_TEST_CASE(an_objects_id_is_text_that_reads_back) {
  for (const DomainKey key : {DomainKey{false, 0}, DomainKey{false, 4294967294}, DomainKey{true, 27}}) {
    for (const std::uint64_t id : {std::uint64_t{2}, ~std::uint64_t{0}}) {
      const auto parsed = parse_object_text(object_text(key, ObjectId{id}));
      BOOST_REQUIRE(parsed.has_value());
      BOOST_TEST((parsed->first == key));
      BOOST_TEST((parsed->second == ObjectId{id}));
    }
  }
  BOOST_TEST(object_text({false, 1000}, ObjectId{26}) == "u1000-26");
  BOOST_TEST(domain_text({true, 27}) == "gid:27");
}

BOOST_AUTO_TEST_CASE(other_text_is_no_id) {
  for (const char* text : {"", "u", "-", "u-", "u1", "u1-", "-5", "1000-5", "x1-2", "u1-2-3", "u 1-2", "u1-2 ", "u-1-2",
                           "u4294967296-1", "u1-18446744073709551616", "U1-2", "u1-0x2"})
    BOOST_TEST(!parse_object_text(text).has_value(), text);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool::store
