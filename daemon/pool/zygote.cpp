#include "daemon/pool/zygote.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <signal.h>

#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/steady_timer.hpp>

#include "daemon/log.hpp"
#include "daemon/os/fd_passing.hpp"
#include "daemon/wire/spawn.hpp"
#include "proto/codec.hpp"

namespace taskpool::pool {

namespace asio = boost::asio;
using namespace asio::experimental::awaitable_operators;

namespace {
/// Where a runtime finds its control channel. PROTOCOL.md, section 3.3.
constexpr int kControlFd = 3;
/// How long a zygote may take to exit after its channel closed.
constexpr std::chrono::seconds kExitGrace{2};

}  // namespace

Result<ZygotePtr> Zygote::start(wire::Turn& turn, Children& children, const ZygoteKey& key, std::uint64_t generation,
                                std::function<void(Zygote&)> changed) {
  auto ends = os::socket_pair();
  if (!ends) return ends.error();
  os::SpawnOptions options;
  options.argv = key.command;
  options.environment = key.environment;
  options.cwd = key.cwd;
  options.descriptors = {{ends->second.get(), kControlFd}};
  auto child = os::spawn(options);
  if (!child) return child.error();
  // Both at once: there may be no descriptor left when it ends.
  os::UniqueFd pidfd{::fcntl(child->pidfd.get(), F_DUPFD_CLOEXEC, 0)};
  os::UniqueFd watched{::fcntl(child->pidfd.get(), F_DUPFD_CLOEXEC, 0)};
  if (!pidfd || !watched) {
    const auto error = errno_error("duplicate a pidfd");
    (void)os::signal(child->pidfd, SIGKILL);
    (void)os::reap(child->pidfd);
    return error;
  }
  auto zygote =
      std::make_shared<Zygote>(turn, generation, std::move(*child), std::move(ends->first), std::move(changed));
  children.insert(zygote->pid());
  zygote->channel_->send(Prefix{.op = Op::start},
                         encode(Start{key.runtime, key.modules, key.spool, key.max_output_bytes}));
  wire::spawn(turn.io(),
              run(zygote->channel_, zygote, turn, std::move(pidfd), std::move(watched), zygote->pid(), children),
              [weak = std::weak_ptr{zygote}](const std::string& error) {
                if (error.empty()) return;
                log::error("bug", {{"what", "zygote"}, {"error", error}});
                const auto alive = weak.lock();
                if (!alive) return;
                alive->channel_->close();
                alive->set_failed(error);
              });
  return zygote;
}

Zygote::Zygote(wire::Turn& turn, std::uint64_t generation, os::Child child, os::UniqueFd channel,
               std::function<void(Zygote&)> changed)
    : turn_{turn},
      generation_{generation},
      child_{std::move(child)},
      channel_{std::make_shared<wire::Channel>(turn, std::move(channel))},
      changed_{std::move(changed)} {}

/// Passes frames on for as long as the zygote is wanted; without it, the channel only has to end.
class Zygote::WeakSink : public wire::FrameSink {
 public:
  explicit WeakSink(std::weak_ptr<Zygote> zygote) : zygote_{std::move(zygote)} {}
  Result<void> on_frame(const FrameView& frame, std::vector<os::UniqueFd> fds) override {
    if (const auto zygote = zygote_.lock()) return zygote->on_frame(frame, std::move(fds));
    return boost::system::in_place_value;
  }

 private:
  std::weak_ptr<Zygote> zygote_;
};

asio::awaitable<void> Zygote::run(std::shared_ptr<wire::Channel> channel, std::weak_ptr<Zygote> zygote,
                                  wire::Turn& turn, os::UniqueFd pidfd, os::UniqueFd watched, pid_t pid,
                                  Children& children) {
  WeakSink sink{zygote};
  const auto ended = co_await channel->read(sink);
  channel->close();
  // Its control channel is closed now, at which it exits by itself.
  asio::posix::stream_descriptor exit{turn.io(), watched.release()};
  asio::steady_timer deadline{turn.io(), kExitGrace};
  for (bool late = false; !late && !os::has_ended(pidfd.get());) {
    const auto first = co_await (exit.async_wait(asio::posix::descriptor_base::wait_read, wire::kTuple) ||
                                 deadline.async_wait(wire::kTuple));
    late = first.index() == 1;
  }
  if (!os::has_ended(pidfd.get())) (void)os::signal(pidfd, SIGKILL);
  while (!os::has_ended(pidfd.get())) co_await exit.async_wait(asio::posix::descriptor_base::wait_read, wire::kTuple);
  const auto status = os::try_reap(pidfd);
  children.erase(pid);
  if (const auto alive = zygote.lock()) {
    std::string why = ended ? "" : ended.error().detail + "; ";
    if (status) why += os::describe(*status);
    alive->set_failed(std::move(why));
  }
}

void Zygote::set_failed(std::string why) {
  if (state_ == State::failed && !error_.empty()) why = error_;  // it had said what was wrong itself
  state_ = State::failed;
  error_ = std::move(why);
  users_.clear();
  if (const auto changed = changed_) changed(*this);
}

std::optional<std::uint32_t> Zygote::find_function(const std::string& name) {
  if (const auto known = numbers_.find(name); known != numbers_.end()) return known->second;
  if (!ready_.open) return std::nullopt;
  const auto number = static_cast<std::uint32_t>(numbers_.size());
  numbers_.emplace(name, number);
  return number;
}

Result<void> Zygote::fork(const Fork& request, std::span<const int> fds, ZygoteUser& user) {
  users_[request.worker] = &user;
  return channel_->send_with(Prefix{.op = Op::fork}, encode(request), {}, fds);
}

void Zygote::forget(ZygoteUser& user) {
  std::erase_if(users_, [&](const auto& entry) { return entry.second == &user; });
}

ZygoteUser* Zygote::find_user(std::uint32_t worker) {
  const auto user = users_.find(worker);
  return user == users_.end() ? nullptr : user->second;
}

Result<void> Zygote::on_frame(const FrameView& frame, std::vector<os::UniqueFd> fds) {
  switch (frame.prefix.op) {
    case Op::ready: {
      auto ready = decode<Ready>(frame.head.empty() ? as_text(frame.body) : frame.head);
      if (!ready) return ready.error();
      if (state_ != State::starting) return fail(Errc::bad_message, "ready: said twice");
      ready_ = std::move(*ready);
      for (std::uint32_t number = 0; number < ready_.functions.size(); ++number)
        numbers_.emplace(ready_.functions[number].name, number);
      state_ = State::ready;
      if (const auto changed = changed_) changed(*this);
      return boost::system::in_place_value;
    }
    case Op::start_failed: {
      auto failure = decode<StartFailed>(frame.head);
      if (!failure) return failure.error();
      state_ = State::failed;
      error_ = failure->detail;
      channel_->close();                     // at which it exits, if it has not
      return boost::system::in_place_value;  // told when it has exited
    }
    case Op::forked: {
      auto forked = decode<Forked>(frame.head);
      if (!forked) return forked.error();
      auto* user = find_user(forked->worker);
      if (fds.empty() && frame.prefix.fds == 3) {
        // Nobody holds the other end of its channel now, so it ends by itself.
        users_.erase(forked->worker);
        if (user != nullptr) user->on_fork_failed({forked->worker, "no descriptors left for a worker"});
        return boost::system::in_place_value;
      }
      if (fds.size() != 3) return fail(Errc::bad_message, "forked: wants three descriptors");
      if (user != nullptr)
        user->on_forked(shared_from_this(), *forked, std::move(fds[0]), std::move(fds[1]), std::move(fds[2]));
      return boost::system::in_place_value;
    }
    case Op::fork_failed: {
      auto failure = decode<ForkFailed>(frame.head);
      if (!failure) return failure.error();
      auto* user = find_user(failure->worker);
      users_.erase(failure->worker);
      if (user != nullptr) user->on_fork_failed(*failure);
      return boost::system::in_place_value;
    }
    case Op::exited: {
      auto exited = decode<Exited>(frame.head);
      if (!exited) return exited.error();
      auto* user = find_user(exited->worker);
      users_.erase(exited->worker);
      if (user != nullptr) user->on_exited(*exited);
      return boost::system::in_place_value;
    }
    default: return fail(Errc::bad_message, fmt::format("op {}: not for a zygote to send", name(frame.prefix.op)));
  }
}

}  // namespace taskpool::pool
