#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "daemon/os/process.hpp"
#include "daemon/os/unique_fd.hpp"
#include "daemon/wire/channel.hpp"
#include "proto/message.hpp"

namespace taskpool::pool {

class Zygote;
using ZygotePtr = std::shared_ptr<Zygote>;
/// Our children that their own coroutine reaps; every other child is an orphan that we inherited.
using Children = std::set<pid_t>;

/// What makes two pools able to share a zygote: the program, what it loads, and its environment.
struct ZygoteKey {
  std::string runtime;
  std::vector<std::string> command;
  std::vector<std::string> modules;
  std::map<std::string, std::string> environment;
  std::string cwd;
  std::string spool;
  std::uint64_t max_output_bytes = kDefaultOutputBytes;
  auto operator<=>(const ZygoteKey&) const = default;
};

/// Who asked a zygote for workers. Calls come from the event loop, never from within a call to the zygote.
class ZygoteUser {
 public:
  virtual ~ZygoteUser() = default;
  virtual void on_forked(const ZygotePtr& zygote, const Forked& forked, os::UniqueFd channel, os::UniqueFd pidfd,
                         os::UniqueFd page) = 0;
  virtual void on_fork_failed(const ForkFailed& failure) = 0;
  virtual void on_exited(const Exited& exited) = 0;
};

/// One generation of a runtime: the program that loaded the modules and forks a worker each time it is asked. It ends
/// when the last reference to it goes, and its workers with it.
class Zygote : public wire::FrameSink, public std::enable_shared_from_this<Zygote> {
 public:
  enum class State : std::uint8_t { starting, ready, failed };

  /// Starts the program. `changed` is called when it is ready, has failed to start, or has died. Error: it could not be
  /// started at all.
  static Result<ZygotePtr> start(wire::Turn& turn, Children& children, const ZygoteKey& key, std::uint64_t generation,
                                 std::function<void(Zygote&)> changed);

  State state() const { return state_; }
  std::uint64_t generation() const { return generation_; }
  pid_t pid() const { return child_.pid; }
  /// Why it failed, or how it died.
  const std::string& error() const { return error_; }
  const std::vector<FunctionInfo>& functions() const { return ready_.functions; }
  /// Functions that are not listed may be called too.
  bool is_open() const { return ready_.open; }
  /// Its workers claim tickets, so that they can be given several. Others run what they are given, one at a time.
  bool claims() const { return ready_.claims; }
  /// The number by which this generation's workers know a function: of a listed one, or made up in an open runtime.
  std::optional<std::uint32_t> find_function(const std::string& name);
  std::uint32_t listed_functions() const { return static_cast<std::uint32_t>(ready_.functions.size()); }

  /// Asks for a worker; `user` hears of it until forget(). `fds` are up to three as its stdio, then the setup if the
  /// request says that there is one.
  Result<void> fork(const Fork& request, std::span<const int> fds, ZygoteUser& user);
  /// Tells nobody any more what becomes of the workers of `user`.
  void forget(ZygoteUser& user);
  /// Ends the program now. Also what the last reference does.
  void stop() { channel_->close(); }

  Result<void> on_frame(const FrameView& frame, std::vector<os::UniqueFd> fds) override;

  Zygote(wire::Turn& turn, std::uint64_t generation, os::Child child, os::UniqueFd channel,
         std::function<void(Zygote&)> changed);
  ~Zygote() override { channel_->close(); }

 private:
  class WeakSink;

  static boost::asio::awaitable<void> run(std::shared_ptr<wire::Channel> channel, std::weak_ptr<Zygote> zygote,
                                          wire::Turn& turn, os::UniqueFd pidfd, os::UniqueFd watched, pid_t pid,
                                          Children& children);
  ZygoteUser* find_user(std::uint32_t worker);
  void set_failed(std::string why);

  wire::Turn& turn_;
  std::uint64_t generation_;
  State state_ = State::starting;
  os::Child child_;
  std::shared_ptr<wire::Channel> channel_;
  Ready ready_;
  std::unordered_map<std::string, std::uint32_t> numbers_;
  std::unordered_map<std::uint32_t, ZygoteUser*> users_;  ///< By worker number, from fork() to exited.
  std::function<void(Zygote&)> changed_;
  std::string error_;
};

}  // namespace taskpool::pool
