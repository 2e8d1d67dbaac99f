#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "proto/result.hpp"
#include "proto/store/key.hpp"

namespace taskpool {

namespace client {
class Connection;
class WatchReply;
}  // namespace client

/// One change of an object.
struct Change {
  /// Numbered as in PROTOCOL.md, section 3.5.
  enum class Kind : std::uint32_t {
    set = 1,      ///< The entry was set.
    erased = 2,   ///< It was deleted.
    expired = 3,  ///< Its time to live passed.
    changed = 4,  ///< Something else than single entries of a dict.
    removed = 5,  ///< The object is gone; nothing follows.
    lagged = 6,   ///< Changes were left out: look for yourself.
  };
  Kind kind = Kind::changed;
  std::optional<store::Key> key;  ///< Of a dict's entry.
  std::uint64_t version = 0;      ///< The object's, after it.
};
/// "set", ...; "changed" for a kind that is not known.
std::string_view name(Change::Kind kind);

/// Changes of an object, as they come. Move-only; destroying it ends the watch. For one thread at a time.
///
/// Who does not take them loses some: next() then says `lagged`, once, and the object has to be read anew. The last one
/// is `removed`, if the object is.
class Watch {
 public:
  Watch(std::shared_ptr<client::Connection> connection, std::shared_ptr<client::WatchReply> reply);
  Watch(Watch&&) noexcept;
  Watch& operator=(Watch&&) noexcept;
  ~Watch();

  /// The next change; waits for it. Error: why there will be none any more (`daemon_gone`: after a reconnection, watch
  /// again).
  Result<Change> next();
  /// The same for at most `timeout`; nothing: it passed.
  Result<std::optional<Change>> next_for(std::chrono::milliseconds timeout);

 private:
  Result<std::optional<Change>> take(std::optional<std::chrono::milliseconds> timeout);

  std::shared_ptr<client::Connection> connection_;
  std::shared_ptr<client::WatchReply> reply_;
};

}  // namespace taskpool
