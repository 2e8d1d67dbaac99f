#include "daemon/server/rows.hpp"
#include "daemon/server/session.hpp"
#include "proto/codec.hpp"

/// Requests about the daemon and this session's memory: `stats`, `reload`, `drain`, `shutdown`, `ping`, `arena_open`, `arena_release`.
namespace taskpool::server {

Result<void> Session::stats(const FrameView& frame) {
  reply(frame.prefix.request, server::stats(core_));
  return boost::system::in_place_value;
}

Result<void> Session::ping(const FrameView& frame) {
  reply(frame.prefix.request, nlohmann::json::object());
  return boost::system::in_place_value;
}

Result<void> Session::reload(const FrameView& frame) {
  if (const auto allowed = may(Right::reload, "reload"); !allowed) return allowed.error();
  log_request(frame.prefix.op, {});
  core_.admin.reload([to = later(), request = frame.prefix.request](const std::string& error, const ConfigChanges& changes) {
    to([&](Session& session) {
      if (!error.empty()) return session.reply_error(request, fail(Errc::start_failed, error));
      session.reply(request, {{"changed", changes.changed}, {"needs_restart", changes.needs_restart}});
    });
  });
  return boost::system::in_place_value;
}

Result<void> Session::drain(const FrameView& frame) {
  if (const auto allowed = may(Right::drain, "drain"); !allowed) return allowed.error();
  const auto drain = decode<Drain>(frame.head);
  if (!drain) return drain.error();
  log_request(frame.prefix.op, {});
  core_.admin.drain(std::chrono::milliseconds{drain->timeout_ms}, [to = later(), request = frame.prefix.request](bool drained) {
    to([&](Session& session) {
      if (drained) return session.reply(request, nlohmann::json::object());
      session.reply_error(request, fail(Errc::timed_out, "timeout_ms: there is still work"));
    });
  });
  return boost::system::in_place_value;
}

Result<void> Session::shutdown(const FrameView& frame) {
  if (const auto allowed = may(Right::shutdown, "shutdown"); !allowed) return allowed.error();
  const auto shutdown = decode<Shutdown>(frame.head);
  if (!shutdown) return shutdown.error();
  log_request(frame.prefix.op, {});
  reply(frame.prefix.request, nlohmann::json::object());
  core_.admin.shutdown(shutdown->force);
  return boost::system::in_place_value;
}

Result<void> Session::arena_open(const FrameView& frame) {
  const auto wanted = decode<ArenaOpen>(frame.head);
  if (!wanted) return wanted.error();
  const auto opened = core_.arenas.open_up(number_, wanted->bytes);
  if (!opened) return opened.error();
  reply_with(frame.prefix.request, {{"segment", opened->segment}, {"bytes", opened->bytes}}, std::span{&opened->fd, 1});
  return boost::system::in_place_value;
}

Result<void> Session::arena_release(const FrameView& frame) {
  if (frame.body.size() != std::size_t{frame.prefix.count} * sizeof(ArenaRef))
    return fail(Errc::bad_message, "body: want as many references as count says");
  for (std::size_t at = 0; at < frame.body.size(); at += sizeof(ArenaRef))
    if (!core_.arenas.release_down(number_, load<ArenaRef>(frame.body.data() + at)))
      return fail(Errc::bad_message, "body: a region that was not given");
  update_credit();
  return boost::system::in_place_value;
}

}  // namespace taskpool::server
