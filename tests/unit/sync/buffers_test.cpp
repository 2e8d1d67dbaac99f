#include "daemon/store/buffers.hpp"

#include <boost/test/unit_test.hpp>

namespace taskpool::store {
namespace {

constexpr std::uint32_t kAnn = 1, kBob = 2;  // sessions
constexpr std::uint32_t kUser = 1000, kOther = 1001;
constexpr std::uint64_t kMost = 1 << 20;

struct Story {
  Buffers buffers;
  Result<Buffers::Opened> open(std::uint32_t session, std::uint32_t target, std::string name, std::uint64_t bytes = 64,
                               Create create = Create::open, std::uint32_t uid = kUser) {
    return buffers.open(session, uid, target, {.name = std::move(name), .bytes = bytes, .create = create}, kMost, 7);
  }
  std::size_t count(std::uint32_t uid = kUser) const { return buffers.of(uid, 0).size(); }
};

BOOST_FIXTURE_TEST_SUITE(shared_buffers, Story)

BOOST_AUTO_TEST_CASE(sessions_of_a_user_share_a_name_and_the_last_one_ends_it) {
  const auto made = open(kAnn, 1, "a").value();
  BOOST_TEST(made.created);
  made.memory->data()[3] = std::byte{9};
  const auto again = open(kBob, 5, "a", 0).value();
  BOOST_TEST(!again.created);
  BOOST_TEST(again.bytes == 64u);
  BOOST_TEST((again.memory->data()[3] == std::byte{9}));
  buffers.end_session(kAnn);
  BOOST_TEST(count() == 1u);
  buffers.close(kBob, 5);
  BOOST_TEST(count() == 0u);
  BOOST_TEST(buffers.bytes() == 0u);
  BOOST_TEST(open(kAnn, 1, "a", 0, Create::never).error().errc() == Errc::unknown_object);
}

BOOST_AUTO_TEST_CASE(others_see_nothing_of_it) {
  open(kAnn, 1, "a").value();
  BOOST_TEST(open(kBob, 1, "a", 64, Create::never, kOther).error().errc() == Errc::unknown_object);
  BOOST_TEST(open(kBob, 1, "a", 64, Create::exclusive, kOther)->created);
  BOOST_TEST(count() == 1u);
  BOOST_TEST(count(kOther) == 1u);
}

BOOST_AUTO_TEST_CASE(a_number_names_one_thing) {
  open(kAnn, 1, "a").value();
  open(kAnn, 1, "b").value();
  BOOST_TEST(count() == 1u);
  BOOST_TEST(buffers.of(kUser, 0)[0]->name == "b");
  const auto same = open(kAnn, 1, "b").value();  // not a new one, although nothing else kept it
  BOOST_TEST(!same.created);
  BOOST_TEST(!open(kAnn, 1, "b", 64, Create::exclusive));
  BOOST_TEST(count() == 0u);
}

BOOST_AUTO_TEST_CASE(one_session_may_have_it_open_twice) {
  open(kAnn, 1, "a").value();
  open(kAnn, 2, "a").value();
  buffers.close(kAnn, 1);
  BOOST_TEST(count() == 1u);
  buffers.close(kAnn, 1);
  buffers.close(kAnn, 7);
  BOOST_TEST(count() == 1u);
  buffers.end_session(kAnn);
  BOOST_TEST(count() == 0u);
}

BOOST_AUTO_TEST_CASE(one_without_a_name_is_counted_but_its_descriptor_is_not_kept) {
  const auto made = open(kAnn, 1, "").value();
  BOOST_TEST(made.memory.use_count() == 1);
  BOOST_TEST(open(kAnn, 2, "")->created);
  BOOST_TEST(count() == 2u);
  BOOST_TEST(buffers.of(kUser, buffers.of(kUser, 0)[0]->number).size() == 1u);
  BOOST_TEST(buffers.bytes() == 128u);
  BOOST_TEST(open(kAnn, 3, "", 64, Create::never).error().errc() == Errc::unknown_object);
}

BOOST_AUTO_TEST_CASE(sizes_are_bounded) {
  BOOST_TEST(open(kAnn, 1, "", 7).error().errc() == Errc::bad_argument);
  BOOST_TEST(open(kAnn, 1, "", 8).has_value());
  BOOST_TEST(open(kAnn, 2, "", kMost).error().errc() == Errc::store_full);
  BOOST_TEST(open(kAnn, 2, "", ~std::uint64_t{0}).error().errc() == Errc::store_full);
  BOOST_TEST(open(kAnn, 2, "", kMost - 8).has_value());
  BOOST_TEST(open(kBob, 1, "", 8).error().errc() == Errc::store_full);
  BOOST_TEST(open(kBob, 1, "", kMost, Create::open, kOther).has_value());
  buffers.end_session(kAnn);
  BOOST_TEST(open(kBob, 2, "", kMost).has_value());
}

BOOST_AUTO_TEST_CASE(names_are_bounded) {
  for (std::uint32_t i = 0; i < Buffers::kMaxNamed; ++i) open(kAnn, i + 1, std::to_string(i), 8).value();
  BOOST_TEST(open(kAnn, 5000, "more", 8).error().errc() == Errc::limit_reached);
  BOOST_TEST(open(kBob, 1, "more", 8, Create::open, kOther).has_value());
  BOOST_TEST(open(kAnn, 5000, "", 8).has_value());
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool::store
