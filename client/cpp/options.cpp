#include "taskpool/options.hpp"

#include <algorithm>

#include "proto/limits.hpp"

namespace taskpool {
namespace {

std::uint32_t to_ms(std::chrono::milliseconds time) {
  return static_cast<std::uint32_t>(std::clamp(time, std::chrono::milliseconds{0}, kMaxDuration).count());
}

}  // namespace

Call CallOptions::call(std::string function, std::string pool) const {
  Call call;
  call.function = std::move(function);
  call.pool = std::move(pool);
  if (timeout) call.timeout_ms = to_ms(*timeout);
  call.soft_timeout_ms = to_ms(soft_timeout);
  call.retries = retries;
  call.lost_retries = lost_retries;
  call.retry_delay_ms = to_ms(retry_delay);
  call.priority = priority;
  call.idempotency_key = idempotency_key;
  call.name = name;
  call.announce = announce;
  return call;
}

}  // namespace taskpool
