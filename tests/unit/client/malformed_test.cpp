#include <boost/test/unit_test.hpp>

#include "fake_server.hpp"

using namespace taskpool;
using namespace taskpool::test;
using namespace std::chrono_literals;

namespace {

/// What a client does with an answer that breaks the protocol: it ends the connection, and the call has an outcome.
void expect_broken(const std::function<void(Peer&, const Frame&)>& answer) {
  Connected c{{}, [](ClientOptions& options) { options.reconnect_timeout = 20ms; }};
  const Background serving{[&] {
    const auto call = c.peer->next(Op::apply);
    c.server.stop();
    answer(*c.peer, call);
    expect(c.peer->closes());
  }};
  const auto result = c.client.pool().apply<int>("f");
  BOOST_TEST((result.error().errc() == Errc::outcome_unknown));
}

void send_in_arena(Peer& peer, const Frame& to, const ArenaRef& ref) {
  Prefix prefix;
  prefix.op = Op::result;
  prefix.request = to.prefix.request;
  prefix.flags = kInArena;
  prefix.encoding = Encoding::bytes;
  prefix.count = 1;
  peer.send(prefix, {}, std::as_bytes(std::span{&ref, 1}));
}

void send_segment(Peer& peer, std::uint32_t segment, std::size_t bytes, const Fd& memory) {
  Prefix prefix;
  prefix.op = Op::arena_segment;
  const int fd = memory.get();
  peer.send(prefix, nlohmann::json{{"segment", segment}, {"bytes", bytes}}.dump(), {}, std::span{&fd, 1});
}

}  // namespace

BOOST_AUTO_TEST_SUITE(malformed)

BOOST_AUTO_TEST_CASE(garbage_instead_of_a_frame) {
  expect_broken([](Peer& peer, const Frame&) { peer.send_bytes(as_bytes(std::string(64, '\xff'))); });
}

BOOST_AUTO_TEST_CASE(a_frame_cut_off) {
  expect_broken([](Peer& peer, const Frame&) {
    peer.send_bytes(as_bytes(std::string(20, '\0')));
    peer.close();
  });
}

BOOST_AUTO_TEST_CASE(a_head_that_is_no_json) {
  expect_broken([](Peer& peer, const Frame& call) {
    Prefix prefix;
    prefix.op = Op::error;
    prefix.request = call.prefix.request;
    peer.send(prefix, "{");
  });
}

BOOST_AUTO_TEST_CASE(an_op_that_is_no_reply) {
  expect_broken([](Peer& peer, const Frame& call) {
    Prefix prefix;
    prefix.op = Op::run;
    prefix.request = call.prefix.request;
    peer.send(prefix);
  });
}

BOOST_AUTO_TEST_CASE(a_place_in_a_segment_that_does_not_exist) {
  expect_broken([](Peer& peer, const Frame& call) { send_in_arena(peer, call, {1, 0, 64}); });
}

BOOST_AUTO_TEST_CASE(a_place_outside_of_its_segment) {
  expect_broken([](Peer& peer, const Frame& call) {
    send_segment(peer, 1, 4096, make_segment(4096));
    send_in_arena(peer, call, {1, 4032, 128});
  });
}

BOOST_AUTO_TEST_CASE(a_segment_shorter_than_it_says) {
  expect_broken([](Peer& peer, const Frame&) { send_segment(peer, 1, 8192, make_segment(4096)); });
}

BOOST_AUTO_TEST_CASE(a_segment_that_could_shrink) {
  expect_broken([](Peer& peer, const Frame&) { send_segment(peer, 1, 4096, make_segment(4096, false)); });
}

BOOST_AUTO_TEST_CASE(a_segment_twice) {
  expect_broken([](Peer& peer, const Frame&) {
    send_segment(peer, 1, 4096, make_segment(4096));
    send_segment(peer, 1, 4096, make_segment(4096));
  });
}

BOOST_AUTO_TEST_CASE(descriptors_that_did_not_arrive) {
  expect_broken([](Peer& peer, const Frame&) {
    Prefix prefix;
    prefix.op = Op::arena_segment;
    prefix.fds = 1;
    ByteBuffer out;
    append_frame(out, prefix, R"({"segment":1,"bytes":4096})");
    peer.send_bytes(out.data());
  });
}

BOOST_AUTO_TEST_CASE(a_result_for_nobody_is_ignored) {
  Connected c;
  const Background serving{[&] {
    const auto call = c.peer->next(Op::apply);
    auto other = call;
    other.prefix.request += std::uint64_t{1} << 32;
    c.peer->result(other, "1");
    other.prefix.request = 77;
    c.peer->result(other, "2");
    c.peer->result(call, "3");
  }};
  BOOST_TEST(c.client.pool().apply<int>("f").value() == 3);
}

namespace {

void expect_broken_map(const std::function<void(Peer&, std::uint64_t request)>& answer) {
  Connected c{{}, [](ClientOptions& options) { options.reconnect_timeout = 20ms; }};
  const Background serving{[&] {
    const auto frame = c.peer->next(Op::map);
    c.server.stop();
    answer(*c.peer, frame.prefix.request);
    expect(c.peer->closes());
  }};
  const auto result = c.client.pool().map<int>("f", std::vector{1, 2, 3}, {.force_json = true});
  BOOST_TEST((result.error().errc() == Errc::outcome_unknown));
}

}  // namespace

BOOST_AUTO_TEST_CASE(results_of_items_that_there_are_not) {
  expect_broken_map([](Peer& peer, std::uint64_t request) { peer.results(request, 2, {"1", "2"}); });
}

BOOST_AUTO_TEST_CASE(results_twice) {
  expect_broken_map([](Peer& peer, std::uint64_t request) {
    peer.results(request, 0, {"1", "2"});
    peer.failed(request, 1, 1, "worker_lost", "");
  });
}

BOOST_AUTO_TEST_CASE(failures_of_items_that_there_are_not) {
  expect_broken_map([](Peer& peer, std::uint64_t request) { peer.failed(request, 0, 0xffffffff, "cancelled", ""); });
}

BOOST_AUTO_TEST_CASE(a_table_that_does_not_fit_its_items) {
  expect_broken_map([](Peer& peer, std::uint64_t request) {
    Prefix prefix;
    prefix.op = Op::results;
    prefix.request = request;
    prefix.count = 2;
    prefix.encoding = Encoding::json;
    peer.send(prefix, {}, as_bytes("\x09\0\0\0\x09\0\0\0ab"));
  });
}

BOOST_AUTO_TEST_CASE(a_job_that_ends_too_early_fails_the_rest) {
  Connected c;
  const Background serving{[&] {
    const auto frame = c.peer->next(Op::map);
    c.peer->results(frame.prefix.request, 1, {"4"});
    c.peer->done(frame.prefix.request, 3);
  }};
  const auto each = c.client.pool().map_each<int>("f", std::vector{1, 2, 3}, {.force_json = true}).value();
  BOOST_TEST((each[0].error().errc() == Errc::internal));
  BOOST_TEST(each[1].value() == 4);
  BOOST_TEST((each[2].error().errc() == Errc::internal));
}

BOOST_AUTO_TEST_SUITE_END()
