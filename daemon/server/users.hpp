#pragma once

#include <cstdint>
#include <map>

#include "daemon/queue/usage.hpp"

namespace taskpool::server {

/// What each user has of the daemon now.
class Users {
 public:
  /// His counters, shared with all that is his.
  queue::UsagePtr of(std::uint32_t uid) {
    auto& usage = usages_[uid];
    if (!usage) {
      usage.reset(new queue::Usage);
      usage->uid = uid;
    }
    return usage;
  }
  /// Drops those of users who have nothing any more.
  void forget_idle() {
    std::erase_if(usages_, [](const auto& entry) { return entry.second->references == 1; });
  }
  /// By uid.
  const std::map<std::uint32_t, queue::UsagePtr>& all() const { return usages_; }

 private:
  std::map<std::uint32_t, queue::UsagePtr> usages_;
};

}  // namespace taskpool::server
