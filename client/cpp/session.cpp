#include "client/cpp/session.hpp"

#include "proto/codec.hpp"

namespace taskpool::client {

std::shared_ptr<Connection> Session::connection() {
  const auto now = fork_generation();
  if (generation_.load(std::memory_order_acquire) == now) return connection_;
  const std::lock_guard lock{mutex_};
  if (generation_.load(std::memory_order_relaxed) != now) {
    // The parent's is given up without its destructor: its lock may be held by a thread that does not exist here.
    auto* const given_up = new std::shared_ptr<Connection>{std::move(connection_)};
    (*given_up)->close_inherited();
    connection_ = std::make_shared<Connection>(options_);
    generation_.store(now, std::memory_order_release);
  }
  return connection_;
}

OwnedPool::~OwnedPool() {
  const auto connection = session->connection();
  if (closed || connection->epoch() != epoch) return;
  PoolName pool;
  pool.pool = name;
  connection->tell(Op::pool_close, encode(pool));
}

}  // namespace taskpool::client
