#include "daemon/store/collector.hpp"

#include <time.h>

#include "daemon/store/home.hpp"

namespace taskpool::store {
namespace {

/// Objects or entries of one slice: well below a millisecond.
constexpr std::size_t kSlice = 1000;
/// Between two markings lies at least this many times what one took.
constexpr int kRest = 20;
constexpr std::chrono::milliseconds kLeastRest{20};

/// Of this thread: what a marking costs, however long the turns between its slices take.
std::chrono::nanoseconds cpu_time() {
  ::timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return std::chrono::seconds{now.tv_sec} + std::chrono::nanoseconds{now.tv_nsec};
}

bool is_root(const Object& object) { return !object.name.empty() || !object.openers.empty() || object.pins > 0; }

}  // namespace

void Collector::suspect() {
  suspicious_ = true;
  home_.want_work();
}

void Collector::shade(const ObjectPtr& object) {
  object->lost = {};
  if (marking_ && marked_.insert(static_cast<std::uint64_t>(object->id)).second) to_walk_.push_back(object);
}

std::optional<std::chrono::steady_clock::time_point> Collector::due() const {
  if (!suspicious_ || marking_) return std::nullopt;
  return earliest_;
}

bool Collector::work(std::chrono::steady_clock::time_point now) {
  if (!marking_) {
    if (!suspicious_ || now < earliest_) return true;
    suspicious_ = false;
    lost_some_ = false;
    marking_ = true;
    phase_ = Phase::roots;
    next_ = ObjectId::none;
    spent_ = {};
  }
  const auto began = cpu_time();
  const bool is_done = step(now);
  spent_ += cpu_time() - began;
  if (is_done) finish(now);
  return is_done;
}

bool Collector::step(std::chrono::steady_clock::time_point now) {
  switch (phase_) {
    case Phase::roots: mark_roots(); return false;
    case Phase::walk:
      if (!walk_some()) return false;
      phase_ = Phase::sweep;
      next_ = ObjectId::none;
      return false;
    case Phase::sweep: break;
  }
  return sweep_some(now);
}

void Collector::mark_roots() {
  const auto& objects = home_.objects();
  auto next = objects.upper_bound(next_);
  for (std::size_t step = 0; step < kSlice && next != objects.end(); ++step, ++next) {
    next_ = next->first;
    if (is_root(*next->second)) shade(next->second);
  }
  if (next == objects.end()) phase_ = Phase::walk;
}

bool Collector::walk_some() {
  for (std::size_t left = kSlice; left > 0;) {
    if (!walking_) {
      if (to_walk_.empty()) return true;
      walking_ = std::move(to_walk_.back());
      to_walk_.pop_back();
      position_ = 0;
      --left;
      if (walking_->lock && !walking_->lock->gone) shade(walking_->lock);
      if (!walking_->has_refs || walking_->gone) {
        walking_ = nullptr;
        continue;
      }
      // Work in slices moves what is to be visited; a reader's hold does not.
      if (walking_->working) {
        to_walk_.insert(to_walk_.begin(), std::move(walking_));
        walking_ = nullptr;
        return false;
      }
      walking_->walked = true;
    }
    const auto visit = [this](const EntryView& entry) {
      for (std::size_t index = 0; index < entry.refs.size(); ++index)
        if (const auto object = home_.find(entry.refs[index])) shade(object);
    };
    const auto steps = left;
    left = 0;
    if (!home_.writer().visit_entries(walking_->id, position_, steps, visit)) {
      walking_->walked = false;
      const auto done = std::move(walking_);
      walking_ = nullptr;
      home_.set_free(done);
    }
  }
  return false;
}

bool Collector::sweep_some(std::chrono::steady_clock::time_point now) {
  const auto& objects = home_.objects();
  std::vector<ObjectPtr> dead;
  auto next = objects.upper_bound(next_);
  for (std::size_t step = 0; step < kSlice && next != objects.end(); ++step, ++next) {
    next_ = next->first;
    auto& object = *next->second;
    if (is_root(object) || marked_.contains(static_cast<std::uint64_t>(object.id))) continue;
    if (object.lost == std::chrono::steady_clock::time_point{}) object.lost = now;
    if (now - object.lost >= patience_ && !object.working)
      dead.push_back(next->second);
    else
      lost_some_ = true;
  }
  const bool is_done = next == objects.end();
  for (const auto& object : dead) (void)home_.remove(object);  // refused by a full redo record alone: the next time
  return is_done;
}

void Collector::finish(std::chrono::steady_clock::time_point now) {
  marking_ = false;
  marked_.clear();
  earliest_ = now + std::max<std::chrono::steady_clock::duration>(spent_ * kRest, kLeastRest);
  if (!lost_some_) return;
  suspicious_ = true;
  earliest_ = std::max(earliest_, now + patience_ / 4);
}

void Collector::forget(const ObjectPtr& object) {
  if (walking_ != object) return;
  walking_->walked = false;
  walking_ = nullptr;
}

}  // namespace taskpool::store
