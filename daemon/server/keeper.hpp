#pragma once

#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "daemon/config.hpp"
#include "daemon/metrics.hpp"
#include "daemon/queue/job_table.hpp"
#include "daemon/server/arenas.hpp"
#include "daemon/wire/channel.hpp"

namespace taskpool::server {

/// Keeps the results of detached jobs, and of those with an idempotency key, until they are fetched, too old, too many
/// or too large. It is their listener; a session that waits for such a job gets all of it at its end.
class Keeper : public queue::Listener {
 public:
  Keeper(wire::Turn& turn, const Config& config, Metrics& metrics, queue::JobTable& jobs, Arenas& arenas);

  /// What names a submission that must not run twice.
  using Key = std::tuple<std::uint32_t, std::string, std::string>;  // uid, pool, idempotency key

  /// Becomes the job's listener.
  void adopt(queue::Job& job, std::optional<Key> key);
  /// Regions of the daemon's own arena that the job's arguments lie in; released at its end.
  void add_inputs(queue::Job& job, std::vector<ArenaRef> inputs);
  queue::Job* find(const Key& key);
  bool keeps(const queue::Job& job) const;
  /// The first error of a job that failed.
  const ErrorHead* error_of(const queue::Job& job) const;
  /// Sends a finished job's outcomes from item `index` on, as the replies to `request`. `session` is whose arena takes
  /// large ones; `hold` is told which objects results name before they are sent. Error: `out_of_space`.
  Result<void> replay(const queue::Job& job, wire::Channel& to, std::uint64_t request, std::uint32_t session,
                      std::uint64_t index, const std::function<void(std::span<const std::string>)>& hold);
  /// Forgets a finished job; it is gone when this returns.
  void drop(queue::Job& job);
  /// Waits for nothing any more: the daemon ends.
  void stop() {
    stopped_ = true;
    timer_.cancel();
  }
  /// Jobs kept or still running that somebody may ask for: a private daemon does not leave while there are any.
  std::size_t size() const { return records_.size(); }
  /// Keeps an object of the store that a result for that user names, as long as what it returns lives.
  std::function<std::shared_ptr<void>(const std::string& id, std::uint32_t uid)> pin;
  /// Called with the number of a job whose record goes: removes what else is kept of it.
  std::function<void(const queue::Job&)> on_dropped;
  /// Called with a job's first error, and the item it was of, when its record goes before anybody fetched it.
  std::function<void(const queue::Job&, std::uint32_t index, const ErrorHead&)> on_uncollected;

  void on_results(queue::Job& job, std::uint32_t index, std::uint32_t count, const Prefix& form,
                  std::span<const std::byte> table, std::span<const std::byte> payload,
                  std::span<const std::string> refs) override;
  void on_failed(queue::Job& job, std::uint32_t index, std::uint32_t count, const ErrorHead& error) override;
  void on_progress(queue::Job& job, std::uint32_t index, const Report& report) override;
  bool on_done(queue::Job& job) override;

 private:
  struct Piece {
    Prefix form;  ///< `target` is the index of its first item.
    std::string head;
    std::vector<std::byte> body;
    std::vector<std::string> refs{};            ///< Objects of the store that the items name,
    std::vector<std::shared_ptr<void>> pins{};  ///< and what keeps them.
  };
  struct Record {
    std::optional<Key> key;
    std::vector<ArenaRef> inputs;
    std::vector<Piece> pieces;
    std::uint64_t bytes = 0;
    std::optional<ErrorHead> error;  ///< The first one.
    std::uint32_t error_index = 0;
    bool collected = false;   ///< Somebody fetched it.
    bool overflowed = false;  ///< Its results were more than may be kept.
    queue::TimePoint ended{};
    std::list<queue::JobId>::iterator place;
  };

  Record* find(const queue::Job& job) const;
  void add(Record& record, Piece piece);
  void release_inputs(Record& record);
  void release_pieces(Record& record);
  /// Drops what nobody fetched in time.
  void expire(queue::Job& job);
  void trim();
  void arm();
  std::uint64_t limit() const { return config_.kept_result_bytes; }

  wire::Turn& turn_;
  const Config& config_;
  Metrics& metrics_;
  queue::JobTable& jobs_;
  Arenas& arenas_;
  std::unordered_map<std::uint64_t, std::unique_ptr<Record>> records_;
  std::map<Key, queue::JobId> keys_;
  std::list<queue::JobId> ended_;  ///< Oldest first.
  std::uint64_t bytes_ = 0;
  boost::asio::steady_timer timer_;
  bool armed_ = false;
  bool arming_ = false;  ///< arm() is to be called soon.
  bool stopped_ = false;
};

}  // namespace taskpool::server
