#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <optional>

#include "client/cpp/job.hpp"
#include "taskpool/map_stream.hpp"

namespace taskpool::client {

/// A job that is fed and emptied while it runs, within a window. One thread pushes, one takes.
class StreamJob final : public Job {
 public:
  StreamJob(Destination to, const StreamOptions& options) : Job{std::move(to)}, options_{options} {}

  Result<bool> try_push(Connection& connection, const Item& item);
  Result<void> push(Connection& connection, const Item& item, std::chrono::milliseconds patience);
  std::optional<Outcome> try_next(Connection& connection);
  MapStream::State wait_for(Connection& connection, const Deadline& deadline);
  std::uint64_t taken() const { return taken_.load(std::memory_order_acquire); }

 private:
  /// Outcomes of consecutive items that came together.
  struct Chunk {
    std::uint64_t first = 0;
    std::uint64_t count = 0;
    Body body;                         ///< Of all of them: packed, an array, or one item as it is.
    bool single = false;               ///< The last of these.
    std::unique_ptr<ErrorHead> error;  ///< Instead of it.
    std::shared_ptr<void> refs;        ///< Keeps the objects that they name.
    std::size_t bytes() const { return body.bytes().size() + sizeof(Chunk); }
  };

  void deliver(Connection&, std::uint64_t first, std::uint32_t count, Encoding encoding,
               std::span<const std::byte> body) override;
  void deliver_one(Connection&, std::uint64_t index, Body body) override;
  void deliver_array(Connection&, std::uint64_t first, Body body) override;
  void deliver_failure(Connection&, std::uint64_t first, std::uint64_t count, const ErrorHead& error) override;

  void keep_refs(std::shared_ptr<void> refs) override { refs_ = std::move(refs); }

  void keep(Chunk chunk);
  bool has_next() const;
  bool has_room(const Item& item) const;
  bool is_idle() const;
  static bool is_waiting(std::uint64_t waits) { return waits % 2 == 1; }
  Outcome next_of_current();

  const StreamOptions options_;

  std::shared_ptr<void> refs_;            ///< Of the outcomes that are delivered next.
  std::map<std::uint64_t, Chunk> ready_;  ///< By first index. Under the connection's lock.
  std::atomic<std::size_t> ready_bytes_{0};

  // Of the thread that takes.
  Chunk current_;
  std::uint64_t at_ = 0;    ///< Taken of current_.
  std::size_t offset_ = 0;  ///< Where the next packed item begins.
  std::atomic<std::uint64_t> taken_{0};
  std::atomic<std::uint64_t> waits_{0};  ///< Its waits that have begun, and those that have ended: odd while it waits.
};

}  // namespace taskpool::client
