#pragma once

#include <cstddef>
#include <vector>

/// The floor of everything that goes client -> supervisor -> worker and back: three processes that pass 64-byte
/// messages on and do nothing else. The middle one is a bare epoll loop with 64 KB reads and one write per peer and
/// turn; the others block.
namespace taskpool::bench {

inline constexpr std::size_t kRelayMessageBytes = 64;

/// Round trips one after the other; returns each one's microseconds.
std::vector<double> relay_round_trips(std::size_t count);

/// Messages per second with `window` of them under way (at most 1024) and `workers` workers.
double relay_throughput(std::size_t window, std::size_t workers, std::size_t messages);

/// Maps `items` 64-bit integers to their squares through the same relay, with the numbers in shared memory that is
/// faulted in beforehand, and messages that only name `chunk` of them. Returns items per second, the median of several
/// passes after a first one.
double relay_array_map(std::size_t items, std::size_t chunk, std::size_t workers);

}  // namespace taskpool::bench
