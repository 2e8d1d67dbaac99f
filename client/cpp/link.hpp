#pragma once

#include <memory>
#include <optional>
#include <string>

#include "client/cpp/socket.hpp"
#include "proto/message.hpp"
#include "proto/result.hpp"
#include "taskpool/options.hpp"

namespace taskpool::client {

/// Where a daemon is.
struct Place {
  std::string socket;
  bool is_private = false;  ///< The user's own daemon, which may be started.
};

/// A socket that has been greeted.
struct Link {
  std::shared_ptr<Socket> socket;
  FrameDecoder decoder;  ///< May hold what came after the greeting.
  std::deque<Fd> fds;    ///< The same.
  Welcome welcome;
  Place place;
};

/// Sends `hello` over a fresh socket and waits for `welcome`. `resume`: the token of the session that this one
/// continues, or empty. Errors: what the daemon answered, `unsupported_version`, `bad_message`, `daemon_gone`,
/// `timed_out`.
Result<Link> greet(Fd socket, Place place, const ClientOptions& options, const std::string& resume,
                   const Deadline& deadline);

/// Finds the daemon, starts the private one if that is the one and it does not run, and greets it. `known`: where it
/// was before; only that place is tried then. Errors: as Client::connect().
Result<Link> establish(const ClientOptions& options, const std::optional<Place>& known, const std::string& resume,
                       const Deadline& deadline);

}  // namespace taskpool::client
