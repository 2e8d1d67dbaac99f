#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/queue/job.hpp"

namespace taskpool::queue {

/// All jobs there are, running or kept, each at a fixed address. Finding one by its number costs one look-up in an
/// array.
class JobTable {
 public:
  /// `epoch` makes the outside names of jobs unlike those of any other run of the daemon: a random number. (Two may
  /// start within a second.)
  explicit JobTable(std::uint32_t epoch);

  /// A new job, or nullptr when kMaxJobs exist.
  Job* create();
  /// Frees a job. Nothing refers to it any more.
  void release(Job& job);
  Job* find(JobId id);

  /// The name by which clients know a job, "6921f3a2-100002a", and what it is without the number.
  std::string text(JobId id) const;
  const std::string& prefix() const { return prefix_; }
  /// The job of that name; `item` is the part after a '/', if there is one: "6921f3a2-100002a/17". Null if there is
  /// none.
  Job* find(std::string_view text, std::optional<std::uint32_t>& item);

  /// Every job, oldest first.
  TableList& all() { return all_; }
  std::size_t size() const { return slots_.size() - free_.size(); }

  static constexpr unsigned kSlotBits = 24;
  static constexpr std::size_t kMaxJobs = std::size_t{1} << kSlotBits;

 private:
  std::string prefix_;
  std::uint64_t sequence_ = 0;
  std::deque<std::optional<Job>> slots_;
  std::vector<std::uint32_t> free_;
  TableList all_;
};

}  // namespace taskpool::queue
