#include "proto/store_body.hpp"

#include <boost/test/unit_test.hpp>
#include <string>

namespace taskpool::store {
namespace {

using Bytes = std::vector<std::byte>;

std::string text(std::span<const std::byte> bytes) { return std::string{as_text(bytes)}; }

/// The error of reading `count` operations, or "".
std::string wrong(const Bytes& body, std::uint32_t count) {
  Operation operation;
  for (OperationReader operations{body, count}; !operations.done();)
    if (const auto read = operations.next(operation); !read) return std::string{name(read.error().errc())};
  return "";
}

/// The next one, which is there.
Operation next(OperationReader& operations) {
  Operation operation;
  operations.next(operation).value();
  return operation;
}

Bytes one_set(std::span<const std::byte> value = as_bytes("42")) {
  Bytes body;
  BodyWriter out{body};
  out.begin(Code::set, 7);
  out.key(as_bytes("\3ada"));
  out.value(Encoding::json, value);
  return body;
}

BOOST_AUTO_TEST_SUITE(store_body)

BOOST_AUTO_TEST_CASE(operations_read_back_as_they_were_written) {
  Bytes body;
  BodyWriter out{body};
  out.begin(Code::set, 7);
  out.key(as_bytes("\3ada"));
  const std::uint64_t refs[]{26, 27};
  out.value(Encoding::json, as_bytes("[1]"), refs);
  out.integer(-5);
  out.begin(Code::len, 8);
  out.begin(Code::list_extend, 9);
  Bytes items;
  BodyWriter item{items};
  item.value(Encoding::bytes, as_bytes("one"), refs);
  item.value(Encoding::none, {});
  out.items(items);
  out.begin(Code::value_set, 10);
  out.value_in_arena(Encoding::pickle, {1, 64, 100'000});
  BOOST_TEST(out.count() == 4u);

  OperationReader operations{body, 4};
  const auto set = next(operations);
  BOOST_TEST((set.info->code == Code::set));
  BOOST_TEST(set.target == 7u);
  BOOST_TEST(set.count == 3u);
  BOOST_TEST(text(set.arguments[0].bytes) == "\3ada");
  BOOST_TEST(text(set.arguments[1].bytes) == "[1]");
  BOOST_TEST(set.arguments[1].ref_count() == 2u);
  BOOST_TEST(set.arguments[1].ref(1) == 27u);
  BOOST_TEST(set.integer(2) == -5);
  BOOST_TEST(next(operations).target == 8u);
  const auto extend = next(operations);
  ArgumentReader read{extend.arguments[0].bytes};
  const auto first = read.next().value();
  BOOST_TEST(text(first.bytes) == "one");
  BOOST_TEST(first.ref(0) == 26u);
  BOOST_TEST(read.next()->bytes.empty());
  BOOST_TEST(read.done());
  const auto large = next(operations);
  BOOST_TEST(large.arguments[0].in_arena);
  BOOST_TEST((large.arguments[0].place() == ArenaRef{1, 64, 100'000}));
  BOOST_TEST(operations.done());
}

BOOST_AUTO_TEST_CASE(results_read_back_as_they_were_written) {
  Bytes body;
  BodyWriter out{body};
  out.begin_result();
  out.begin_result();
  const std::uint64_t refs[]{26};
  out.value(Encoding::bytes, as_bytes("x"), refs);
  out.integer(3);
  ResultReader results{body, 2};
  BOOST_TEST(results.next_result().value() == 0u);
  BOOST_TEST(results.next_result().value() == 2u);
  BOOST_TEST(results.next()->ref(0) == 26u);
  BOOST_TEST(results.next()->integer() == 3);
  BOOST_TEST(results.done());
  BOOST_TEST((results.next_result().error().errc() == Errc::bad_message));
}

BOOST_AUTO_TEST_CASE(an_operation_has_the_arguments_of_its_row) {
  const auto write = [](auto fill) {
    Bytes body;
    BodyWriter out{body};
    fill(out);
    return wrong(body, 1);
  };
  BOOST_TEST(write([](auto& out) { out.begin(Code::get, 1); }) == "bad_message");
  BOOST_TEST(write([](auto& out) {
               out.begin(Code::get, 1);
               out.integer(1);
             }) == "bad_message");
  BOOST_TEST(write([](auto& out) {
               out.begin(Code::get, 1);
               out.key(as_bytes("\0"));
               out.integer(1);
             }) == "bad_message");
  BOOST_TEST(write([](auto& out) {
               out.begin(Code::len, 1);
               out.integer(1);
             }) == "bad_message");
  BOOST_TEST(write([](auto& out) {
               out.begin(Code::release, 1);
               out.integer(1);
             }) == "");
  BOOST_TEST(write([](auto& out) {
               out.begin(Code::release, 1);
               out.integer(1);
               out.integer(2);
             }) == "");
  BOOST_TEST(write([](auto& out) { out.begin(static_cast<Code>(9), 1); }) == "bad_message");
  BOOST_TEST(write([](auto& out) { out.begin(static_cast<Code>(65535), 1); }) == "bad_message");
  BOOST_TEST(write([](auto& out) {
               out.begin(Code::get, 1);
               out.key(Bytes(1025));
             }) == "bad_key");
  BOOST_TEST(write([](auto& out) {
               out.begin(Code::value_set, 1);
               out.put(kRefsEncoding, {});
             }) == "bad_message");
  BOOST_TEST(write([](auto& out) {
               out.begin(Code::value_set, 1);
               out.put(15, {});
             }) == "bad_message");
  BOOST_TEST(write([](auto& out) {
               out.begin(Code::value_set, 1);
               out.value(Encoding::i64, as_bytes("1234567"));
             }) == "bad_message");
  BOOST_TEST(write([](auto& out) {
               out.begin(Code::value_set, 1);
               out.value(Encoding::bytes, Bytes(65537));
             }) == "body_too_large");
  BOOST_TEST(write([](auto& out) {
               out.begin(Code::value_set, 1);
               out.value_in_arena(Encoding::bytes, {1, 63, 5});
             }) == "bad_message");
  BOOST_TEST(write([](auto& out) {
               out.begin(Code::value_set, 1);
               out.value_in_arena(Encoding::bytes, {1, 64, 0});
             }) == "bad_message");
  BOOST_TEST(write([](auto& out) {
               out.begin(Code::value_set, 1);
               out.value_in_arena(Encoding::bytes, {1, 64, kMaxStoreValueBytes + 1});
             }) == "body_too_large");
  BOOST_TEST(write([](auto& out) {
               out.begin(Code::value_set, 1);
               out.key(as_bytes("\0"));
             }) == "bad_message");
}

BOOST_AUTO_TEST_CASE(a_body_that_is_cut_or_too_long_is_refused_wherever_it_is) {
  const auto body = one_set();
  BOOST_TEST(wrong(body, 1) == "");
  for (std::size_t size = 0; size < body.size(); ++size)
    BOOST_TEST(wrong({body.begin(), body.begin() + static_cast<std::ptrdiff_t>(size)}, 1) == "bad_message");
  auto longer = body;
  longer.push_back(std::byte{0});
  BOOST_TEST(wrong(longer, 1) == "bad_message");
  BOOST_TEST(wrong(body, 2) == "bad_message");
}

BOOST_AUTO_TEST_CASE(reserved_bytes_are_zero) {
  for (const std::size_t at : {3u, 8u + 5u, 8u + 6u, 8u + 7u}) {
    auto body = one_set();
    body[at] = std::byte{1};
    BOOST_TEST(wrong(body, 1) == "bad_message");
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool::store
