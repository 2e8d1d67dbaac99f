#include "daemon/wire/turn.hpp"

#include <algorithm>
#include <boost/asio/post.hpp>

#include "daemon/wire/channel.hpp"

namespace taskpool::wire {

namespace {
/// Buffers kept for the next who needs one: as many as a turn usually has peers at work.
constexpr std::size_t kMostSpare = 8;
}  // namespace

void Turn::flush_later(Channel& channel) {
  dirty_.push_back(&channel);
  schedule();
}

void Turn::forget(Channel& channel) {
  std::erase(dirty_, &channel);
  std::replace(flushing_.begin(), flushing_.end(), &channel, static_cast<Channel*>(nullptr));
}

ByteBuffer Turn::borrow() {
  if (spare_.empty()) return {};
  auto memory = std::move(spare_.back());  // the one used last is still in the caches
  spare_.pop_back();
  return memory;
}

void Turn::give_back(ByteBuffer memory) {
  if (memory.capacity() == 0 || spare_.size() >= kMostSpare) return;
  spare_.push_back(std::move(memory));
}

void Turn::end_later() {
  wants_end_ = true;
  schedule();
}

std::chrono::steady_clock::time_point Turn::now() {
  if (!now_) {
    now_ = std::chrono::steady_clock::now();
    schedule();  // what ends the turn also forgets its time
  }
  return *now_;
}

void Turn::schedule() {
  if (scheduled_) return;
  scheduled_ = true;
  // Runs after the handlers that this poll of the reactor made ready, which stand in the queue already.
  boost::asio::post(io_, [this] { finish(); });
}

void Turn::finish() {
  scheduled_ = false;
  now_.reset();
  if (wants_end_) {
    wants_end_ = false;
    if (on_end) on_end();
  }
  flushing_.swap(dirty_);
  for (std::size_t at = 0; at < flushing_.size(); ++at)
    if (flushing_[at] != nullptr) flushing_[at]->flush();
  flushing_.clear();
}

}  // namespace taskpool::wire
