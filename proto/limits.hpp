#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

/// Every number that both sides of a connection enforce. What only the daemon enforces, and an administrator may
/// change, is in daemon/config.hpp.
namespace taskpool {

/// Bytes of the prefix that every frame begins with. PROTOCOL.md, section 1.
inline constexpr std::size_t kPrefixBytes = 32;
/// Largest body of one frame. Bytes. Bounds what a receiver must buffer for one peer.
inline constexpr std::size_t kMaxFrameBodyBytes = 1u << 20;
/// Largest head of one frame. Bytes: the range of its length field.
inline constexpr std::size_t kMaxFrameHeadBytes = 65535;
/// Largest item that travels inside a frame. Bytes. Larger ones go through the session's arenas, which are faster from
/// about here on (tests/bench/RESULTS.md).
inline constexpr std::size_t kMaxInlineItemBytes = 1u << 16;
/// How much a sender packs into one frame before it begins the next. Bytes. With one largest item more it stays well
/// below kMaxFrameBodyBytes.
inline constexpr std::size_t kPackBytes = 1u << 16;
/// Descriptors on one frame. The kernel's own bound is 253 (SCM_MAX_FD).
inline constexpr std::size_t kMaxFrameFds = 8;
/// Prepared calls of one session; their numbers are 1..this.
inline constexpr std::uint32_t kMaxPreparedCalls = 4096;
/// Items of one job, so that an index fits the frame's `target` with a value to spare.
inline constexpr std::uint32_t kMaxJobItems = 0xfffffffeu;
/// Explicit `chunk` of a map.
inline constexpr std::uint32_t kMaxChunk = 1'000'000;
/// Lengths of texts that clients choose. Bytes.
inline constexpr std::size_t kMaxNameBytes = 128;
inline constexpr std::size_t kMaxClientNameBytes = 64;
inline constexpr std::size_t kMaxFunctionBytes = 1024;
inline constexpr std::size_t kMaxPathBytes = 4096;
/// A pickled exception in base64, in the head of an error. Bytes. Leaves room for the traceback.
inline constexpr std::size_t kMaxExceptionBytes = 24 * 1024;
/// Nesting of the JSON in a head, so that no reader's stack can be exhausted.
inline constexpr std::size_t kMaxJsonDepth = 64;
/// Modules, capabilities or environment variables that one head may list.
inline constexpr std::size_t kMaxListed = 4096;
/// Longest time that a field can name: 2^31-1 ms, 24 days.
inline constexpr std::chrono::milliseconds kMaxDuration{0x7fffffff};
/// `retries`, `lost_retries` and `oom_retries`.
inline constexpr std::uint32_t kMaxRetries = 1000;
/// A task that killed this many workers is not run again, whatever `lost_retries` says.
inline constexpr std::uint32_t kMaxDeathsPerTask = 2;
/// The same for those that its zygote took along.
inline constexpr std::uint32_t kMaxZygoteDeathsPerTask = 5;
/// Longest delay between two runs of a task.
inline constexpr std::chrono::milliseconds kMaxRetryDelay{60'000};
inline constexpr int kMinPriority = -100;
inline constexpr int kMaxPriority = 100;
/// `nice`: 0 is what the daemon has, and this is the least urgent that there is.
inline constexpr std::uint32_t kMaxNice = 19;
/// Smallest `max_task_files`: a worker needs some itself, to receive descriptors.
inline constexpr std::uint32_t kMinTaskFiles = 32;
/// Workers of one pool.
inline constexpr std::uint32_t kMaxWorkers = 1024;
/// Rows in one reply to `ps` or `failures`, so that it fits a frame.
inline constexpr std::uint32_t kMaxRows = 1000;
/// Largest arena segment. Bytes: 64 GiB; a session's sum is bounded by the daemon's config.
inline constexpr std::uint64_t kMaxSegmentBytes = std::uint64_t{1} << 36;
/// Alignment of regions in an arena. Bytes: a cache line, so that any element type may be read in place.
inline constexpr std::size_t kArenaAlignment = 64;
/// How much of each of a command's two output streams its result holds, unless config or call say otherwise, and the
/// most that they can ask for. Bytes.
inline constexpr std::uint64_t kDefaultOutputBytes = 1u << 20;
inline constexpr std::uint64_t kMaxOutputBytes = 64u << 20;
/// Segments of one arena.
inline constexpr std::uint32_t kMaxSegments = 64;
/// Largest key of a dict in its canonical encoding. Bytes.
inline constexpr std::size_t kMaxKeyBytes = 1024;
/// Largest value in the store. Bytes. What is larger belongs into a buffer.
inline constexpr std::size_t kMaxStoreValueBytes = 8u << 20;
/// Objects that one value may name.
inline constexpr std::size_t kMaxValueRefs = 4096;
/// Elements of an array of the store: what fits the largest value.
inline constexpr std::size_t kMaxArrayWords = kMaxStoreValueBytes / 8;
/// Operations in one `store` frame, so that they fit the segment's redo record.
inline constexpr std::uint32_t kMaxBatch = 1024;
/// Objects that one session has open; their numbers are 1..this.
inline constexpr std::uint32_t kMaxOpened = 65536;
/// Objects that the result of one task may name,
inline constexpr std::uint32_t kMaxResultRefs = 1024;
/// and those of the results that a session has and did not release.
inline constexpr std::uint32_t kMaxHeldRefs = 65536;
/// How much of a dict or a list one page of it holds, beyond which the next one begins. Bytes.
inline constexpr std::size_t kPageBytes = 1u << 16;
/// How long one holder may stop the writes of an object.
inline constexpr std::chrono::milliseconds kMaxHold{1000};
/// Smallest buffer of the store. Bytes: one number.
inline constexpr std::uint64_t kMinBufferBytes = 8;

}  // namespace taskpool
