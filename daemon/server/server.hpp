#pragma once

#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <list>
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
  void serve(int listening, Door door);
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
  /// A listening socket.
  struct Entrance {
    Door door;
    boost::asio::posix::stream_descriptor listening;
    boost::asio::steady_timer pause;
    std::chrono::steady_clock::time_point failed_at{};  ///< When accept() failed last.
  };

  boost::asio::awaitable<void> accept(Entrance& entrance);
  bool accept_once(Entrance& entrance);
  void open(os::UniqueFd socket, Door door);

  Core& core_;
  std::unordered_map<std::uint32_t, std::unique_ptr<Session>> sessions_;
  std::uint32_t last_session_ = 0;
  std::list<Entrance> entrances_;
  bool stopped_ = false;
};

}  // namespace taskpool::server
