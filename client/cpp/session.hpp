#pragma once

#include <memory>
#include <mutex>

#include "client/cpp/connection.hpp"
#include "client/cpp/fork_generation.hpp"
#include "taskpool/client.hpp"

namespace taskpool::client {

/// What Client, Pool and PreparedCall share: the connection of this process. A forked child gets one of its own.
class Session {
 public:
  explicit Session(ClientOptions options)
      : options_{std::move(options)}, connection_{std::make_shared<Connection>(options_)} {}
  Session(ClientOptions options, Link link)
      : options_{std::move(options)}, connection_{std::make_shared<Connection>(options_, std::move(link))} {}

  std::shared_ptr<Connection> connection();

 private:
  const ClientOptions options_;
  std::mutex mutex_;  ///< Over the exchange in a forked child; the parent never takes it.
  std::atomic<std::uint64_t> generation_{fork_generation()};
  std::shared_ptr<Connection> connection_;
};

/// A session-owned pool, closed with the last Pool that names it.
struct OwnedPool {
  OwnedPool(std::shared_ptr<Session> its_session, std::string its_name, std::uint64_t its_epoch)
      : session{std::move(its_session)}, name{std::move(its_name)}, epoch{its_epoch} {}
  OwnedPool(const OwnedPool&) = delete;
  OwnedPool& operator=(const OwnedPool&) = delete;
  ~OwnedPool();

  const std::shared_ptr<Session> session;
  const std::string name;
  const std::uint64_t epoch;  ///< The connection that it belongs to.
  std::atomic<bool> closed{false};
};

}  // namespace taskpool::client
