#include "daemon/os/signals.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/test/unit_test.hpp>
#include <csignal>
#include <vector>

namespace taskpool::os {
namespace {

namespace asio = boost::asio;

asio::awaitable<void> collect(Signals& signals, std::vector<int>& seen) {
  while (const auto signo = co_await signals.next()) {
    seen.push_back(*signo);
    if (*signo == SIGTERM)
      signals.cancel();
    else
      ::raise(SIGTERM);
  }
}

BOOST_AUTO_TEST_CASE(signals_are_awaited_and_a_cancel_that_nobody_waits_for_ends_the_next_wait) {
  asio::io_context context;
  Signals signals{context.get_executor(), {SIGHUP, SIGTERM}};
  std::vector<int> seen;
  ::raise(SIGHUP);   // before anybody waits
  ::raise(SIGPIPE);  // ignored
  asio::co_spawn(context, collect(signals, seen), asio::detached);
  context.run();
  BOOST_TEST(seen == (std::vector{SIGHUP, SIGTERM}));
}

}  // namespace
}  // namespace taskpool::os
