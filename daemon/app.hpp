#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/config.hpp"
#include "daemon/os/cgroup.hpp"
#include "daemon/os/signals.hpp"
#include "daemon/server/metrics_server.hpp"
#include "daemon/server/server.hpp"
#include "daemon/server/socket_path.hpp"

namespace taskpool {

/// The daemon: owns every part, and wires them. Runs once.
class App : public server::Admin {
 public:
  /// `passed`: the sockets that the service manager listens on, if it does.
  App(Config config, CommandLine command_line, os::PassedSockets passed);
  ~App() override;

  /// Starts the pools, then serves until a signal, a request, or having been idle too long ends it. Returns the exit
  /// code; says on the log why, if it is not 0.
  int run();

  // server::Admin
  void reload(std::function<void(const std::string& error, const ConfigChanges&)> done) override;
  void drain(std::chrono::milliseconds timeout, std::function<void(bool drained)> done) override;
  void shutdown(bool force) override;
  bool is_draining() const override { return draining_ || stopping_; }
  std::chrono::steady_clock::time_point started() const override { return started_; }

 private:
  enum class Phase { starting, serving, stopping };

  Result<void> prepare();
  /// Finds out how tasks can be limited here, and says so.
  void find_means();
  /// Says which limits of the configured pools are not enforced as one might expect.
  void warn_of_limits() const;
  void on_pools_started(const std::string& error);
  boost::asio::awaitable<void> hear_signals();
  boost::asio::awaitable<void> feed_watchdog();
  void on_turn_end();
  void reap_orphans();
  void stop_now();
  void finish();
  void check_drained();
  void watch_idle();
  std::string describe_work() const;

  boost::asio::io_context io_{1};
  wire::Turn turn_{io_};
  Config config_;
  CommandLine command_line_;
  os::PassedSockets passed_;  ///< Until prepare() takes them.
  Metrics metrics_;
  std::optional<os::CgroupTree> cgroups_;  ///< Before the pools, whose workers have some.
  queue::JobTable jobs_;
  server::Arenas arenas_;
  pool::Services services_;
  pool::Pools pools_;
  server::Keeper keeper_;
  server::Waiters waiters_;
  server::Failures failures_;
  store::Store store_;
  server::Permissions permissions_;
  server::Users users_;
  server::Core core_;
  server::Server server_;
  server::MetricsServer metrics_server_;
  os::Signals signals_;
  std::optional<server::SocketPath> socket_;
  std::optional<server::SocketPath> admin_socket_;

  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
  Phase phase_ = Phase::starting;
  bool draining_ = false;
  bool stopping_ = false;
  int exit_code_ = 0;
  boost::asio::steady_timer stop_timer_;
  boost::asio::steady_timer idle_timer_;
  boost::asio::steady_timer watchdog_timer_;
  struct DrainWaiter {
    std::unique_ptr<boost::asio::steady_timer> deadline;
    std::function<void(bool)> done;
  };
  std::vector<std::shared_ptr<DrainWaiter>> drain_waiters_;
};

}  // namespace taskpool
