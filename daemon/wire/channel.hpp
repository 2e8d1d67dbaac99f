#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <deque>
#include <functional>
#include <limits>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "daemon/os/unique_fd.hpp"
#include "daemon/time_slice.hpp"
#include "daemon/wire/turn.hpp"
#include "proto/frame.hpp"

namespace taskpool::wire {

/// Hears what comes over a channel.
class FrameSink {
 public:
  virtual ~FrameSink() = default;
  /// One frame and the descriptors that rode on it: as many as it says, or none if we may not open so many more. The
  /// view ends with the call. An error closes the channel.
  virtual Result<void> on_frame(const FrameView& frame, std::vector<os::UniqueFd> fds) = 0;
  /// The frames that had arrived are handled; more may come.
  virtual void on_batch() {}
};

/// Frames over one stream socket. Reads batches, queues what is written, and sends it at the end of the turn. Knows
/// nothing of what the frames mean.
class Channel {
 public:
  Channel(Turn& turn, os::UniqueFd socket);
  ~Channel();
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  /// Reads until the peer closes, close() is called, or something is wrong, which is returned. Waits without a limit:
  /// for an idle peer that is right. A peer that ends in the middle of a frame is `bad_message`.
  boost::asio::awaitable<Result<void>> read(FrameSink& sink);

  /// Handles what the peer had sent before it died, without waiting.
  Result<void> read_rest(FrameSink& sink);

  /// Queues a frame; it leaves at the end of the turn.
  void send(const Prefix& prefix, std::string_view head = {}, std::span<const std::byte> body = {});
  /// The same with the body in parts.
  void send(const Prefix& prefix, std::string_view head, std::span<const std::byte> first,
            std::span<const std::byte> second, std::span<const std::byte> third = {});
  /// The same with descriptors, of which the channel keeps duplicates until they are sent.
  Result<void> send_with(Prefix prefix, std::string_view head, std::span<const std::byte> body,
                         std::span<const int> fds);
  /// Sends what is queued as far as the socket takes it; the rest follows when it can.
  void flush();
  /// Bytes queued and not taken by the socket.
  std::size_t queued() const { return out_.size(); }
  /// A peer that has left more than `bytes` unread is not heard until it reads: nobody can make us keep more. Default:
  /// no limit.
  void limit_unsent(std::size_t bytes) { most_unsent_ = bytes; }
  /// While paused nothing more is read, but for what is left of a peer who is gone; handled is what had been read.
  void pause(bool is_paused);
  /// What handling the peer's frames has queued for the peer itself leaves right after them, not at the end of the
  /// turn: for one that waits for its answers.
  void answer_at_once() { answers_at_once_ = true; }
  /// Called when the queue has fallen to `low` bytes or less after having been above it.
  void on_drained(std::size_t low, std::function<void()> call);

  /// Ends the reading, now or as soon as what is queued was sent.
  void close();
  void close_after_flush();
  bool is_closed() const { return closed_; }

 private:
  struct Passing {
    std::uint64_t position;  ///< In the stream of bytes sent: of the frame's first byte.
    std::vector<os::UniqueFd> fds;
  };

  Result<bool> receive_once();  // false: nothing there, or the end
  /// Those that were read: all, or as many as the slice has time for.
  Result<void> handle_frames(FrameSink& sink, TimeSlice* slice);
  Result<void> handle_what_came(FrameSink& sink);
  Result<void> receive_and_handle(FrameSink& sink);
  /// out_, with memory.
  ByteBuffer& out();
  boost::asio::awaitable<void> wait_resumed();
  void mark_dirty();
  void wait_writable();

  Turn& turn_;
  boost::asio::posix::stream_descriptor socket_;
  FrameDecoder decoder_;
  std::vector<os::UniqueFd> received_fds_;
  ByteBuffer out_;
  std::uint64_t sent_bytes_ = 0;
  std::deque<Passing> passing_;
  std::size_t low_ = 0;
  std::size_t most_unsent_ = std::numeric_limits<std::size_t>::max();
  std::function<void()> drained_;
  bool answers_at_once_ = false;
  bool answering_ = false;  ///< Frames are being handled, after which what they queued is flushed.
  bool dirty_ = false;      ///< It is flushed at the end of the turn.
  bool writing_ = false;
  bool closed_ = false;
  bool end_seen_ = false;
  bool has_frames_ = false;  ///< That were read, and wait for the next turn.
  bool paused_ = false;
  bool hung_up_ = false;                                ///< The peer is gone; what it sent may be there.
  std::unique_ptr<boost::asio::steady_timer> resumed_;  ///< Cancelled when the pause ends.
  bool close_when_empty_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace taskpool::wire
