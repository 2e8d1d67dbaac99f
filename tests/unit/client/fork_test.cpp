#include <sys/wait.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>

#include "fake_server.hpp"

using namespace taskpool;
using namespace taskpool::test;

BOOST_AUTO_TEST_SUITE(forked)

BOOST_AUTO_TEST_CASE(a_child_has_a_session_of_its_own_and_the_parents_goes_on) {
  Connected c;
  auto future = c.client.pool().apply_async<int>("f", 1);
  BOOST_TEST(c.client.flush().has_value());
  const auto first = c.peer->next(Op::apply);

  const pid_t child = ::fork();
  BOOST_REQUIRE(child >= 0);
  if (child == 0) {
    ::alarm(30);
    const auto inherited = future.get();
    const bool gone = !inherited && inherited.error().errc() == Errc::daemon_gone;
    const auto own = c.client.pool().apply<int>("f", 2);
    ::_exit(gone && own && *own == 20 ? 0 : 1);
  }
  auto other = c.server.accept();
  const auto call = other.next(Op::apply);
  BOOST_TEST(call.text() == "2");
  other.result(call, "20");
  int status = -1;
  BOOST_REQUIRE(::waitpid(child, &status, 0) == child);
  BOOST_TEST(status == 0);
  BOOST_TEST(other.closes());

  c.peer->result(first, "10");
  BOOST_TEST(future.get().value() == 10);
}

BOOST_AUTO_TEST_SUITE_END()
