#include "tests/bench/daemon.hpp"

#include <poll.h>

#include <csignal>
#include <fstream>
#include <stdexcept>
#include <thread>

#include "tests/bench/bench.hpp"

namespace taskpool::bench {
namespace {

constexpr std::chrono::seconds kPatience{10};

std::string configuration(const DaemonOptions& options, const std::string& socket) {
  // A benchmark that is killed leaves no daemon behind for long.
  auto text = options.extra + "idle_exit = \"5m\"\nsocket = \"" + socket + "\"\nlog_level = \"error\"\n";
  text += "[[pool]]\nname = \"default\"\nworkers = " + std::to_string(options.workers) + "\n";
  text += "modules = [\"demo\", \"" + program_folder() + "/../modules/bench.so\"]\n";
  if (options.commands) text += "[[pool]]\nname = \"command\"\nruntime = \"command\"\nworkers = 2\n";
  return text + options.pools;
}

}  // namespace

Daemon::Daemon(const DaemonOptions& options) : socket_{folder_.path() + "/socket"} {
  const auto config = folder_.path() + "/taskpool.toml";
  std::ofstream{config} << configuration(options, socket_);
  os::SpawnOptions spawn;
  spawn.argv = {program_folder() + "/taskpoold", "--config", config};
  child_ = need(os::spawn(spawn));
}

Daemon::~Daemon() {
  (void)os::signal(child_.pidfd, SIGTERM);  // it may have ended by itself
  pollfd ended{child_.pidfd.get(), POLLIN, 0};
  if (::poll(&ended, 1, static_cast<int>(std::chrono::milliseconds{kPatience}.count())) == 0)
    (void)os::signal(child_.pidfd, SIGKILL);
  (void)os::reap(child_.pidfd);
}

Client Daemon::connect() const {
  const auto begun = Clock::now();
  for (;;) {
    ClientOptions options;
    options.socket = socket_;
    options.autostart = false;
    auto client = Client::connect(options);
    if (client) return std::move(*client);
    pollfd ended{child_.pidfd.get(), POLLIN, 0};
    if (::poll(&ended, 1, 0) != 0) throw std::runtime_error("taskpoold ended at its start");
    if (Clock::now() - begun > kPatience)
      throw std::runtime_error("taskpoold does not answer: " + client.error().detail);
    std::this_thread::sleep_for(std::chrono::microseconds{200});
  }
}

}  // namespace taskpool::bench
