#include "daemon/queue/job.hpp"

namespace taskpool::queue {

void Job::push_back(Range range) {
  if (front_.count == 0) {
    front_ = std::move(range);
    return;
  }
  if (!more_) more_ = std::make_unique<std::deque<Range>>();
  more_->push_back(std::move(range));
}

void Job::push_front(Range range) {
  if (front_.count > 0) {
    if (!more_) more_ = std::make_unique<std::deque<Range>>();
    more_->push_front(std::move(front_));
  }
  front_ = std::move(range);
}

Range Job::pop_front(std::uint32_t most, std::size_t max_bytes) {
  Range taken = front_.take_front(most, max_bytes);
  if (front_.count > 0) return taken;
  front_ = Range{};
  if (more_ && !more_->empty()) {
    front_ = std::move(more_->front());
    more_->pop_front();
  }
  return taken;
}

}  // namespace taskpool::queue
