#pragma once

#include <cstdint>

namespace taskpool::client {

/// How many forks lie between the process that first asked and this one: a connection of another generation belongs to
/// an ancestor. Costs a load; getpid() would cost a system call.
std::uint64_t fork_generation();

}  // namespace taskpool::client
