#pragma once

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <functional>
#include <optional>
#include <vector>

#include "proto/frame.hpp"

namespace taskpool::wire {

class Channel;

/// One round of the event loop: everything that is ready is read and handled first; then, once, work is given out and
/// what was written is sent. A wake-up of a peer costs far more than a frame, so each peer gets at most one a turn.
class Turn {
 public:
  explicit Turn(boost::asio::io_context& io) : io_{io} {}

  /// Sends what the channel has queued at the end of this turn.
  void flush_later(Channel& channel);
  /// Forgets a channel that goes away.
  void forget(Channel& channel);
  /// Calls on_end at the end of this turn, before the channels are flushed.
  void end_later();
  /// Gives out work: set once by the app.
  std::function<void()> on_end;

  /// Memory for what is read or written just now. Channels give it back when they have nothing under way, so that
  /// thousands of idle peers hold none.
  ByteBuffer borrow();
  void give_back(ByteBuffer memory);

  /// The time, read once a turn.
  std::chrono::steady_clock::time_point now();
  boost::asio::io_context& io() { return io_; }

 private:
  void schedule();
  void finish();

  boost::asio::io_context& io_;
  std::vector<Channel*> dirty_;
  std::vector<Channel*> flushing_;
  std::vector<ByteBuffer> spare_;
  bool scheduled_ = false;
  bool wants_end_ = false;
  std::optional<std::chrono::steady_clock::time_point> now_;
};

}  // namespace taskpool::wire
