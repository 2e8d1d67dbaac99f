#include "proto/items.hpp"

#include <boost/test/unit_test.hpp>
#include <string>
#include <vector>

namespace taskpool {
namespace {

using Bytes = std::vector<std::byte>;

Bytes packed(const std::vector<std::string>& items) {
  Packer packer;
  for (const auto& item : items) packer.add(as_bytes(item));
  Bytes body{packer.table().begin(), packer.table().end()};
  body.insert(body.end(), packer.payload().begin(), packer.payload().end());
  BOOST_TEST(body.size() == packer.bytes());
  return body;
}

Bytes references(const std::vector<ArenaRef>& all) {
  const auto bytes = std::as_bytes(std::span{all});
  return {bytes.begin(), bytes.end()};
}

/// The code that check_items() fails with, or ok.
Errc check(std::uint8_t flags, Encoding encoding, std::uint32_t count, const Bytes& body) {
  const auto checked = check_items(flags, encoding, count, body);
  return checked ? Errc::ok : checked.error().errc();
}
Errc check_one(std::uint8_t flags, Encoding encoding, std::uint32_t count, const Bytes& body) {
  const auto checked = check_single(flags, encoding, count, body);
  return checked ? Errc::ok : checked.error().errc();
}

BOOST_AUTO_TEST_SUITE(items)

BOOST_AUTO_TEST_CASE(packed_items_come_back_in_order) {
  const std::vector<std::string> want{"first", "", std::string(kMaxInlineItemBytes, 'x'), "last"};
  const auto body = packed(want);
  BOOST_TEST(check(0, Encoding::bytes, 4, body) == Errc::ok);
  PackedItems items{4, body};
  for (std::uint32_t index = 0; !items.done(); ++index) {
    BOOST_TEST(items.index() == index);
    BOOST_TEST(as_text(items.next()) == want.at(index));
  }
  BOOST_TEST(items.index() == 4u);
}

BOOST_AUTO_TEST_CASE(no_items_at_all_are_a_well_formed_body) {
  BOOST_TEST(check(0, Encoding::json, 0, {}) == Errc::ok);
  BOOST_TEST(check(0, Encoding::i64, 0, {}) == Errc::ok);
  BOOST_TEST(check(kInArena, Encoding::bytes, 0, {}) == Errc::ok);
  BOOST_TEST((PackedItems{0, {}}.done()));
}

BOOST_AUTO_TEST_CASE(a_packer_starts_over_when_cleared) {
  Packer packer;
  BOOST_TEST(packer.empty());
  packer.add(as_bytes("abc"));
  BOOST_TEST(packer.count() == 1u);
  BOOST_TEST(packer.bytes() == 7u);
  packer.clear();
  BOOST_TEST(packer.empty());
  BOOST_TEST(packer.bytes() == 0u);
}

BOOST_AUTO_TEST_CASE(a_table_that_does_not_fit_its_body_is_refused) {
  auto body = packed({"ab", "cd"});                                              // 12 bytes
  BOOST_TEST(check(0, Encoding::bytes, 3, body) == Errc::body_too_large);        // the third length is items' text
  BOOST_TEST(check(0, Encoding::bytes, 0xffffffff, body) == Errc::bad_message);  // a table of 16 GiB
  for (const std::size_t bytes : {0u, 7u, 8u, 11u}) {
    const Bytes shorter{body.begin(), body.begin() + static_cast<std::ptrdiff_t>(bytes)};
    BOOST_TEST(check(0, Encoding::bytes, 2, shorter) == Errc::bad_message, bytes << " bytes");
  }
  body.push_back(std::byte{0});
  BOOST_TEST(check(0, Encoding::bytes, 2, body) == Errc::bad_message);
}

BOOST_AUTO_TEST_CASE(lengths_whose_sum_overflows_are_refused) {
  Bytes body(8);
  store_le(body.data(), std::uint32_t{0xffffffff});
  store_le(body.data() + 4, std::uint32_t{1});
  BOOST_TEST(check(0, Encoding::bytes, 2, body) == Errc::body_too_large);
}

BOOST_AUTO_TEST_CASE(an_item_over_the_limit_is_refused_by_its_size) {
  Bytes body(4 + kMaxInlineItemBytes + 1);
  store_le(body.data(), static_cast<std::uint32_t>(kMaxInlineItemBytes + 1));
  BOOST_TEST(check(0, Encoding::json, 1, body) == Errc::body_too_large);
}

BOOST_AUTO_TEST_CASE(items_without_encoding_are_empty) {
  BOOST_TEST(check(0, Encoding::none, 2, packed({"", ""})) == Errc::ok);
  BOOST_TEST(check(0, Encoding::none, 2, packed({"", "x"})) == Errc::bad_message);
}

BOOST_AUTO_TEST_CASE(an_array_has_whole_elements) {
  BOOST_TEST(check(0, Encoding::i64, 3, Bytes(24)) == Errc::ok);
  BOOST_TEST(check(0, Encoding::i64, 3, Bytes(23)) == Errc::bad_message);
  BOOST_TEST(check(0, Encoding::u8, 3, Bytes(3)) == Errc::ok);
  BOOST_TEST(check(0, Encoding::f32, 0x40000001, Bytes(4)) == Errc::bad_message);  // 2^32 + 4 bytes, no overflow
}

BOOST_AUTO_TEST_CASE(references_name_places_in_an_arena) {
  const ArenaRef good{1, 64, 100};
  BOOST_TEST(check(kInArena, Encoding::bytes, 2, references({good, {}})) == Errc::ok);
  BOOST_TEST(check(kInArena, Encoding::bytes, 1, references({good, {}})) == Errc::bad_message);
  BOOST_TEST(check(kInArena, Encoding::bytes, 3, references({good, {}})) == Errc::bad_message);
  const std::vector<ArenaRef> bad{
      {0, 64, 100},                  // no segment
      {kMaxSegments + 1, 64, 100},   // nor this
      {1, 8, 100},                   // not aligned
      {1, 0, 0},                     // empty, but not all zero
      {1, kMaxSegmentBytes, 64},     // behind the largest segment
      {1, ~std::uint64_t{63}, 128},  // its end overflows
      {1, 0, kMaxSegmentBytes + 1},  // longer than a segment
  };
  for (const auto& ref : bad)
    BOOST_TEST(check(kInArena, Encoding::bytes, 1, references({ref})) == Errc::bad_message,
               ref.segment << " " << ref.offset);
  BOOST_TEST(check(kInArena, Encoding::bytes, 1, references({{1, 0, kMaxSegmentBytes}})) == Errc::ok);
}

BOOST_AUTO_TEST_CASE(an_array_in_an_arena_is_one_reference_of_its_size) {
  BOOST_TEST(check(kInArena, Encoding::i64, 1000, references({{1, 0, 8000}})) == Errc::ok);
  BOOST_TEST(check(kInArena, Encoding::i64, 1000, references({{1, 0, 7999}})) == Errc::bad_message);
  BOOST_TEST(check(kInArena, Encoding::i64, 2, references({{1, 0, 8}, {1, 64, 8}})) == Errc::bad_message);
  BOOST_TEST(check(kInArena, Encoding::i64, 0, references({{}})) == Errc::ok);
}

BOOST_AUTO_TEST_CASE(a_single_body_is_one_item) {
  BOOST_TEST(check_one(0, Encoding::json, 1, Bytes(5)) == Errc::ok);
  BOOST_TEST(check_one(0, Encoding::none, 1, {}) == Errc::ok);
  BOOST_TEST(check_one(0, Encoding::none, 1, Bytes(1)) == Errc::bad_message);
  BOOST_TEST(check_one(0, Encoding::json, 2, Bytes(5)) == Errc::bad_message);
  BOOST_TEST(check_one(0, Encoding::json, 0, Bytes(5)) == Errc::bad_message);
  BOOST_TEST(check_one(0, Encoding::bytes, 1, Bytes(kMaxInlineItemBytes)) == Errc::ok);
  BOOST_TEST(check_one(0, Encoding::bytes, 1, Bytes(kMaxInlineItemBytes + 1)) == Errc::body_too_large);
  BOOST_TEST(check_one(0, Encoding::f64, 2, Bytes(16)) == Errc::ok);
  BOOST_TEST(check_one(0, Encoding::f64, 2, Bytes(8)) == Errc::bad_message);
  BOOST_TEST(check_one(kInArena, Encoding::bytes, 1, references({{1, 0, 1u << 20}})) == Errc::ok);
  BOOST_TEST(check_one(kInArena, Encoding::f64, 2, references({{1, 0, 16}})) == Errc::ok);
  BOOST_TEST(check_one(kInArena, Encoding::f64, 3, references({{1, 0, 16}})) == Errc::bad_message);
  BOOST_TEST(check_one(kInArena, Encoding::bytes, 1, Bytes(23)) == Errc::bad_message);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool
