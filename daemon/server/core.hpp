#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "daemon/config.hpp"
#include "daemon/metrics.hpp"
#include "daemon/pool/pools.hpp"
#include "daemon/queue/job_table.hpp"
#include "daemon/server/arenas.hpp"
#include "daemon/server/failures.hpp"
#include "daemon/server/keeper.hpp"
#include "daemon/server/permissions.hpp"
#include "daemon/server/users.hpp"
#include "daemon/server/waiters.hpp"
#include "daemon/store/store.hpp"
#include "daemon/wire/turn.hpp"

namespace taskpool::server {

/// What a session may ask of the whole daemon. The app implements it.
class Admin {
 public:
  virtual ~Admin() = default;
  /// `done` hears "" and what changed, or why the reload failed.
  virtual void reload(std::function<void(const std::string& error, const ConfigChanges&)> done) = 0;
  /// Refuses new work from now on; `done` is called when none is left, or at the deadline with false.
  virtual void drain(std::chrono::milliseconds timeout, std::function<void(bool drained)> done) = 0;
  virtual void shutdown(bool force) = 0;
  virtual bool is_draining() const = 0;
  virtual std::chrono::steady_clock::time_point started() const = 0;
};

/// What all sessions share: references to the parts that the app owns.
struct Core {
  wire::Turn& turn;
  const Config& config;
  Metrics& metrics;
  queue::JobTable& jobs;
  pool::Pools& pools;
  Arenas& arenas;
  Keeper& keeper;
  Waiters& waiters;
  Failures& failures;
  store::Store& store;
  const Permissions& permissions;
  Users& users;
  Admin& admin;
};

}  // namespace taskpool::server
