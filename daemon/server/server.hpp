#pragma once

#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <memory>
#include <unordered_map>

#include "daemon/server/session.hpp"

namespace taskpool::server {

/// Accepts clients and owns their sessions.
class Server {
 public:
  explicit Server(Core& core);
  ~Server();

  /// Accepts from a listening socket until stop(). Survives running out of descriptors: tries again a little later.
  void serve(int listening);
  /// Accepts nobody any more; sessions go on.
  void stop_accepting();
  /// Ends every session.
  void close_all();
  std::size_t size() const { return sessions_.size(); }
  /// The permissions have changed: sessions are bound by what they say now.
  void update_bounds();
  /// Called when a session has ended.
  std::function<void()> on_ended;

 private:
  boost::asio::awaitable<void> accept();
  bool accept_once();
  void open(os::UniqueFd socket);

  Core& core_;
  std::unordered_map<std::uint32_t, std::unique_ptr<Session>> sessions_;
  std::uint32_t last_session_ = 0;
  std::unique_ptr<boost::asio::posix::stream_descriptor> listening_;
  boost::asio::steady_timer pause_;
  std::chrono::steady_clock::time_point failed_at_{};  ///< When accept() failed last.
  bool stopped_ = false;
};

}  // namespace taskpool::server
