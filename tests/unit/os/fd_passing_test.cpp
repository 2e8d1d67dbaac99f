#include "daemon/os/fd_passing.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <boost/test/unit_test.hpp>
#include <csignal>
#include <cstring>
#include <string>
#include <thread>

namespace taskpool::os {
namespace {

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span{text.data(), text.size()});
}

struct Pair {
  UniqueFd a, b;
  std::array<std::byte, 256> into{};
  std::vector<UniqueFd> fds;
  Pair() { std::tie(a, b) = socket_pair().value(); }
  std::string text(std::size_t bytes) const { return {reinterpret_cast<const char*>(into.data()), bytes}; }
};

BOOST_AUTO_TEST_SUITE(fd_passing)

BOOST_FIXTURE_TEST_CASE(nothing_there_would_block_and_a_closed_peer_is_seen, Pair) {
  BOOST_TEST(receive(a.get(), into, fds)->would_block);
  BOOST_TEST(send(b.get(), bytes_of("hello")).value() == 5u);
  auto received = receive(a.get(), into, fds).value();
  BOOST_TEST(text(received.bytes) == "hello");
  BOOST_TEST(!received.closed);
  b.reset();
  received = receive(a.get(), into, fds).value();
  BOOST_TEST(received.closed);
  BOOST_TEST(received.bytes == 0u);
}

BOOST_FIXTURE_TEST_CASE(descriptors_arrive_open_and_close_on_exec, Pair) {
  auto [inner, outer] = socket_pair().value();
  const std::array passed{outer.get(), b.get()};
  BOOST_TEST(send(b.get(), bytes_of("x"), passed).value() == 1u);
  BOOST_TEST(receive(a.get(), into, fds)->bytes == 1u);
  BOOST_REQUIRE(fds.size() == 2u);
  BOOST_TEST((::fcntl(fds[0].get(), F_GETFD) & FD_CLOEXEC) != 0);
  outer.reset();
  BOOST_TEST(send(fds[0].get(), bytes_of("through")).value() == 7u);
  BOOST_TEST(text(receive(inner.get(), into, fds)->bytes) == "through");
}

BOOST_FIXTURE_TEST_CASE(more_descriptors_than_allowed_are_an_error_and_leak_nothing, Pair) {
  // By hand, because send() asserts its own limit.
  std::array<int, kMaxPassedFds + 1> many{};
  many.fill(b.get());
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof many)> control{};
  char byte = 'x';
  iovec part{&byte, 1};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  auto* rights = CMSG_FIRSTHDR(&message);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(sizeof many);
  std::memcpy(CMSG_DATA(rights), many.data(), sizeof many);
  BOOST_REQUIRE(::sendmsg(b.get(), &message, 0) == 1);
  const int lowest_free_before = ::dup(0);
  ::close(lowest_free_before);
  const auto received = receive(a.get(), into, fds);
  BOOST_REQUIRE(!received);
  BOOST_TEST(received.error().code.value() == EMSGSIZE);
  BOOST_TEST(fds.empty());
  const int lowest_free = ::dup(0);
  ::close(lowest_free);
  BOOST_TEST(lowest_free == lowest_free_before);
}

BOOST_FIXTURE_TEST_CASE(what_may_not_be_opened_is_lost_and_leaves_a_mark, Pair) {
  const std::array passed{a.get(), b.get(), a.get()};
  BOOST_REQUIRE(send(b.get(), bytes_of("first"), passed).value() == 5u);
  BOOST_REQUIRE(send(b.get(), bytes_of("second"), std::span{passed}.first(1)).value() == 6u);
  const int lowest_free = ::dup(0);
  ::close(lowest_free);
  rlimit before{};
  ::getrlimit(RLIMIT_NOFILE, &before);
  const rlimit starved{static_cast<rlim_t>(lowest_free + 2), before.rlim_max};
  ::setrlimit(RLIMIT_NOFILE, &starved);
  const auto received = receive(a.get(), into, fds);
  ::setrlimit(RLIMIT_NOFILE, &before);
  BOOST_REQUIRE(received.has_value());
  BOOST_TEST(text(received->bytes) == "first");
  BOOST_REQUIRE(fds.size() == 1u);  // for all three, also for those that there was room for
  BOOST_TEST(!fds[0]);
  const int still_free = ::dup(0);
  ::close(still_free);
  BOOST_TEST(still_free == lowest_free);
  BOOST_TEST(text(receive(a.get(), into, fds)->bytes) == "second");
  BOOST_REQUIRE(fds.size() == 2u);
  BOOST_TEST(take_fds(fds, 0)->empty());
  BOOST_TEST(take_fds(fds, 3)->empty());
  BOOST_TEST(take_fds(fds, 1)->size() == 1u);
  BOOST_TEST(fds.empty());
  BOOST_TEST(!take_fds(fds, 1));
}

BOOST_FIXTURE_TEST_CASE(a_full_socket_takes_nothing_more_until_it_is_read, Pair) {
  const std::string block(4096, 'x');
  std::size_t taken = 0;
  while (const auto sent = send(a.get(), bytes_of(block)).value()) taken += sent;
  BOOST_TEST(taken > 0u);
  for (std::size_t left = taken; left > 0;) left -= receive(b.get(), into, fds)->bytes;
  BOOST_TEST(send(a.get(), bytes_of(block)).value() == block.size());
}

BOOST_FIXTURE_TEST_CASE(blocking_calls_wait_for_room_and_for_data, Pair) {
  const std::string big(4u << 20, 'y');  // more than any socket buffer
  bool written = false;
  std::thread writer{[&] { written = send_all(a.get(), bytes_of(big)).has_value(); }};
  std::size_t got = 0;
  while (got < big.size()) {
    const auto received = receive_blocking(b.get(), into, fds);
    BOOST_REQUIRE((received && received->bytes > 0));
    got += received->bytes;
  }
  writer.join();
  BOOST_TEST(written);
  BOOST_TEST(got == big.size());
}

BOOST_FIXTURE_TEST_CASE(blocking_calls_also_wait_on_a_non_blocking_socket, Pair) {
  ::fcntl(b.get(), F_SETFL, O_NONBLOCK);
  bool written = false;
  std::thread writer{[&] { written = send_all(a.get(), bytes_of("late")).has_value(); }};
  BOOST_TEST(receive_blocking(b.get(), into, fds)->bytes == 4u);
  writer.join();
  BOOST_TEST(written);
}

BOOST_FIXTURE_TEST_CASE(writing_to_a_closed_peer_is_a_code_and_no_signal, Pair) {
  b.reset();
  BOOST_TEST(send(a.get(), bytes_of("x")).error().code.value() == EPIPE);
  BOOST_TEST(send_all(a.get(), bytes_of("x")).error().code.value() == EPIPE);
}

BOOST_FIXTURE_TEST_CASE(the_kernel_says_who_the_peer_is, Pair) {
  const auto peer = peer_credentials(a.get()).value();
  BOOST_TEST(peer.pid == ::getpid());
  BOOST_TEST(peer.uid == ::getuid());
  BOOST_TEST(peer.gid == ::getgid());
  BOOST_TEST(!peer_credentials(-1));
}

BOOST_FIXTURE_TEST_CASE(the_end_of_the_peer_is_seen_although_a_child_keeps_its_socket, Pair) {
  const int listening = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  BOOST_REQUIRE(::bind(listening, reinterpret_cast<sockaddr*>(&address), sizeof(sa_family_t)) ==
                0);  // a name of its own
  socklen_t size = sizeof address;
  BOOST_REQUIRE(::getsockname(listening, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  BOOST_REQUIRE(::listen(listening, 1) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const int connected = ::socket(AF_UNIX, SOCK_STREAM, 0);
    (void)::connect(connected, reinterpret_cast<sockaddr*>(&address), size);
    char go = 0;
    if (::fork() == 0) {  // has the socket, and outlives the one who connected
      a.reset();          // so that this one hears of the end of the test
      (void)send(b.get(), bytes_of("x"));
      (void)::read(b.get(), &go, 1);
      ::_exit(0);
    }
    (void)::read(b.get(), &go, 1);
    ::_exit(0);
  }
  b.reset();
  UniqueFd accepted{::accept(listening, nullptr, nullptr)};
  const auto owner = peer_pidfd(accepted.get()).value();
  char there = 0;
  BOOST_REQUIRE(::read(a.get(), &there, 1) == 1);
  pollfd ends{owner.get(), POLLIN, 0};
  BOOST_TEST(::poll(&ends, 1, 0) == 0);
  ::kill(child, SIGKILL);
  BOOST_TEST(::poll(&ends, 1, 30'000) == 1);
  ::waitpid(child, nullptr, 0);
  pollfd hangs{accepted.get(), POLLIN, 0};
  BOOST_TEST(::poll(&hangs, 1, 0) == 0);  // the socket alone would not have said so
  BOOST_TEST(!peer_pidfd(-1));
  ::close(listening);
}

BOOST_AUTO_TEST_CASE(a_unique_fd_closes_what_it_owns) {
  UniqueFd one{::dup(0)};
  const int number = one.get();
  UniqueFd two{std::move(one)};
  BOOST_TEST(!one);
  BOOST_TEST(two.get() == number);
  two.reset();
  BOOST_TEST(::fcntl(number, F_GETFD) == -1);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool::os
