#include "daemon/os/signals.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <csignal>

namespace taskpool::os {

namespace asio = boost::asio;

Signals::Signals(asio::any_io_executor executor, std::initializer_list<int> signals) : signals_{std::move(executor)} {
  for (const int signo : signals) signals_.add(signo);
  std::signal(SIGPIPE, SIG_IGN);
}

asio::awaitable<std::optional<int>> Signals::next() {
  if (cancelled_) co_return std::nullopt;
  const auto [failed, signo] = co_await signals_.async_wait(asio::as_tuple(asio::use_awaitable));
  if (failed) co_return std::nullopt;
  co_return signo;
}

void Signals::cancel() {
  cancelled_ = true;
  boost::system::error_code ignored;  // cannot fail for a set that waits or does not
  signals_.cancel(ignored);
}

void block_signals(std::initializer_list<int> signals) {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signo : signals) ::sigaddset(&set, signo);
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

}  // namespace taskpool::os
