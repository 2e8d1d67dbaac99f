#pragma once

#include <deque>
#include <vector>

#include "client/cpp/pending.hpp"
#include "taskpool/object.hpp"

namespace taskpool::client {

/// One operation on its way: views its arguments.
struct StoreOperation {
  store::Code code;
  const std::shared_ptr<Opened>& object;
  std::span<const StoreArgument> arguments;
};

/// A batch on its way, written but for the numbers of its objects.
struct EncodedOperations {
  std::span<std::byte> body;
  std::uint32_t count;
  std::span<const std::pair<std::size_t, std::shared_ptr<Opened>>> targets;  ///< Where in the body each number goes.
};

/// Writes an argument that is not for the arena.
void append_argument(store::BodyWriter& body, const StoreArgument& argument);

/// The reply to `store`. A single value of a single operation is the body; all else is in `results`.
class StoreReply : public Reply {
 public:
  Result<bool> accept(Connection& connection, const FrameView& frame, std::span<Fd> fds) override;
  /// The connection knows what can be sent again: Connection::resend_store().
  bool rewind(Connection&) override { return false; }

  // Whose numbers it sent: kept open until the reply.
  std::shared_ptr<Opened> object;
  std::vector<std::shared_ptr<Opened>> more_objects;

  // Valid once ended().
  bool has_body = false;
  std::vector<StoreResult> results;

  /// The result of the only operation, or the error, once.
  Result<StoreResult> take_one();
  /// Those of a batch.
  Result<std::vector<StoreResult>> take_all();
};

/// A watch: `ok`, then changes until it ends.
class WatchReply : public Pending {
 public:
  /// Changes that are kept for a reader who is slow; beyond, they are left out and it learns that it lagged.
  static constexpr std::size_t kMaxKept = 4096;

  Result<bool> accept(Connection& connection, const FrameView& frame, std::span<Fd> fds) override;
  void abandon(Connection& connection, const ErrorHead& error, bool unsent) override;

  // Under the connection's lock.
  bool begun_watching = false;
  std::deque<Change> changes;
  std::unique_ptr<ErrorHead> failure;  ///< Why there will be no more.
};

}  // namespace taskpool::client
