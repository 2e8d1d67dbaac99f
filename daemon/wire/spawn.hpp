#pragma once

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <exception>
#include <functional>
#include <string>

namespace taskpool::wire {

namespace asio = boost::asio;
using boost::system::error_code;

/// The way every asynchronous operation is awaited: its error code is data.
inline constexpr auto kTuple = asio::as_tuple(asio::use_awaitable);

/// Starts a coroutine of its own. `ended` hears how it ended: the text of an exception, or "". It is the only place
/// where an exception of a coroutine goes.
template <class Executor, class Ended>
void spawn(Executor&& executor, asio::awaitable<void> coroutine, Ended ended) {
  asio::co_spawn(executor, std::move(coroutine), [ended = std::move(ended)](std::exception_ptr failure) {
    if (!failure) return ended(std::string{});
    try {
      std::rethrow_exception(failure);
    } catch (const std::exception& error) {
      ended(std::string{error.what()});
    }
  });
}

}  // namespace taskpool::wire
