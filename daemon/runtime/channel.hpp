#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "daemon/os/unique_fd.hpp"
#include "proto/frame.hpp"
#include "proto/result.hpp"

namespace taskpool::runtime {

/// A frame and the descriptors that came with it.
struct IncomingFrame {
  FrameView view;
  std::vector<os::UniqueFd> fds;
};

/// Frames over a blocking socket, for a process that does nothing else meanwhile: a worker or a zygote.
class Channel {
 public:
  explicit Channel(os::UniqueFd socket);

  int fd() const { return socket_.get(); }
  /// The next frame that has already arrived, or nothing; valid until the next call of next(). Error: `bad_message` or
  /// `frame_too_large`: the stream cannot be followed any further.
  Result<std::optional<IncomingFrame>> next();
  /// Waits until more has arrived. False: the peer has closed. Frames that next() returned may become invalid.
  Result<bool> receive();
  Result<void> send(std::span<const std::byte> bytes, std::span<const int> fds = {});
  Result<void> send(const Prefix& prefix, std::string_view head, std::span<const std::byte> body = {},
                    std::span<const int> fds = {});

  enum class Verdict { keep, handled, found };
  /// Reads on until `judge` has found what it wants, while the frame that next() returned last stays valid. Frames that
  /// it keeps are what next() returns afterwards, in their order. Errors: as next(); `daemon_gone` when the peer
  /// closed.
  Result<void> wait_for(const std::function<Verdict(IncomingFrame&)>& judge);

 private:
  struct Kept {
    Prefix prefix;
    std::string head;
    std::vector<std::byte> body;
    std::vector<os::UniqueFd> fds;
  };
  Result<std::optional<IncomingFrame>> decode();

  os::UniqueFd socket_;
  std::unique_ptr<FrameDecoder> decoder_;
  std::vector<os::UniqueFd> arrived_fds_;  ///< Of frames that were not decoded yet.
  std::unique_ptr<FrameDecoder> held_;     ///< Views of the frame being worked on point here, after a wait_for().
  std::deque<Kept> kept_;
  std::optional<Kept> current_;  ///< The frame being worked on, if it is one of `kept_`.
};

}  // namespace taskpool::runtime
