#include "daemon/wire/channel.hpp"

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/test/unit_test.hpp>
#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "daemon/os/fd_passing.hpp"
#include "daemon/wire/spawn.hpp"

namespace taskpool::wire {
namespace {

/// A channel, its peer, and what the peer had got when the turn ended.
struct Fixture : FrameSink {
  boost::asio::io_context io;
  Turn turn{io};
  os::UniqueFd peer;
  std::unique_ptr<Channel> channel;
  std::size_t frames = 0;
  std::size_t got_before_the_end = 0;  ///< Bytes.
  std::chrono::microseconds cost{0};   ///< Of a frame.

  Fixture() {
    auto ends = os::socket_pair();
    BOOST_REQUIRE(ends.has_value());
    peer = std::move(ends->first);
    channel = std::make_unique<Channel>(turn, std::move(ends->second));
    turn.on_end = [this] {
      got_before_the_end = receive();
      channel->close();
    };
  }

  Result<void> on_frame(const FrameView& frame, std::vector<os::UniqueFd>) override {
    ++frames;
    for (const auto until = std::chrono::steady_clock::now() + cost; std::chrono::steady_clock::now() < until;) {
    }
    channel->send(Prefix{.op = Op::ok, .request = frame.prefix.request});
    turn.end_later();
    return boost::system::in_place_value;
  }

  std::size_t receive() {
    std::array<std::byte, 4096> into;
    std::vector<os::UniqueFd> fds;
    return os::receive(peer.get(), into, fds).value().bytes;
  }

  void ask(std::uint64_t request) {
    ByteBuffer out;
    append_frame(out, Prefix{.op = Op::cancel, .request = request}, "{}");
    BOOST_REQUIRE(os::send_all(peer.get(), out.data(), {}).has_value());
  }

  /// Two requests, and the loop until the channel is closed.
  void run() {
    ask(1);
    ask(2);
    std::string failure = "it did not end";
    spawn(io, read(), [&failure](const std::string& how) { failure = how; });
    io.run();
    BOOST_TEST(failure == "");
    BOOST_TEST(frames == 2u);
  }
  boost::asio::awaitable<void> read() {
    const auto ended = co_await channel->read(*this);
    BOOST_TEST(ended.has_value());
  }
};

BOOST_FIXTURE_TEST_SUITE(channels, Fixture)

BOOST_AUTO_TEST_CASE(what_is_queued_leaves_at_the_end_of_the_turn) {
  run();
  BOOST_TEST(got_before_the_end == 0u);
}

BOOST_AUTO_TEST_CASE(answers_of_who_waits_for_them_leave_before_the_turn_ends) {
  channel->answer_at_once();
  run();
  BOOST_TEST(got_before_the_end == 2 * kPrefixBytes);
}

BOOST_AUTO_TEST_CASE(many_frames_that_take_long_are_handled_in_several_turns) {
  constexpr std::size_t kFrames = 100;
  cost = std::chrono::microseconds{100};
  std::vector<std::size_t> by_turns;
  turn.on_end = [&] { by_turns.push_back(frames); };
  for (std::size_t request = 1; request <= kFrames; ++request) ask(request);
  peer.reset();  // the end is seen with the last of them
  bool has_ended = false;
  spawn(io, read(), [&](const std::string&) { has_ended = true; });
  io.run();
  BOOST_TEST(has_ended);
  BOOST_TEST(frames == kFrames);
  BOOST_TEST(by_turns.size() > 2u);
  BOOST_TEST(by_turns.front() < kFrames);
}

BOOST_AUTO_TEST_CASE(what_one_who_died_had_sent_is_handled_to_the_last_frame) {
  constexpr std::size_t kFrames = 100;
  cost = std::chrono::microseconds{100};
  turn.on_end = [this] {
    if (!channel->is_closed()) BOOST_TEST(channel->read_rest(*this).has_value());
    channel->close();
  };
  for (std::size_t request = 1; request <= kFrames; ++request) ask(request);
  peer.reset();
  spawn(io, read(), [](const std::string&) {});
  io.run();
  BOOST_TEST(frames == kFrames);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool::wire
