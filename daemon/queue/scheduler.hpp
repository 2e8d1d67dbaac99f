#pragma once

#include <cstdint>

#include "daemon/queue/estimate.hpp"

/// How much work goes to which worker. Pure decisions from measured run times; pool/pool.cpp acts on them. Mistakes are
/// cheap, because what a worker has not claimed can be taken back.
namespace taskpool::queue {

/// A worker that has less estimated work than this is given more. Long enough that it never waits for the supervisor
/// (a wake-up costs some 40 us), short enough that taking back and rebalancing stay cheap.
inline constexpr Nanoseconds kPipelineTarget{5'000'000};
/// The same while several sessions have work: what one was given ahead is what the others wait behind, or what is taken
/// back and sent again for each of their calls.
inline constexpr Nanoseconds kSharedTarget{500'000};
/// A running item that takes longer than this gets nothing queued behind it.
inline constexpr Nanoseconds kSlowItem{2'000'000};

/// What one worker holds.
struct Load {
  std::uint32_t items = 0;   ///< Given and not reported, claimed or not.
  Nanoseconds estimated{0};  ///< Their estimated run time.
  bool slow = false;         ///< It runs an item that takes longer than kSlowItem.
};

/// What is to be started.
struct Demand {
  std::uint32_t waiting = 0;      ///< Items of the job that wait.
  std::uint64_t waiting_all = 0;  ///< Items of all jobs of the pool that wait.
  Estimate estimate;
  std::uint32_t explicit_chunk = 0;
  bool shared = false;  ///< Several sessions have been given work lately.
  bool first = false;   ///< Nothing else of its session runs: it goes before what others have queued up.
};

/// How many further items a worker should be given now: 0 if it has enough. `workers` is how many workers the pool has,
/// `prefetch` the most items that a worker may hold.
std::uint32_t items_to_give(const Load& load, const Demand& demand, std::uint32_t workers, std::uint32_t prefetch);

/// True if work that `holder` has not claimed should move to a worker that has nothing: `unclaimed` items of which each
/// is estimated to take `per_item`, while its running item has taken `running` so far.
bool worth_moving(std::uint32_t unclaimed, Nanoseconds per_item, Nanoseconds running);

}  // namespace taskpool::queue
