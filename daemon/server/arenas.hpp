#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "daemon/config.hpp"
#include "daemon/metrics.hpp"
#include "daemon/os/memory.hpp"
#include "daemon/pool/arena_source.hpp"
#include "proto/arena_space.hpp"

namespace taskpool::server {

/// The shared memory of all sessions: for each an up arena, whose space the client hands out, and a down arena, whose
/// space is handed out here. Session 0 is the daemon's own, for detached tasks; of that both are handed out here.
class Arenas : public pool::ArenaSource {
 public:
  Arenas(const Config& config, Metrics& metrics) : config_{config}, metrics_{metrics} { add(0, 0, {}); }

  /// `announce` is called with each new down segment, before anything refers to it.
  using Announce = std::function<void(std::uint32_t segment, std::uint64_t bytes, int fd)>;
  void add(std::uint32_t session, std::uint32_t uid, Announce announce);
  void remove(std::uint32_t session);

  struct Opened {
    std::uint32_t segment;
    std::uint64_t bytes;
    int fd;  ///< Borrowed.
  };
  /// A new up segment of at least `bytes`. Errors: `out_of_space` (the session's arena_bytes), `bad_argument`.
  Result<Opened> open_up(std::uint32_t session, std::uint64_t bytes);
  /// True if the reference lies in the session's up arena.
  bool is_up(std::uint32_t session, const ArenaRef& reference) const;
  /// The client gives a down region back. False: it had no such region.
  bool release_down(std::uint32_t session, const ArenaRef& region);
  /// Bytes of the down arena in use: results that the client has not given back.
  std::uint64_t down_used(std::uint32_t session) const;

  /// The daemon's own up arena, for copies of what detached tasks take.
  Result<ArenaRef> allocate_own(std::uint64_t bytes);
  void release_own(const ArenaRef& region);
  /// The bytes of a region; empty if there is no such place.
  std::span<std::byte> bytes(std::uint32_t session, bool down, const ArenaRef& region) const;

  // pool::ArenaSource
  Result<ArenaRef> allocate(std::uint32_t session, std::uint64_t bytes) override;
  void release(std::uint32_t session, const ArenaRef& region) override { (void)release_down(session, region); }
  std::optional<pool::SegmentView> find_segment(std::uint32_t session, bool down, std::uint64_t segment) override;
  bool is_same_uid(std::uint32_t session) override;

 private:
  struct Arena {
    std::vector<os::SharedMemory> segments;  ///< Number 1 first.
    ArenaSpace space;
    /// What is handed out, by segment and offset: a client may give back anything.
    std::map<std::pair<std::uint64_t, std::uint64_t>, std::uint64_t> regions;
  };
  struct Session {
    std::uint32_t uid = 0;
    Announce announce;
    Arena up;
    Arena down;
    std::uint64_t total_bytes = 0;
    ~Session();
    Metrics* metrics = nullptr;
  };

  Session* find(std::uint32_t session) const;
  Result<std::uint32_t> grow(Session& session, Arena& arena, std::uint64_t bytes, const char* name);
  Result<ArenaRef> allocate_in(Session& session, Arena& arena, std::uint64_t bytes, const char* name);
  static bool release_in(Arena& arena, const ArenaRef& region);

  const Config& config_;
  Metrics& metrics_;
  std::unordered_map<std::uint32_t, std::unique_ptr<Session>> sessions_;
};

}  // namespace taskpool::server
