#pragma once

#include <nlohmann/json.hpp>

#include "daemon/server/core.hpp"

/// What `ps`, `workers`, `pools`, `stats` and `wait` show. PROTOCOL.md, section 3.1.
namespace taskpool::server {

using Json = nlohmann::json;

Json task_row(const Core& core, const queue::Job& job);
/// "waiting", "queued", "running", "paused", "succeeded", "failed" or "cancelled".
std::string_view state_of(const queue::Job& job);
/// `only_of`: what the tasks of other users are is left out.
Json worker_row(const Core& core, const pool::Pool& pool, const pool::Worker& worker,
                std::optional<std::uint32_t> only_of);
Json pool_row(const Core& core, pool::Pool& pool);
Json stats(const Core& core);
/// What each user has who has anything.
Json users(const Core& core);

}  // namespace taskpool::server
