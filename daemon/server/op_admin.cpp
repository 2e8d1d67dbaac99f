#include <boost/asio/post.hpp>
#include <chrono>

#include "daemon/server/rows.hpp"
#include "daemon/server/session.hpp"
#include "proto/codec.hpp"

/// Requests about the daemon, who asks, and this session's memory: `stats`, `whoami`, `reload`, `drain`, `shutdown`,
/// `ping`, `arena_open`, `arena_release`.
namespace taskpool::server {

Result<void> Session::stats(const FrameView& frame) {
  // What is ready now goes first: that is how long everybody waits for the loop.
  const auto asked = std::chrono::steady_clock::now();
  boost::asio::post(core_.turn.io(), [to = later(), request = frame.prefix.request, asked] {
    to([&](Session& session) {
      session.reply(request, server::stats(session.core_, std::chrono::steady_clock::now() - asked));
    });
  });
  return boost::system::in_place_value;
}

Result<void> Session::ping(const FrameView& frame) {
  reply(frame.prefix.request, nlohmann::json::object());
  return boost::system::in_place_value;
}

Result<void> Session::whoami(const FrameView& frame) {
  const auto wanted = decode<Whoami>(frame.head);
  if (!wanted) return wanted.error();
  const auto& usage = *quota_->user;
  auto quotas = nlohmann::json::array();
  const auto add = [&](const char* name, const Bound& bound, std::uint64_t used) {
    auto& row = quotas.emplace_back(nlohmann::json{{"name", name}, {"used", used}});
    if (bound.most != queue::kNoLimit) row["limit"] = bound.most;
    if (!bound.rule.empty()) row["rule"] = bound.rule;
  };
  add("sessions", bounds_.sessions, usage.sessions);
  add("queued_tasks", bounds_.queued_tasks, usage.queued_tasks);
  add("queued_bytes", bounds_.queued_bytes, usage.queued_bytes);
  add("running_slots", bounds_.running_slots, usage.slots);
  add("store_bytes", bounds_.store_bytes, core_.store.used_bytes(who_.uid));
  nlohmann::json body{{"uid", who_.uid},
                      {"gid", who_.gid},
                      {"groups", who_.groups},
                      {"session", number_},
                      {"role", name(core_.permissions.role_at(door_, who_))},
                      {"socket", door_ == Door::admin ? "admin" : "clients"},
                      {"trusted", core_.permissions.is_trusted(who_.uid)},
                      {"quotas", std::move(quotas)}};
  if (wanted->all) {
    if (const auto allowed = may(Right::others_tasks, "seeing what others have"); !allowed) return allowed.error();
    body["users"] = users(core_);
  }
  reply(frame.prefix.request, body);
  return boost::system::in_place_value;
}

Result<void> Session::reload(const FrameView& frame) {
  if (const auto allowed = may(Right::reload, "reload"); !allowed) return allowed.error();
  core_.admin.reload([to = later(), request = frame.prefix.request, author = author(), &config = core_.config](
                         const std::string& error, const ConfigChanges& changes) {
    if (is_audited(config))
      server::audit(author, Op::reload, {},
                    error.empty() ? Result<void>{} : Result<void>{fail(Errc::start_failed, error)});
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
  audit(frame.prefix.op, {});
  core_.admin.drain(std::chrono::milliseconds{drain->timeout_ms},
                    [to = later(), request = frame.prefix.request](bool drained) {
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
  audit(frame.prefix.op, {{"force", shutdown->force ? "true" : "false"}});
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
