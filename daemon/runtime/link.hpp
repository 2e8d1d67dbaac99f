#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>

#include "daemon/os/memory.hpp"
#include "daemon/runtime/arenas.hpp"
#include "daemon/runtime/channel.hpp"
#include "daemon/runtime/fork_mark.hpp"
#include "daemon/runtime/outbox.hpp"
#include "proto/claim_page.hpp"
#include "proto/message.hpp"

namespace taskpool::runtime {

/// Exit code of a worker whose channel's descriptor was closed, or brought no protocol.
inline constexpr int kExitChannelLost = 70;

/// All that a worker shares with the supervisor: its channel, the claim page with the outbox behind it, and the arenas.
///
/// A worker without its supervisor has no reason to live: what fails here ends the process, so that nobody above has to
/// care. Results that were published survive that in the outbox.
class Link {
 public:
  Link(os::UniqueFd channel, os::SharedMemory shared, ForkMark mark);

  ClaimPage& page() { return *reinterpret_cast<ClaimPage*>(shared_.data()); }
  Outbox& outbox() { return outbox_; }
  const Arenas& arenas() const { return arenas_; }

  /// The next frame for the caller: a `run`, mostly. Sends what the outbox has before it waits. Nothing: the supervisor
  /// has closed the channel. Frames about arenas never show up here. Valid until the next call.
  std::optional<IncomingFrame> next_frame();
  /// Sends what the outbox has.
  void flush();
  void send(const Prefix& prefix, std::string_view head, std::span<const std::byte> body = {});

  /// Asks for `bytes` bytes in the down arena for the result of `ticket`, and waits for the answer. Error: the
  /// supervisor's, mostly `out_of_space`.
  Result<ArenaRef> ask_room(std::uint32_t session, Ticket ticket, std::uint64_t bytes);

  /// Ends the process if it is a copy of the worker that a task has forked: it must not answer in the worker's place.
  void leave_if_copy() const;

 private:
  bool handle_arena_frame(IncomingFrame& frame);
  [[noreturn]] void lost(const Error& error) const;

  Channel channel_;
  os::SharedMemory shared_;
  Outbox outbox_;
  Arenas arenas_;
  ForkMark mark_;
};

}  // namespace taskpool::runtime
