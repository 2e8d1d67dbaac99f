#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <numeric>

#include "fake_server.hpp"

using namespace taskpool;
using namespace taskpool::test;

namespace {

constexpr std::size_t kBig = 200'000;

std::string pattern(std::size_t bytes, char first = 'a') {
  std::string text(bytes, ' ');
  for (std::size_t i = 0; i < bytes; ++i) text[i] = static_cast<char>(first + i % 23);
  return text;
}

/// The supervisor's side of both arenas, with echoing.
struct Arenas {
  explicit Arenas(Peer& session) : peer{session} {}

  Peer& peer;
  std::vector<std::span<std::byte>> up;
  std::span<std::byte> down;
  std::vector<ArenaRef> released;
  std::uint64_t max_segment = ~std::uint64_t{0};

  /// The next frame that is not about arenas.
  Frame next() {
    for (;;) {
      auto frame = peer.next();
      if (frame.prefix.op == Op::arena_open) {
        open(frame);
      } else if (frame.prefix.op == Op::arena_release) {
        for (std::size_t at = 0; at < frame.body.size(); at += sizeof(ArenaRef))
          released.push_back(load<ArenaRef>(frame.body.data() + at));
      } else {
        return frame;
      }
    }
  }
  void open(const Frame& request) {
    const auto bytes = request.fields()["bytes"].get<std::uint64_t>();
    if (bytes > max_segment || up.size() == 2) return peer.error(request, "out_of_space", "the session's arena");
    const auto memory = make_segment(bytes);
    up.push_back(map_segment(memory, bytes));
    const int fd = memory.get();
    peer.ok(request, nlohmann::json{{"segment", up.size()}, {"bytes", bytes}}.dump(), std::span{&fd, 1});
  }
  void open_down(std::size_t bytes) {
    const auto memory = make_segment(bytes);
    down = map_segment(memory, bytes);
    Prefix prefix;
    prefix.op = Op::arena_segment;
    const int fd = memory.get();
    peer.send(prefix, nlohmann::json{{"segment", 1}, {"bytes", bytes}}.dump(), {}, std::span{&fd, 1});
  }
  std::span<const std::byte> argument(const Frame& call, std::size_t item = 0) {
    expect((call.prefix.flags & kInArena) != 0);
    const auto ref = load<ArenaRef>(call.body.data() + item * sizeof(ArenaRef));
    return up.at(ref.segment - 1).subspan(ref.offset, ref.bytes);
  }
  void echo(const Frame& call, std::uint64_t offset = 0) {
    const auto bytes = argument(call);
    std::copy(bytes.begin(), bytes.end(), down.begin() + static_cast<std::ptrdiff_t>(offset));
    const ArenaRef ref{1, offset, bytes.size()};
    Prefix prefix;
    prefix.op = call.prefix.op == Op::apply ? Op::result : Op::results;
    prefix.request = call.prefix.request;
    prefix.flags = kInArena;
    prefix.encoding = call.prefix.encoding;
    prefix.count = call.prefix.count;
    peer.send(prefix, {}, std::as_bytes(std::span{&ref, 1}));
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(arena)

BOOST_AUTO_TEST_CASE(big_bodies_go_through_shared_memory_and_come_back_in_it) {
  Connected c;
  const auto text = pattern(kBig);
  Arenas arenas{*c.peer};
  {
    const Background serving{[&] {
      arenas.open_down(1 << 20);
      arenas.echo(arenas.next(), 4096);
      arenas.echo(arenas.next(), 4096);
      const auto small = arenas.next();
      c.peer->result(small, "ok", Encoding::bytes);
      c.peer->ok(arenas.next());  // what was given back has gone before this
    }};
    const auto call = c.client.pool().prepare("echo");
    for (int i = 0; i < 2; ++i) {
      auto body = call.apply(as_bytes(text)).value();
      BOOST_TEST(body.in_arena());
      BOOST_TEST((body.text() == text));
      if (i == 0) continue;
      body.keep();
      BOOST_TEST(!body.in_arena());
      BOOST_TEST((body.text() == text));
    }
    BOOST_TEST(call.apply(as_bytes("small")).value().text() == "ok");
    BOOST_TEST(c.client.ping().has_value());
  }
  BOOST_TEST(arenas.up.size() == 1u);  // the second call used the first one's memory again
  BOOST_TEST(arenas.released.size() == 2u);
  BOOST_TEST(((arenas.released[0] == ArenaRef{1, 4096, kBig})));
}

BOOST_AUTO_TEST_CASE(a_buffer_is_sent_from_where_it_was_built) {
  Connected c;
  const auto text = pattern(kBig);
  const Background serving{[&] {
    Arenas arenas{*c.peer};
    const auto call = arenas.next();
    expect((as_text(arenas.argument(call)) == text));
    c.peer->result(call, "1");
    const auto array = arenas.next();
    expect((array.prefix.encoding == Encoding::f64));
    expect(array.prefix.count == kBig / 8);
    c.peer->result(array, "2");
  }};
  auto buffer = c.client.up_buffer(kBig).value();
  std::memcpy(buffer.data().data(), text.data(), kBig);
  const auto call = c.client.pool().prepare("f");
  BOOST_TEST(call.apply(buffer).value().text() == "1");
  BOOST_TEST(call.apply_async(std::move(buffer), Encoding::f64).get().value().text() == "2");
}

BOOST_AUTO_TEST_CASE(a_refused_segment_is_asked_for_smaller) {
  Connected c;
  Arenas arenas{*c.peer};
  arenas.max_segment = 1 << 20;
  const Background serving{[&] {
    const auto call = arenas.next();
    expect(arenas.argument(call).size() == kBig);
    c.peer->result(call, "1");
    const auto other = arenas.next();
    c.peer->result(other, "2");
  }};
  const auto call = c.client.pool().prepare("f");
  BOOST_TEST(call.apply(as_bytes(pattern(kBig))).value().text() == "1");
  const auto too_much = call.apply(as_bytes(pattern(2 << 20)));
  BOOST_TEST((too_much.error().errc() == Errc::out_of_space));
  BOOST_TEST(call.apply(as_bytes(pattern(kBig))).value().text() == "2");
}

BOOST_AUTO_TEST_CASE(without_more_room_a_call_waits_for_anothers_end) {
  Connected c;
  Arenas arenas{*c.peer};
  arenas.max_segment = 256 * 1024;
  const Background serving{[&] {
    std::vector<Frame> calls{arenas.next(), arenas.next()};
    c.peer->result(calls[1], "1");
    calls[1] = arenas.next();
    expect((as_text(arenas.argument(calls[1])) == pattern(kBig, 'c')));
    c.peer->result(calls[1], "2");
    c.peer->result(calls[0], "0");
  }};
  const auto call = c.client.pool().prepare("f");
  std::vector<RawFuture> futures;
  for (const char first : {'a', 'b', 'c'})
    futures.push_back(call.apply_async(Item::raw(as_bytes(pattern(kBig, first)))));
  for (std::size_t i = 0; i < 3; ++i) BOOST_TEST(futures[i].get().value().text() == std::to_string(i));
}

BOOST_AUTO_TEST_CASE(a_map_mixes_large_and_small_items) {
  Connected c;
  Arenas arenas{*c.peer};
  const auto large = pattern(kBig);
  const Background serving{[&] {
    arenas.open_down(1 << 20);
    std::uint32_t first = 0;
    for (bool last = false; !last;) {
      const auto frame = arenas.next();
      last = (frame.prefix.flags & kLast) != 0;
      Prefix prefix;
      prefix.op = Op::results;
      prefix.request = frame.prefix.request;
      prefix.target = first;
      prefix.encoding = Encoding::bytes;
      prefix.count = frame.prefix.count;
      first += frame.prefix.count;
      if ((frame.prefix.flags & kInArena) != 0) {
        const auto bytes = arenas.argument(frame);
        std::copy(bytes.begin(), bytes.end(), arenas.down.begin());
        const ArenaRef ref{1, 0, bytes.size()};
        prefix.flags = kInArena;
        c.peer->send(prefix, {}, std::as_bytes(std::span{&ref, 1}));
      } else if (frame.prefix.count > 0) {
        c.peer->send(prefix, {}, frame.body);
      }
      if (last) c.peer->done(frame.prefix.request, first);
    }
  }};
  const auto bytes_of = [](const std::string& text) {
    const auto view = as_bytes(text);
    return Bytes(view.begin(), view.end());
  };
  const std::vector<Bytes> inputs{bytes_of("one"), bytes_of(large), bytes_of("three")};
  BOOST_TEST((c.client.pool().map<Bytes>("echo", inputs).value() == inputs));
}

BOOST_AUTO_TEST_CASE(a_long_array_is_one_reference) {
  Connected c;
  Arenas arenas{*c.peer};
  std::vector<std::int64_t> inputs(100'000);
  std::iota(inputs.begin(), inputs.end(), 0);
  const Background serving{[&] {
    arenas.open_down(1 << 20);
    const auto frame = arenas.next();
    expect(frame.prefix.count == 100'000u);
    arenas.echo(frame);
    expect((arenas.next().prefix.flags & kLast) != 0);
    c.peer->done(frame.prefix.request, frame.prefix.count);
  }};
  BOOST_TEST((c.client.pool().map<std::int64_t>("echo", inputs).value() == inputs));
}

BOOST_AUTO_TEST_CASE(calls_with_a_key_are_sent_again_through_the_next_arena) {
  Connected c;
  const auto call = c.client.pool().with({.idempotency_key = "k"}).prepare("first_letter");
  const Background serving{[&] {
    Arenas arenas{*c.peer};
    for (int i = 0; i < 3; ++i) (void)arenas.next();
    c.peer->close();
    auto peer = c.server.accept();
    Arenas others{peer};
    others.max_segment = 256 * 1024;  // of which there are two: the third call waits for another's end
    for (int i = 0; i < 3; ++i) {
      const auto again = others.next();
      const auto text = as_text(others.argument(again));
      expect(text == pattern(kBig, text.front()));
      peer.result(again, text.substr(0, 1), Encoding::bytes);
    }
  }};
  auto buffer = c.client.up_buffer(kBig).value();
  const auto built = pattern(kBig, 'c');
  std::memcpy(buffer.data().data(), built.data(), kBig);
  std::vector<RawFuture> futures;
  for (const char first : {'a', 'b'}) futures.push_back(call.apply_async(Item::raw(as_bytes(pattern(kBig, first)))));
  futures.push_back(call.apply_async(std::move(buffer)));
  std::string firsts;
  for (auto& future : futures) firsts += future.get().value().text();
  BOOST_TEST(firsts == "abc");
}

BOOST_AUTO_TEST_CASE(a_map_with_a_key_gives_its_places_back_and_is_sent_again_through_the_next_arena) {
  Connected c;
  std::vector<std::string> inputs{"small"};
  for (char first = 'a'; first <= 'e'; ++first) inputs.push_back(pattern(kBig, first));
  const auto read = [&](Arenas& arenas) {
    std::vector<std::string> items;
    for (;;) {
      const auto frame = arenas.next();
      if (frame.prefix.op == Op::ping) {
        arenas.peer.ok(frame);
        continue;
      }
      if ((frame.prefix.flags & kInArena) != 0) {
        items.emplace_back(as_text(arenas.argument(frame)));
      } else if (frame.prefix.count > 0) {
        for (auto& item : frame.items()) items.push_back(std::move(item));
      }
      if ((frame.prefix.flags & kLast) != 0) return std::pair{frame.prefix.request, items};
    }
  };
  const Background serving{[&] {
    Arenas arenas{*c.peer};
    arenas.max_segment = 256 * 1024;  // five items in two places: they are free once they have been read
    expect(read(arenas).second.size() == 6);
    c.peer->close();
    auto peer = c.server.accept();
    Arenas others{peer};
    others.max_segment = 256 * 1024;
    const auto [job, items] = read(others);
    for (std::size_t i = 0; i < items.size(); ++i) expect(items[i] == "\"" + inputs[i] + "\"");
    peer.results(job, 0, {"0", "1", "2", "3", "4", "5"});
    peer.done(job, 6);
  }};
  const auto outputs = c.client.pool().with({.idempotency_key = "k"}).map<int>("f", inputs);
  BOOST_TEST(outputs.value() == (std::vector{0, 1, 2, 3, 4, 5}));
}

BOOST_AUTO_TEST_CASE(a_body_outlives_its_client) {
  Body body;
  {
    Connected c;
    Arenas arenas{*c.peer};
    const Background serving{[&] {
      arenas.open_down(1 << 20);
      arenas.echo(arenas.next());
    }};
    body = c.client.pool().prepare("echo").apply(as_bytes(pattern(kBig))).value();
  }
  BOOST_TEST((body.text() == pattern(kBig)));
}

BOOST_AUTO_TEST_SUITE_END()
