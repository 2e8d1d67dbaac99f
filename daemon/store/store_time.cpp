#include <boost/asio/post.hpp>

#include "daemon/store/store.hpp"

/// What the store does in slices, and what it does when its time has come.
namespace taskpool::store {
namespace {

/// How often a watcher who lags is looked at.
constexpr std::chrono::milliseconds kLagging{20};

}  // namespace

void Store::want_work() {
  if (works_ || frozen_) return;
  works_ = true;
  boost::asio::post(io_, [this, alive = alive_] {
    if (*alive) work();
  });
}

void Store::work() {
  works_ = false;
  if (frozen_) return;
  bool is_done = run_resumable();
  for (const auto& [key, home] : homes_) is_done &= home->work();
  if (!is_done) want_work();
  arm();
}

bool Store::run_resumable() {
  const auto resumable = std::exchange(resumable_, {});
  TimeSlice slice;  // megabytes of requests may have waited for an object
  std::vector<Client*> rest;
  for (auto* const client : resumable)
    if (!run_pending(*client, slice)) rest.push_back(client);
  resumable_.insert(resumable_.begin(), rest.begin(), rest.end());
  return resumable_.empty();
}

std::optional<std::chrono::steady_clock::time_point> Store::next_due() const {
  std::optional<std::chrono::steady_clock::time_point> due;
  const auto add = [&due](std::optional<std::chrono::steady_clock::time_point> other) {
    if (other && (!due || *other < *due)) due = other;
  };
  for (const auto& [key, home] : homes_) {
    add(home->sync().next_deadline());
    add(home->collector().due());
    if (const auto next = home->expiry().next()) {
      const auto now_ns = boot_time_ns();
      add(now() + std::chrono::nanoseconds{*next > now_ns ? *next - now_ns : 0});
    }
  }
  for (const auto& object : held_)
    for (const auto& [client, until] : object->holds) add(until);
  if (!lagging_.empty()) add(now() + kLagging);
  add(grace_end_);
  return due;
}

void Store::arm() {
  if (frozen_) return;
  const auto due = next_due();
  if (!due || (armed_ && *armed_ <= *due)) return;
  armed_ = due;
  timer_.expires_at(*due);
  timer_.async_wait([this, alive = alive_](const boost::system::error_code& failed) {
    if (!failed && *alive) on_timer();
  });
}

void Store::on_timer() {
  armed_.reset();
  const auto now = this->now();
  for (const auto& [key, home] : homes_) {
    if (const auto deadline = home->sync().next_deadline(); deadline && *deadline <= now) home->sync().expire();
    (void)home->expire_some();
    if (const auto due = home->collector().due(); due && *due <= now) want_work();
  }
  end_holds(now);
  tell_lagging();
  if (grace_end_ && *grace_end_ <= now) {
    grace_end_.reset();
    for (const auto& [key, home] : homes_)
      while (!home->orphans().empty()) home->abandon(home->orphans().begin()->first);
  }
  arm();
}

void Store::end_holds(std::chrono::steady_clock::time_point now) {
  const auto held = held_;
  for (const auto& object : held) {
    std::erase_if(object->holds, [now](const auto& hold) { return hold.second <= now; });
    if (!object->holds.empty()) continue;
    std::erase(held_, object);
    if (!object->is_held()) object->home->set_free(object);
  }
}

void Store::tell_lagging() {
  const auto lagging = std::exchange(lagging_, {});
  for (const auto& watch : lagging) {
    const auto watched = watch->client->state.watched.find(watch->request);
    if (watched == watch->client->state.watched.end()) continue;
    const auto& object = *watched->second;
    ObjectStat stat;
    (void)object.home->domain().reader().stat({object.offset, object.id, object.type}, stat);
    if (watch->client->tell(watch->request, static_cast<std::uint32_t>(ChangeKind::lagged), stat.version, {}))
      watch->lagged = false;
    else
      lagging_.push_back(watch);
  }
}

}  // namespace taskpool::store
