#include "daemon/server/server.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/socket.h>

#include <utility>

#include "daemon/log.hpp"
#include "daemon/os/fd_passing.hpp"
#include "daemon/wire/spawn.hpp"
#include "proto/codec.hpp"

namespace taskpool::server {

namespace {
/// How long to accept nobody after the system had no descriptor or memory for a client.
constexpr std::chrono::milliseconds kPauseAfterFailure{100};
/// Connections beyond max_sessions that the admin socket takes, so that somebody can look what the others do.
constexpr std::size_t kAdminReserve = 16;
/// Failures that follow each other within this are logged once: each client that leaves makes room for one more, and no
/// other.
constexpr std::chrono::seconds kSameEpisode{10};

/// Tells a client why it is not served; it is disconnected next. A new socket has room for that.
void refuse(int socket, const std::string& why) {
  ErrorHead error;
  error.code = Errc::limit_reached;
  error.detail = why;
  ByteBuffer frame;
  append_frame(frame, Prefix{.op = Op::error}, encode(error));
  (void)os::send(socket, frame.data(), {});  // it may have gone again
}

}  // namespace

Server::Server(Core& core) : core_{core} {}
Server::~Server() = default;

void Server::serve(int listening, Door door) {
  auto& io = core_.turn.io();
  auto& entrance = entrances_.emplace_back(
      Entrance{door, boost::asio::posix::stream_descriptor{io, ::fcntl(listening, F_DUPFD_CLOEXEC, 0)},
               boost::asio::steady_timer{io}});
  wire::spawn(io, accept(entrance), [](const std::string& error) {
    if (!error.empty()) log::error("bug", {{"what", "accept"}, {"error", error}});
  });
}

boost::asio::awaitable<void> Server::accept(Entrance& entrance) {
  while (!stopped_) {
    const auto [error] =
        co_await entrance.listening.async_wait(boost::asio::posix::descriptor_base::wait_read, wire::kTuple);
    if (error) co_return;
    if (accept_once(entrance)) continue;
    entrance.pause.expires_after(kPauseAfterFailure);
    co_await entrance.pause.async_wait(wire::kTuple);
  }
}

bool Server::accept_once(Entrance& entrance) {
  os::UniqueFd socket{::accept4(entrance.listening.native_handle(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
  if (!socket) {
    if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) return true;
    const auto failure = errno_error("accept");
    const auto now = core_.turn.now();
    if (now - std::exchange(entrance.failed_at, now) > kSameEpisode)
      log::error("accept", {{"error", failure.detail}, {"retrying_every_ms", kPauseAfterFailure.count()}});
    return false;
  }
  const auto most = core_.config.max_sessions + (entrance.door == Door::admin ? kAdminReserve : 0);
  if (sessions_.size() >= most) {
    ++core_.metrics.sessions_refused;
    refuse(socket.get(), fmt::format("max_sessions: {} are connected", sessions_.size()));
    log::warning("session_refused", {{"max_sessions", core_.config.max_sessions}});
    return true;
  }
  open(std::move(socket), entrance.door);
  return true;
}

void Server::open(os::UniqueFd socket, Door door) {
  const auto peer = os::peer_credentials(socket.get());
  if (!peer) {
    log::error("peer_credentials", {{"error", peer.error().detail}});
    return;
  }
  const Identity who{peer->uid, peer->gid, os::peer_groups(socket.get())};
  const auto bound = core_.permissions.bounds_of(who).sessions;
  if (const auto has = core_.users.of(who.uid)->sessions; has >= bound.most) {
    ++core_.metrics.sessions_refused;
    refuse(socket.get(), fmt::format("{}: user {} has {} connections", bound.rule, who.uid, has));
    log::warning("session_refused", {{"rule", bound.rule}, {"uid", who.uid}, {"pid", peer->pid}});
    return;
  }
  if (++last_session_ == 0) ++last_session_;  // 0 is the daemon itself
  const auto number = last_session_;
  // Without one (the process has ended already, or is in another namespace) the end of the socket is all there is.
  auto owner = os::peer_pidfd(socket.get());
  auto session = std::make_unique<Session>(core_, std::move(socket), who, door, peer->pid,
                                           owner ? std::move(*owner) : os::UniqueFd{}, number);
  auto& running = *session;
  sessions_.emplace(number, std::move(session));
  ++core_.metrics.sessions_opened;
  ++core_.sessions[peer->uid];
  core_.metrics.sessions_open = sessions_.size();
  log::debug("session_opened", {{"session", number}, {"uid", peer->uid}, {"pid", peer->pid}});
  wire::spawn(core_.turn.io(), running.run(), [this, number, uid = peer->uid](const std::string& error) {
    if (!error.empty()) log::error("bug", {{"what", "session"}, {"session", number}, {"error", error}});
    sessions_.erase(number);
    core_.users.forget_idle();
    core_.metrics.sessions_open = sessions_.size();
    if (const auto user = core_.sessions.find(uid); --user->second == 0) core_.sessions.erase(user);
    log::debug("session_ended", {{"session", number}});
    if (on_ended) on_ended();
  });
}

void Server::stop_accepting() {
  stopped_ = true;
  boost::system::error_code ignored;
  for (auto& entrance : entrances_) {
    entrance.listening.cancel(ignored);
    entrance.pause.cancel();
  }
}

void Server::update_bounds() {
  for (const auto& [number, session] : sessions_) session->update_bounds();
}

void Server::close_all() {
  for (const auto& [number, session] : sessions_) session->close();
}

}  // namespace taskpool::server
