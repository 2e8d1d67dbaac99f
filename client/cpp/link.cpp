#include "client/cpp/link.hpp"

#include <errno.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <thread>

#include "client/cpp/autostart.hpp"
#include "client/cpp/environment.hpp"
#include "proto/build_id.hpp"
#include "proto/codec.hpp"
#include "proto/version.hpp"
#include "taskpool/future.hpp"

namespace taskpool::client {
namespace {

constexpr const char* kSystemSocket = "/run/taskpool/taskpool.sock";
constexpr std::chrono::milliseconds kFirstBackOff{10};
constexpr std::chrono::milliseconds kLongestBackOff{1000};

Result<Link> connect_and_greet(const Place& place, const ClientOptions& options, const std::string& resume,
                               const Deadline& deadline) {
  auto socket = Socket::connect(place.socket);
  if (!socket) return socket.error();
  return greet(std::move(*socket), place, options, resume, deadline);
}

/// Where to look, in order, if nobody has said where.
std::vector<Place> places(const ClientOptions& options) {
  if (!options.socket.empty()) return {{options.socket, false}};
  if (auto named = environment("TASKPOOL_SOCKET"); !named.empty()) return {{std::move(named), false}};
  return {{kSystemSocket, false}, {private_socket_name(), true}};
}

/// One try at one place. A private daemon of another build is told to leave if starting it again would start another
/// program, so that a rebuilt tree does not talk to yesterday's.
Result<Link> try_place(const Place& place, const ClientOptions& options, const std::string& resume,
                       const Deadline& deadline) {
  auto link = connect_and_greet(place, options, resume, deadline);
  if (!place.is_private) return link;
  if (link && link->welcome.build != build_id() && options.autostart && !is_current_program(link->welcome.pid)) {
    dismiss(*link, deadline);
    link = fail(Errc::no_daemon, "a private daemon of another build was told to leave");
  }
  if (link || !options.autostart) return link;
  const auto code = link.error().errc();
  if (code != Errc::no_daemon && code != Errc::daemon_gone) return link;  // daemon_gone: it was just leaving
  if (auto started = start_private_daemon(place.socket, deadline); !started) return started.error();
  link = connect_and_greet(place, options, resume, deadline);
  if (!link && link.error().errc() == Errc::no_daemon)  // one listened a moment ago, and was just leaving
    return fail(Errc::daemon_gone, link.error().detail);
  return link;
}

/// To try again may help. Who had a connection waits for room, too: many come back at once after a restart.
bool may_pass(Errc code, bool had_one) {
  return code == Errc::no_daemon || code == Errc::daemon_gone || code == Errc::system || code == Errc::draining ||
         (had_one && code == Errc::limit_reached);
}

}  // namespace

Result<Link> greet(Fd socket, Place place, const ClientOptions& options, const std::string& resume,
                   const Deadline& deadline) {
  Link link;
  auto wakeable = Socket::wakeable(std::move(socket));
  if (!wakeable) return wakeable.error();
  link.socket = std::move(*wakeable);
  link.place = std::move(place);

  Hello hello;
  hello.version = kProtocolVersion;
  hello.client =
      (options.name.empty() ? std::string{program_invocation_short_name} : options.name).substr(0, kMaxClientNameBytes);
  hello.worker_token = environment("TASKPOOL_WORKER_TOKEN");
  hello.capabilities.assign(kCapabilities.begin(), kCapabilities.end());
  hello.resume = resume;
  ByteBuffer out;
  Prefix prefix;
  prefix.op = Op::hello;
  append_frame(out, prefix, encode(hello));
  while (!out.empty()) {
    const auto sent = link.socket->send(out.data());
    if (!sent) return sent.error();
    out.consume(*sent);
    if (*sent > 0) continue;
    if (passed(deadline)) return fail(Errc::timed_out, "the daemon does not take the greeting");
    link.socket->wait_writable(deadline);
  }

  for (;;) {
    const auto frame = link.decoder.next();
    if (!frame) return frame.error();
    if (*frame) {
      const auto& [got, head, body] = **frame;
      if (got.op == Op::error) {
        const auto error = decode<ErrorHead>(head);
        return error ? to_error(*error) : error.error();
      }
      if (got.op != Op::welcome) return fail(Errc::bad_message, "the daemon's first frame is no welcome");
      auto welcome = decode<Welcome>(head);
      if (!welcome) return welcome.error();
      if (welcome->version != kProtocolVersion)
        return fail(Errc::unsupported_version, "the daemon speaks version " + std::to_string(welcome->version));
      link.welcome = std::move(*welcome);
      return link;
    }
    const auto event = link.socket->receive(link.decoder, link.fds, {.deadline = deadline});
    if (!event) return event.error();
    if (*event == Socket::Event::timed_out) return fail(Errc::timed_out, "the daemon does not answer the greeting");
  }
}

Result<Link> establish(const ClientOptions& options, const std::optional<Place>& known, const std::string& resume,
                       const Deadline& deadline) {
  const auto candidates = known ? std::vector{*known} : places(options);
  auto back_off = kFirstBackOff;
  for (;;) {
    Result<Link> link = fail(Errc::no_daemon, "no place to look for a daemon");
    for (const auto& place : candidates) {
      link = try_place(place, options, resume, deadline);
      if (link) return link;
      // The system's socket may not be for us; the last place's error is the one to tell.
      if (&place != &candidates.back() && link.error().errc() == Errc::permission_denied) continue;
      if (!may_pass(link.error().errc(), known.has_value())) return link;
    }
    // A first connection does not wait for somebody to start a daemon; a reconnection waits for it to come back.
    const bool worth_waiting = known || link.error().errc() == Errc::daemon_gone;
    if (!worth_waiting || passed(deadline)) return link;
    std::this_thread::sleep_until(std::min(Clock::now() + back_off, deadline.value_or(Clock::time_point::max())));
    back_off = std::min(back_off * 2, kLongestBackOff);
  }
}

}  // namespace taskpool::client
