#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/signal_set.hpp>
#include <initializer_list>
#include <optional>

namespace taskpool::os {

/// Signals as awaitable events. They are caught from construction on; none that came is lost, but equal ones that were
/// not awaited yet may count as one. The supervisor's only way to hear of signals.
class Signals {
 public:
  /// Ignores SIGPIPE besides: a write to a closed socket is an error code.
  Signals(boost::asio::any_io_executor executor, std::initializer_list<int> signals);

  /// Waits for a signal and returns its number, or nothing from cancel() on, whether or not somebody waited then.
  boost::asio::awaitable<std::optional<int>> next();
  void cancel();

 private:
  boost::asio::signal_set signals_;
  bool cancelled_ = false;
};

/// This thread does not hear of them any more: for a process of one thread that is about to end, and is not to be ended
/// otherwise when those who caught signals are gone.
void block_signals(std::initializer_list<int> signals);

}  // namespace taskpool::os
