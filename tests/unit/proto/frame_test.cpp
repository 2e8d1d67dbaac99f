#include "proto/frame.hpp"

#include <algorithm>
#include <array>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <random>
#include <string>
#include <vector>

namespace taskpool {
namespace {

using Bytes = std::vector<std::byte>;

/// What came out of a decoder: frames that own their bytes, and the error that ended the stream, if one did.
struct Decoded {
  struct Frame {
    Prefix prefix;
    std::string head;
    std::string body;
    bool operator==(const Frame& other) const {
      return head == other.head && body == other.body && prefix.op == other.prefix.op &&
             prefix.request == other.prefix.request && prefix.target == other.prefix.target &&
             prefix.count == other.prefix.count && prefix.flags == other.prefix.flags &&
             prefix.encoding == other.prefix.encoding && prefix.fds == other.prefix.fds;
    }
  };
  std::vector<Frame> frames;
  std::optional<Errc> error;
  bool at_border = false;
};

/// Decodes a stream that arrives in parts; `part(left)` says how large the next one is.
template <class Part>
Decoded decode_stream(std::span<const std::byte> stream, Part part) {
  Decoded decoded;
  FrameDecoder decoder;
  while (!stream.empty()) {
    const std::size_t bytes = std::min<std::size_t>(part(stream.size()), stream.size());
    decoder.feed(stream.first(bytes));
    stream = stream.subspan(bytes);
    for (;;) {
      const auto frame = decoder.next();
      if (!frame) {
        decoded.error = frame.error().errc();
        return decoded;
      }
      if (!*frame) break;
      const FrameView& view = **frame;
      decoded.frames.push_back({view.prefix, std::string{view.head}, std::string{as_text(view.body)}});
    }
  }
  decoded.at_border = decoder.at_border();
  return decoded;
}

/// A stream of frames of many sizes, empty ones and a largest one among them.
Bytes sample_stream() {
  ByteBuffer out;
  append_frame(out, {.op = Op::ping, .request = 1});
  append_frame(out, {.op = Op::hello, .request = 2}, R"({"version":1})");
  append_frame(out, {.op = Op::apply, .encoding = Encoding::bytes, .target = 7, .count = 1, .request = ~0ull}, {},
               as_bytes("body"));
  append_frame(out, {.op = Op::input, .flags = kLast, .encoding = Encoding::json, .fds = 8, .count = 2, .request = 3},
               "{}", as_bytes("first"), as_bytes("second"));
  append_frame(out, {.op = Op::results, .encoding = Encoding::u8, .count = 200'000}, {}, Bytes(200'000));
  append_frame(out, {.op = Op::result, .count = 1}, "{" + std::string(kMaxFrameHeadBytes - 2, ' ') + "}");
  append_frame(out, {.op = Op::exited}, R"({"worker":1,"pid":2})");
  const auto bytes = out.data();
  return {bytes.begin(), bytes.end()};
}

Bytes prefix_bytes(const Prefix& prefix) {
  Bytes bytes(kPrefixBytes);
  encode_prefix(prefix, std::span<std::byte, kPrefixBytes>{bytes.data(), kPrefixBytes});
  return bytes;
}

Result<Prefix> decode_bytes(const Bytes& bytes) {
  return decode_prefix(std::span<const std::byte, kPrefixBytes>{bytes.data(), kPrefixBytes});
}

BOOST_AUTO_TEST_SUITE(frame)

BOOST_AUTO_TEST_CASE(each_field_of_a_prefix_has_its_place) {
  const auto bytes = prefix_bytes({.op = Op::map,
                                   .flags = kInArena | kLast,
                                   .encoding = Encoding::f64,
                                   .fds = 5,
                                   .target = 0x44434241,
                                   .count = 0x54535251,
                                   .request = 0x3837363534333231,
                                   .head = 0x6261,
                                   .body = 0x000f7271});
  const std::string want = {'\x71', '\x72', '\x0f', 0,   'a', 'b', 9,   3,   '1', '2', '3', '4', '5', '6', '7', '8',
                            'A',    'B',    'C',    'D', 'Q', 'R', 'S', 'T', 25,  5,   0,   0,   0,   0,   0,   0};
  BOOST_TEST(as_text(bytes) == want);

  const auto prefix = decode_bytes(bytes).value();
  BOOST_TEST((prefix.op == Op::map));
  BOOST_TEST(prefix.flags == (kInArena | kLast));
  BOOST_TEST((prefix.encoding == Encoding::f64));
  BOOST_TEST(prefix.fds == 5);
  BOOST_TEST(prefix.target == 0x44434241u);
  BOOST_TEST(prefix.count == 0x54535251u);
  BOOST_TEST(prefix.request == 0x3837363534333231u);
  BOOST_TEST(prefix.head == 0x6261);
  BOOST_TEST(prefix.body == 0x000f7271u);
}

BOOST_AUTO_TEST_CASE(numbers_that_are_no_op_are_refused) {
  int known = 0;
  for (int number = 0; number < 256; ++number) {
    const auto op = static_cast<Op>(number);
    const auto prefix = decode_bytes(prefix_bytes({.op = op}));
    BOOST_TEST(prefix.has_value() == !name(op).empty());
    if (prefix)
      ++known;
    else
      BOOST_TEST((prefix.error().errc() == Errc::bad_message));
  }
  BOOST_TEST(known == 67);
  BOOST_TEST(name(Op::apply) == "apply");
  BOOST_TEST(name(Op::want_room) == "want_room");
  BOOST_TEST(name(Op::fork_failed) == "fork_failed");
}

BOOST_AUTO_TEST_CASE(numbers_that_are_no_encoding_are_refused) {
  for (int number = 0; number < 256; ++number) {
    const auto encoding = static_cast<Encoding>(number);
    const bool known = number <= 3 || (number >= 16 && number <= 25);
    const auto prefix = decode_bytes(prefix_bytes({.op = Op::apply, .encoding = encoding}));
    BOOST_TEST(prefix.has_value() == known);
    BOOST_TEST(name(encoding).empty() != known);
    if (known) BOOST_TEST((find_encoding(name(encoding)) == encoding));
  }
  BOOST_TEST(!find_encoding(""));
  BOOST_TEST(!find_encoding("i128"));
}

struct BadPrefix {
  const char* what;
  std::size_t at;
  std::uint8_t value;
  Errc code;
};
std::ostream& operator<<(std::ostream& out, const BadPrefix& bad) { return out << bad.what; }

const std::array kBadPrefixes{
    BadPrefix{"a body one byte over the limit", 0, 1, Errc::frame_too_large},
    BadPrefix{"a body of 4 GiB", 3, 0xff, Errc::frame_too_large},
    BadPrefix{"op 0", 6, 0, Errc::bad_message},
    BadPrefix{"an unknown flag", 7, 4, Errc::bad_message},
    BadPrefix{"an unknown encoding", 24, 15, Errc::bad_message},
    BadPrefix{"nine descriptors", 25, 9, Errc::bad_message},
    BadPrefix{"the first reserved byte", 26, 1, Errc::bad_message},
    BadPrefix{"the last reserved byte", 31, 0x80, Errc::bad_message},
};

BOOST_DATA_TEST_CASE(a_bad_prefix_ends_the_stream, kBadPrefixes, bad) {
  auto bytes = prefix_bytes({.op = Op::apply, .body = static_cast<std::uint32_t>(kMaxFrameBodyBytes)});
  BOOST_REQUIRE(decode_bytes(bytes).has_value());
  bytes[bad.at] = static_cast<std::byte>(bad.value);
  const auto prefix = decode_bytes(bytes);
  BOOST_REQUIRE(!prefix.has_value());
  BOOST_TEST((prefix.error().errc() == bad.code));
  BOOST_TEST(!prefix.error().detail.empty());

  FrameDecoder decoder;
  decoder.feed(prefix_bytes({.op = Op::ping}));
  decoder.feed(bytes);
  BOOST_TEST(decoder.next().value().has_value());  // what came before it is fine
  for (int again = 0; again < 2; ++again) BOOST_TEST((decoder.next().error().errc() == bad.code));
}

BOOST_AUTO_TEST_CASE(a_head_that_is_no_object_ends_the_stream) {
  ByteBuffer out;
  append_frame(out, {.op = Op::ping}, "[1]");
  FrameDecoder decoder;
  decoder.feed(out.data());
  BOOST_TEST((decoder.next().error().errc() == Errc::bad_message));
}

BOOST_AUTO_TEST_CASE(any_split_of_a_stream_gives_the_same_frames) {
  const auto stream = sample_stream();
  const auto whole = decode_stream(stream, [](std::size_t left) { return left; });
  BOOST_TEST(whole.frames.size() == 7);
  BOOST_TEST(whole.at_border);
  BOOST_TEST(whole.frames[2].body == "body");
  BOOST_TEST(whole.frames[3].body == "firstsecond");
  BOOST_TEST(whole.frames[3].prefix.fds == 8);
  BOOST_TEST(whole.frames[4].body.size() == 200'000u);

  for (const std::size_t step : {1u, 2u, 31u, 32u, 33u, 4096u, 65536u}) {
    const auto parts = decode_stream(stream, [step](std::size_t) { return step; });
    BOOST_TEST((parts.frames == whole.frames), "parts of " << step);
    BOOST_TEST(parts.at_border);
  }
  std::mt19937 random{1};
  for (int round = 0; round < 20; ++round) {
    const auto parts = decode_stream(stream, [&](std::size_t) { return 1 + random() % 5000; });
    BOOST_TEST((parts.frames == whole.frames), "round " << round);
  }
}

BOOST_AUTO_TEST_CASE(every_border_inside_small_frames_is_fine) {
  ByteBuffer out;
  append_frame(out, {.op = Op::hello, .request = 1}, R"({"version":1})", as_bytes("x"));
  append_frame(out, {.op = Op::ping, .request = 2});
  const Bytes stream{out.data().begin(), out.data().end()};
  for (std::size_t border = 1; border < stream.size(); ++border) {
    bool first = true;
    const auto parts =
        decode_stream(stream, [&](std::size_t left) { return std::exchange(first, false) ? border : left; });
    BOOST_TEST(parts.frames.size() == 2);
  }
}

BOOST_AUTO_TEST_CASE(an_unfinished_frame_is_not_at_a_border) {
  ByteBuffer out;
  append_frame(out, {.op = Op::apply}, {}, as_bytes("body"));
  FrameDecoder decoder;
  BOOST_TEST(decoder.at_border());
  decoder.feed(out.data().first(kPrefixBytes + 3));
  BOOST_TEST(!decoder.next().value().has_value());
  BOOST_TEST(!decoder.at_border());
  decoder.feed(out.data().last(1));
  BOOST_TEST(decoder.next().value().has_value());
  BOOST_TEST(decoder.at_border());
}

BOOST_AUTO_TEST_CASE(bytes_can_be_read_straight_into_the_decoder) {
  ByteBuffer out;
  append_frame(out, {.op = Op::apply}, {}, as_bytes("body"));
  FrameDecoder decoder;
  const auto room = decoder.prepare(4096);
  BOOST_REQUIRE(room.size() >= 4096);
  std::copy(out.data().begin(), out.data().end(), room.begin());
  decoder.commit(out.size());
  const auto frame = decoder.next().value();
  BOOST_REQUIRE(frame.has_value());
  BOOST_TEST(as_text(frame->body) == "body");
}

BOOST_AUTO_TEST_CASE(a_byte_buffer_keeps_the_order_of_what_passes_through_it) {
  ByteBuffer buffer;
  std::mt19937 random{2};
  std::uint32_t written = 0;
  std::uint32_t read = 0;
  for (int round = 0; round < 5000; ++round) {
    Bytes in(random() % 700);
    for (auto& byte : in) byte = static_cast<std::byte>(written++ % 251);
    buffer.append(in);
    const std::size_t out = random() % (buffer.size() + 1);
    for (const auto byte : buffer.data().first(out))
      if (byte != static_cast<std::byte>(read++ % 251)) BOOST_FAIL("byte " << read - 1 << " is wrong");
    buffer.consume(out);
  }
  BOOST_TEST(buffer.size() == written - read);
}

BOOST_AUTO_TEST_CASE(a_moved_byte_buffer_leaves_an_empty_one) {
  ByteBuffer first;
  first.append(as_bytes("abc"));
  ByteBuffer second{std::move(first)};
  BOOST_TEST(as_text(second.data()) == "abc");
  BOOST_TEST(first.empty());
  first.append(as_bytes("de"));
  BOOST_TEST(as_text(first.data()) == "de");
  second = std::move(first);
  BOOST_TEST(as_text(second.data()) == "de");
}

BOOST_AUTO_TEST_CASE(a_large_byte_buffer_gives_its_memory_back_when_it_runs_empty) {
  ByteBuffer buffer;
  const Bytes large(1u << 20);
  buffer.append(large);
  buffer.consume(large.size());
  BOOST_TEST(buffer.prepare(1).size() < large.size());
}

BOOST_AUTO_TEST_CASE(memory_is_lent_and_comes_back_at_a_border) {
  FrameDecoder decoder;
  BOOST_TEST(!decoder.has_memory());
  ByteBuffer memory;
  (void)memory.prepare(64 * 1024);
  decoder.lend(std::move(memory));
  BOOST_TEST(decoder.has_memory());

  ByteBuffer stream;
  append_frame(stream, Prefix{.op = Op::ping, .request = 7});
  decoder.feed(stream.data().first(10));
  BOOST_REQUIRE(!decoder.next().value().has_value());
  BOOST_TEST(decoder.take_back().capacity() == 0u);  // a part of a frame is in it
  decoder.feed(stream.data().subspan(10));
  const auto frame = decoder.next();
  BOOST_REQUIRE(frame.value().has_value());
  BOOST_TEST(decoder.take_back().capacity() == 0u);  // the frame is still being looked at
  BOOST_TEST(frame.value()->prefix.request == 7u);
  BOOST_REQUIRE(!decoder.next().value().has_value());
  BOOST_TEST(decoder.take_back().capacity() >= 64u * 1024);
  BOOST_TEST(!decoder.has_memory());

  decoder.feed(stream.data());  // goes on without
  BOOST_TEST(decoder.next().value()->prefix.request == 7u);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool
