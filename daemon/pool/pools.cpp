#include "daemon/pool/pools.hpp"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "daemon/log.hpp"

namespace taskpool::pool {

namespace {
/// How long a zygote that no pool uses is kept, in case that another such pool is opened.
constexpr std::chrono::seconds kKeepWarm{30};
/// Pools that sessions may have open, all together.
constexpr std::size_t kMaxPools = 1024;

PoolOwner configured() { return {.session = 0, .uid = ::geteuid()}; }
}  // namespace

Pools::Pools(Services& services) : services_{services}, warm_timer_{services.turn.io()} {}

std::function<void(const std::string&)> Pools::when_all(std::size_t count,
                                                        std::function<void(const std::string&)> done) {
  struct State {
    std::size_t left;
    std::string error;
    std::function<void(const std::string&)> done;
  };
  auto state = std::make_shared<State>(State{count, {}, std::move(done)});
  return [state](const std::string& error) {
    if (state->error.empty()) state->error = error;
    if (--state->left == 0) state->done(state->error);
  };
}

std::shared_ptr<Pool> Pools::add(PoolConfig config, const PoolOwner& owner, WorkerFds fds) {
  auto pool = std::make_shared<Pool>(services_, std::move(config), owner, std::move(fds));
  pool->on_zygote_wanted = [this](Pool& wanting) { give_zygote(wanting, false); };
  pools_.push_back(pool);
  return pool;
}

void Pools::open_configured(std::function<void(const std::string&)> started) {
  const auto each = when_all(services_.config.pools.size(), std::move(started));
  for (const auto& config : services_.config.pools) {
    const auto pool = add(config, configured(), {});
    if (pool->is_dormant()) {
      each({});
      continue;
    }
    pool->on_started = [each, name = config.name](const std::string& error) {
      each(error.empty() ? error : "pool '" + name + "': " + error);
    };
    give_zygote(*pool, false);
  }
}

std::shared_ptr<Pool> Pools::find(const std::string& name, std::uint32_t session) const {
  for (const auto& pool : pools_) {
    if (pool->owner_session() != 0 && pool->owner_session() != session) continue;
    if (name.empty() ? pool->owner_session() == 0 : pool->name() == name) return pool;
  }
  return nullptr;
}

Result<std::shared_ptr<Pool>> Pools::open(PoolConfig config, const PoolOwner& owner, WorkerFds fds) {
  if (pools_.size() >= kMaxPools)
    return fail(Errc::limit_reached, fmt::format("pools: there are {} already", kMaxPools));
  if (config.name.empty()) config.name = fmt::format("session-{}-{}", owner.session, ++opened_);
  if (config.name == kOwnPool) return fail(Errc::bad_argument, "name: '.' is what tasks call their own pool");
  if (find(config.name, owner.session)) return fail(Errc::limit_reached, "name: pool '" + config.name + "' exists");
  if (const auto key = key_of(config); !key) return key.error();
  const auto pool = add(std::move(config), owner, std::move(fds));
  give_zygote(*pool, false);
  return pool;
}

void Pools::close_session(std::uint32_t uid, std::uint32_t session) {
  for (const auto& pool : std::vector{pools_}) {
    pool->detach(session);
    pool->queue().forget_session(uid, session);
    if (pool->owner_session() == session && !pool->is_closing()) pool->close(true, {});
  }
  services_.turn.end_later();
}

std::pair<std::shared_ptr<Pool>, std::shared_ptr<Worker>> Pools::find_worker(const std::string& token) const {
  for (const auto& pool : pools_)
    for (const auto& worker : pool->workers())
      if (worker->token == token) return {pool, worker};
  return {};
}

Result<ZygoteKey> Pools::key_of(const PoolConfig& config) const {
  const auto runtime = services_.config.runtimes.find(config.runtime);
  if (runtime == services_.config.runtimes.end())
    return fail(Errc::bad_argument, "runtime: there is no '" + config.runtime + "'");
  const auto& command = config.command.empty() ? runtime->second.command : config.command;
  return ZygoteKey{config.runtime,
                   command,
                   config.modules,
                   config.environment,
                   config.cwd,
                   services_.config.spool,
                   services_.config.max_output_bytes};
}

Result<ZygotePtr> Pools::acquire(const ZygoteKey& key, bool fresh) {
  auto& known = zygotes_[key];
  if (auto zygote = known.lock(); zygote && !fresh && zygote->state() != Zygote::State::failed) return zygote;
  auto zygote = Zygote::start(services_.turn, services_.children, key, ++generation_,
                              [this](Zygote& changed) { on_zygote_changed(changed); });
  if (!zygote) return zygote.error();
  ++services_.metrics.zygotes_started;
  known = *zygote;
  return *zygote;
}

void Pools::give_zygote(Pool& pool, bool fresh) {
  const auto key = key_of(pool.config());
  if (!key) return pool.on_zygote_unavailable(key.error().detail);
  auto zygote = acquire(*key, fresh);
  if (!zygote) return pool.on_zygote_unavailable(zygote.error().detail);
  pool.use(std::move(*zygote));
}

void Pools::on_zygote_changed(Zygote& zygote) {
  if (zygote.state() == Zygote::State::failed)  // while it is told, its own coroutine holds it
    std::erase_if(warm_, [&](const auto& entry) { return entry.second.get() == &zygote; });
  for (const auto& pool : std::vector{pools_}) pool->on_zygote_changed(zygote);
}

void Pools::reload(std::function<void(const std::string&)> done) {
  const auto& config = services_.config;
  ++services_.metrics.reloads;
  const auto each = when_all(config.pools.size() + 1, std::move(done));
  for (const auto& pool : std::vector{pools_}) {
    if (pool->owner_session() != 0 || pool->is_closing()) continue;
    const bool stays = std::any_of(config.pools.begin(), config.pools.end(),
                                   [&](const PoolConfig& wanted) { return wanted.name == pool->name(); });
    if (!stays) pool->close(false, {});
  }
  zygotes_.clear();  // what pools share from here on is new
  for (const auto& wanted : config.pools) {
    auto pool = find(wanted.name, 0);
    const bool is_new = !pool || pool->is_closing();
    if (is_new) pool = add(wanted, configured(), {});
    const auto started = [each, name = wanted.name](const std::string& error) {
      each(error.empty() ? error : "pool '" + name + "': " + error);
    };
    if (pool->on_started) pool->on_started("reloaded before it had started");
    pool->update(wanted);
    if (pool->is_dormant()) {
      each({});
      continue;
    }
    pool->on_started = started;
    give_zygote(*pool, false);
  }
  each({});
}

void Pools::dispatch() {
  for (const auto& pool : std::vector{pools_}) pool->dispatch();
  std::erase_if(pools_, [&](const auto& pool) {
    if (!pool->is_closed()) return false;
    if (pool->owner_session() != 0) services_.closed_pools.add(pool->metrics());
    if (auto zygote = pool->let_go()) keep_warm(std::move(zygote));
    return true;
  });
  if (stopped_ && pools_.empty()) std::exchange(stopped_, nullptr)();
}

bool Pools::has_work() const {
  return std::any_of(pools_.begin(), pools_.end(), [](const auto& pool) { return pool->has_work(); });
}

void Pools::stop(std::function<void()> closed) {
  stopped_ = std::move(closed);
  for (const auto& pool : std::vector{pools_}) pool->close(true, {});
  warm_.clear();
  warm_timer_.cancel();
  services_.turn.end_later();
}

void Pools::keep_warm(ZygotePtr zygote) {
  if (stopped_) return;
  warm_.emplace_back(services_.turn.now() + kKeepWarm, std::move(zygote));
  if (warm_.size() == 1) forget_cold();
}

void Pools::forget_cold() {
  const auto now = std::chrono::steady_clock::now();
  std::erase_if(warm_, [&](const auto& entry) { return entry.first <= now; });
  if (warm_.empty()) return;
  warm_timer_.expires_at(warm_.front().first);
  warm_timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error) forget_cold();
  });
}

}  // namespace taskpool::pool
