#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <string>

#include "proto/message.hpp"

namespace taskpool::server {

/// Failed tasks that nobody was there to be told of: the last kKept of them, and how many there were.
class Failures {
 public:
  static constexpr std::size_t kKept = 1000;

  struct Failure {
    std::string task;
    std::uint32_t index;
    std::string function;
    std::string pool;
    std::uint32_t uid;
    Errc code;
    std::string detail;
    std::chrono::steady_clock::time_point ended;
  };

  void add(Failure failure) {
    ++total_;
    if (last_.size() == kKept) last_.pop_front();
    last_.push_back(std::move(failure));
  }
  /// Oldest first.
  const std::deque<Failure>& last() const { return last_; }
  std::uint64_t total() const { return total_; }

 private:
  std::deque<Failure> last_;
  std::uint64_t total_ = 0;
};

}  // namespace taskpool::server
