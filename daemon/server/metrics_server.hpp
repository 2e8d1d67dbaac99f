#pragma once

#include <boost/beast/http/verb.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "daemon/server/core.hpp"
#include "daemon/server/socket_path.hpp"

namespace taskpool::server {

/// Serves /metrics and /healthz by HTTP, to this host alone. Whoever comes gets one answer and is disconnected; a peer
/// that sends slowly, or too much, or opens many connections, is cut off and costs next to nothing.
class MetricsServer {
 public:
  explicit MetricsServer(Core& core);
  ~MetricsServer();
  MetricsServer(const MetricsServer&) = delete;
  MetricsServer& operator=(const MetricsServer&) = delete;

  /// Listens where config.metrics_listen says, which is not empty. Errors: `bad_argument`, `already_running`, `system`.
  Result<void> listen();
  /// Serves until stop().
  void serve();
  void stop();
  /// Until this is called, /healthz says that the daemon is starting.
  void set_started() { started_ = true; }
  /// Where it listens, with the port that the kernel chose.
  const std::string& address() const { return address_; }

 private:
  struct Impl;
  struct Connection;
  struct Answer;

  boost::asio::awaitable<void> accept();
  boost::asio::awaitable<void> talk(std::shared_ptr<Connection> connection);
  boost::asio::awaitable<Answer> answer_to(boost::beast::http::verb method, std::string target);
  /// Answers, and waits a little for the peer to close.
  boost::asio::awaitable<void> send(Connection& connection, boost::beast::http::verb method, Answer answer);
  boost::asio::awaitable<std::string> metrics_page();
  /// The body of /healthz, and whether all is well.
  std::pair<std::string, bool> health() const;

  Core& core_;
  std::optional<SocketPath> path_;
  std::string address_;
  bool started_ = false;
  std::unique_ptr<Impl> impl_;
};

}  // namespace taskpool::server
