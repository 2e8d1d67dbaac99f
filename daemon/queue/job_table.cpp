#include "daemon/queue/job_table.hpp"

#include <fmt/core.h>

#include <charconv>

namespace taskpool::queue {

namespace {
constexpr std::uint64_t kSlotMask = JobTable::kMaxJobs - 1;
}

JobTable::JobTable(std::uint32_t epoch) : prefix_{fmt::format("{:08x}-", epoch)} {}

Job* JobTable::create() {
  if (free_.empty()) {
    if (slots_.size() == kMaxJobs) return nullptr;
    free_.push_back(static_cast<std::uint32_t>(slots_.size()));
    slots_.emplace_back();
  }
  const auto slot = free_.back();
  free_.pop_back();
  auto& job = slots_[slot].emplace();
  job.id = JobId{(++sequence_ << kSlotBits) | slot};
  all_.push_back(job);
  return &job;
}

void JobTable::release(Job& job) {
  const auto slot = static_cast<std::uint32_t>(static_cast<std::uint64_t>(job.id) & kSlotMask);
  slots_[slot].reset();  // unlinks it everywhere
  free_.push_back(slot);
}

Job* JobTable::find(JobId id) {
  const auto slot = static_cast<std::uint64_t>(id) & kSlotMask;
  if (slot >= slots_.size() || !slots_[slot] || slots_[slot]->id != id) return nullptr;
  return &*slots_[slot];
}

std::string JobTable::text(JobId id) const { return fmt::format("{}{:x}", prefix_, static_cast<std::uint64_t>(id)); }

Job* JobTable::find(std::string_view text, std::optional<std::uint32_t>& item) {
  item.reset();
  if (!text.starts_with(prefix_)) return nullptr;
  text.remove_prefix(prefix_.size());
  std::uint64_t number = 0;
  const auto* const end = text.data() + text.size();
  auto [at, error] = std::from_chars(text.data(), end, number, 16);
  if (error != std::errc{}) return nullptr;
  if (at != end) {
    std::uint32_t index = 0;
    if (*at != '/') return nullptr;
    const auto parsed = std::from_chars(at + 1, end, index);
    if (parsed.ec != std::errc{} || parsed.ptr != end) return nullptr;
    item = index;
  }
  return find(JobId{number});
}

}  // namespace taskpool::queue
