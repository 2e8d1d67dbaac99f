#include "taskpool/options.hpp"

#include "client/cpp/to_ms.hpp"

namespace taskpool {

Call CallOptions::call(std::string function, std::string pool) const {
  Call call;
  call.function = std::move(function);
  call.pool = std::move(pool);
  if (timeout) call.timeout_ms = client::to_ms(*timeout);
  call.soft_timeout_ms = client::to_ms(soft_timeout);
  call.retries = retries;
  call.lost_retries = lost_retries;
  call.oom_retries = oom_retries;
  if (cpu_timeout) call.cpu_timeout_ms = client::to_ms(*cpu_timeout);
  call.retry_delay_ms = client::to_ms(retry_delay);
  call.priority = priority;
  call.idempotency_key = idempotency_key;
  call.name = name;
  call.announce = announce;
  call.refs = refs;
  return call;
}

}  // namespace taskpool
