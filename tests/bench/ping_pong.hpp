#pragma once

#include <cstddef>
#include <vector>

/// The floor of everything that asks a daemon and waits for its answer: two processes that pass a 64-byte message to
/// and fro over a Unix socket, and block in between.
namespace taskpool::bench {

/// Microseconds of each round trip.
std::vector<double> ping_pong_round_trips(std::size_t count);

}  // namespace taskpool::bench
