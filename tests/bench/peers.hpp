#pragma once

#include <cstddef>
#include <optional>

/// Other systems that do the same job, measured in the same run.
namespace taskpool::bench {

/// Python's multiprocessing.Pool of two processes, by peers/pool.py and Debian's interpreter.
struct PoolApply {
  double p50_us = 0;
  double p99_us = 0;
};
PoolApply pool_apply(std::size_t count);
double pool_apply_async(std::size_t count);    ///< Tasks per second.
double pool_map(std::size_t count);            ///< Items per second, default chunks.
double pool_argument_rate(std::size_t bytes);  ///< Bytes per second of one argument's way to a worker.

/// beanstalkd over a Unix socket: jobs of 64 bytes put in batches of 100 and taken and deleted in batches by two
/// workers; jobs per second from the first put to the last delete. Nothing if it is not installed.
std::optional<double> beanstalkd_throughput(std::size_t jobs);

/// `xargs -P2 -n1 true` over so many inputs; commands per second.
double xargs_rate(std::size_t commands);

}  // namespace taskpool::bench
