#include "daemon/queue/scheduler.hpp"

#include <algorithm>

namespace taskpool::queue {

namespace {
/// Below this a moved item costs more than it saves: two wake-ups.
constexpr Nanoseconds kMoveCost{100'000};
/// Items given before anything is known of their run time.
constexpr std::uint32_t kFirstChunk = 16;
}  // namespace

std::uint32_t items_to_give(const Load& load, const Demand& demand, std::uint32_t workers, std::uint32_t prefetch) {
  if (demand.waiting == 0 || load.slow) return 0;
  const bool idle = load.items == 0;
  if (demand.explicit_chunk > 0) {
    // The caller chose what travels together; one chunk runs while the next waits.
    return load.items <= demand.explicit_chunk / 2 ? std::min(demand.explicit_chunk, demand.waiting) : 0;
  }
  const auto per_item = demand.estimate.per_item();
  const auto target = demand.shared ? kSharedTarget : kPipelineTarget;
  // For a first item a short wait behind others' costs everybody less than taking those back and sending them again.
  const bool waits_briefly = demand.first && load.estimated <= kSharedTarget;
  if (!idle && !waits_briefly) {
    if (load.items >= prefetch || per_item >= kSlowItem) return 0;
    // Refilled at half of the target, so that small results do not cause small chunks.
    if (load.estimated >= target / 2) return 0;
  }

  const auto room = static_cast<std::uint64_t>(std::max(target - load.estimated, Nanoseconds{0}) / per_item) + 1;
  // Everybody gets a share of what is left, which shrinks towards the end.
  const auto share = demand.waiting_all / (std::uint64_t{2} * std::max<std::uint32_t>(workers, 1)) + 1;
  auto give = std::min({room, share, std::uint64_t{demand.waiting}});
  if (!demand.estimate.known()) give = std::min<std::uint64_t>(give, kFirstChunk);
  // Items of a few nanoseconds come by the hundred thousand; the bound on items is for those that cost a message each.
  if (per_item > Nanoseconds{200}) give = std::min<std::uint64_t>(give, prefetch);
  return static_cast<std::uint32_t>(std::max<std::uint64_t>(give, 1));
}

bool worth_moving(std::uint32_t unclaimed, Nanoseconds per_item, Nanoseconds running) {
  if (unclaimed == 0) return false;
  return running >= Nanoseconds{1'000'000} || per_item * unclaimed >= kMoveCost;
}

}  // namespace taskpool::queue
