#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "proto/codec.hpp"
#include "proto/limits.hpp"

using namespace taskpool;

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

/// What one struct makes of a head: nothing, or a message that stays the same from its second writing on (the first may
/// have cut a long text).
template <class T>
void try_as(std::string_view head) {
  const auto message = decode<T>(head);
  if (!message) return require(message.error().errc() == Errc::bad_message && !message.error().detail.empty());
  const auto written = encode(*message);
  if (written.size() > kMaxFrameHeadBytes) return;  // of names; a sender refuses it
  const auto again = decode<T>(written);
  require(again.has_value() && encode(*again) == written);
}

template <class... T>
void try_all(std::string_view head) {
  (try_as<T>(head), ...);
}

}  // namespace

/// The input is a head. Every struct tries to read it: that costs less than it would to choose one.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size > kMaxFrameHeadBytes) return 0;
  try_all<Hello, Welcome, ErrorHead, Call, Done, Progress, Cancel, Wait, Fetch, Ps, Failures, PoolOpen, PoolName,
          PoolResize, Drain, Shutdown, ArenaOpen, ArenaSegment, LogRequest, Define, Attach, Detach, Report, WorkerReady,
          WorkerFailed, Start, FunctionInfo, Ready, StartFailed, Fork, Forked, ForkFailed, Exited, ObjectOpen,
          ObjectOpened, ObjectsRequest, LocksRequest, BufferOpen>({reinterpret_cast<const char*>(data), size});
  return 0;
}
