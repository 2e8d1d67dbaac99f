#pragma once

#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "daemon/pool/pool.hpp"

namespace taskpool::pool {

/// All pools: those of the config and those that sessions opened; and the zygotes, which pools that load the same
/// share.
class Pools {
 public:
  explicit Pools(Services& services);

  /// Starts the pools of the config. `started` is called once, when each has a worker ready: with "", or with the first
  /// error.
  void open_configured(std::function<void(const std::string&)> started);
  /// The pool of that name, "" for the default one, if `session` may use it: a session-owned pool is its own session's
  /// alone.
  std::shared_ptr<Pool> find(const std::string& name, std::uint32_t session) const;
  /// Opens a pool for a session. Errors: `limit_reached` (the name is taken, or too many), `bad_argument` (no such
  /// runtime).
  Result<std::shared_ptr<Pool>> open(PoolConfig config, const PoolOwner& owner, WorkerFds fds);
  /// Closes the pools that a session opened, and forgets what the others keep of it. Its jobs are cancelled already.
  void close_session(std::uint32_t uid, std::uint32_t session);
  /// The worker whose secret that is.
  std::pair<std::shared_ptr<Pool>, std::shared_ptr<Worker>> find_worker(const std::string& token) const;

  /// Starts new generations with `config`, which has replaced the old one. `done` hears when each pool has one, or the
  /// first error: a pool whose new zygote fails keeps the old one.
  void reload(std::function<void(const std::string&)> done);
  /// Gives out work and forgets closed pools. Called at the end of a turn.
  void dispatch();
  bool has_work() const;
  /// Ends everything now; `closed` is called when all workers are gone.
  void stop(std::function<void()> closed);

  const std::vector<std::shared_ptr<Pool>>& all() const { return pools_; }
  /// What the pools counted that sessions had opened and that are no more in all().
  const PoolMetrics& closed() const { return services_.closed_pools; }

 private:
  std::shared_ptr<Pool> add(PoolConfig config, const PoolOwner& owner, WorkerFds fds);
  Result<ZygoteKey> key_of(const PoolConfig& config) const;
  Result<ZygotePtr> acquire(const ZygoteKey& key, bool fresh);
  void give_zygote(Pool& pool, bool fresh);
  void on_zygote_changed(Zygote& zygote);
  /// Calls `done` with the first error, or "" when all have started.
  static std::function<void(const std::string&)> when_all(std::size_t count,
                                                          std::function<void(const std::string&)> done);
  void keep_warm(ZygotePtr zygote);
  void forget_cold();

  Services& services_;
  std::vector<std::shared_ptr<Pool>> pools_;
  std::map<ZygoteKey, std::weak_ptr<Zygote>> zygotes_;
  std::uint64_t generation_ = 0;
  std::uint32_t opened_ = 0;
  std::function<void()> stopped_;
  std::vector<std::pair<std::chrono::steady_clock::time_point, ZygotePtr>> warm_;
  boost::asio::steady_timer warm_timer_;
};

}  // namespace taskpool::pool
