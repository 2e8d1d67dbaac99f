#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/config.hpp"
#include "daemon/log.hpp"
#include "proto/frame.hpp"
#include "proto/result.hpp"

/// The audit: a line of the log for each request that changes what others see, or what outlives its session.
namespace taskpool::server {

/// Who asked, as far as the kernel says so; copied where the answer may come after the session.
struct Author {
  std::uint32_t uid = 0;
  pid_t pid = 0;
  std::uint32_t session = 0;
};

/// Whether requests of this kind are written, as `audit` of the configuration says. `minor`: what concerns nobody but
/// its session.
bool is_audited(const Config& config, bool minor = false);

/// Writes `event=audit op=... uid=... pid=... session=...`, then `about`, then `outcome=ok`, or the error's code and
/// detail.
void audit(const Author& author, Op op, std::vector<log::Field> about, const Result<void>& outcome);

/// What a request's head says it is about: its task, pool, name or object, for the line of one that was refused.
std::vector<log::Field> about_of(std::string_view head);

}  // namespace taskpool::server
