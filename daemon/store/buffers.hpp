#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "daemon/os/memory.hpp"
#include "proto/message.hpp"

namespace taskpool::store {

/// Raw memory that the sessions of one user share by its descriptor: a memfd that nobody can resize and that has no
/// name in any file system. It is gone with the last session that has it open. What is in it is none of the daemon's
/// business.
class Buffers {
 public:
  struct Buffer {
    std::uint64_t number = 0;
    std::uint32_t uid = 0;
    std::string name;  ///< Empty: anonymous.
    std::uint64_t bytes = 0;
    std::uint64_t created = 0;                         ///< Unix time, seconds.
    std::shared_ptr<os::SharedMemory> memory{};        ///< Of one with a name: nobody will ask for the others again.
    std::map<std::uint32_t, std::uint32_t> openers{};  ///< By session: under how many numbers.
  };
  struct Opened {
    std::uint64_t bytes;
    bool created;
    std::shared_ptr<os::SharedMemory> memory;
  };

  /// Buffers with names that one user may have: each takes a descriptor of ours.
  static constexpr std::size_t kMaxNamed = 1024;

  /// Opens it as `target`, which names nothing else any more, also after an error. `max_bytes`: of all buffers of one
  /// user together. `now`: Unix time, seconds. Errors: `unknown_object`, `object_exists`, `bad_argument` (bytes),
  /// `store_full`, `limit_reached`.
  Result<Opened> open(std::uint32_t session, std::uint32_t uid, std::uint32_t target, const BufferOpen& head,
                      std::uint64_t max_bytes, std::uint64_t now);
  /// Nothing if the number names no buffer.
  void close(std::uint32_t session, std::uint32_t target);
  void end_session(std::uint32_t session);

  /// A user's buffers with a number above `after`, in the order of their making.
  std::vector<const Buffer*> of(std::uint32_t uid, std::uint64_t after) const;
  /// All of them together.
  std::uint64_t bytes() const;

 private:
  using BufferPtr = std::shared_ptr<Buffer>;
  struct Found {
    BufferPtr buffer;
    std::shared_ptr<os::SharedMemory> memory;
    bool created = false;
  };
  Result<Found> find_or_make(std::uint32_t uid, const BufferOpen& head, std::uint64_t max_bytes, std::uint64_t now);
  void leave(const BufferPtr& buffer, std::uint32_t session);

  std::map<std::uint64_t, BufferPtr> buffers_;                           ///< By number.
  std::map<std::pair<std::uint32_t, std::string>, BufferPtr> names_;     ///< By uid and name.
  std::map<std::pair<std::uint32_t, std::uint32_t>, BufferPtr> opened_;  ///< By session and target.
  std::map<std::uint32_t, std::uint64_t> bytes_;                         ///< By uid.
  std::uint64_t last_number_ = 0;
};

}  // namespace taskpool::store
