#include "proto/frame.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cstdlib>
#include <new>

namespace taskpool {
namespace {

static_assert(std::endian::native == std::endian::little,
              "load() and store_le() copy the wire's little-endian integers");

// Where the fields are in a prefix. PROTOCOL.md, section 1.
constexpr std::size_t kBodyAt = 0;
constexpr std::size_t kHeadAt = 4;
constexpr std::size_t kOpAt = 6;
constexpr std::size_t kFlagsAt = 7;
constexpr std::size_t kRequestAt = 8;
constexpr std::size_t kTargetAt = 16;
constexpr std::size_t kCountAt = 20;
constexpr std::size_t kTailAt = 24;  ///< Encoding, fds and six reserved bytes, as one word.

constexpr std::uint8_t kKnownFlags = kInArena | kLast;

using Names = std::array<std::string_view, 256>;

constexpr Names op_names() {
  Names names{};
  const auto list = [&names](Op first, auto... each) {
    std::size_t number = static_cast<std::size_t>(first);
    ((names[number++] = each), ...);
  };
  list(Op::hello, "hello", "welcome", "error", "ok", "prepare", "forget", "apply", "result", "map", "input", "results",
       "failed", "done", "progress", "cancel", "wait", "fetch", "ps", "workers", "pools", "stats", "functions",
       "failures", "pool_open", "pool_close", "pool_resize", "pool_pause", "pool_resume", "reload", "drain", "shutdown",
       "ping", "arena_open", "arena_segment", "arena_release", "nested_wait", "log", "whoami");
  list(Op::run, "run", "run_results", "run_failed", "define", "attach", "detach", "want_room", "room", "report",
       "worker_ready", "worker_failed");
  list(Op::start, "start", "ready", "start_failed", "fork", "forked", "fork_failed", "exited");
  list(Op::object_open, "object_open", "object_close", "object_delete", "store", "store_reply", "watch", "changed",
       "objects", "locks", "buffer_open", "release_refs");
  return names;
}
constexpr Names kOpNames = op_names();
static_assert(kOpNames[static_cast<std::size_t>(Op::whoami)] == "whoami");
static_assert(kOpNames[static_cast<std::size_t>(Op::worker_failed)] == "worker_failed");
static_assert(kOpNames[static_cast<std::size_t>(Op::exited)] == "exited");
static_assert(kOpNames[static_cast<std::size_t>(Op::release_refs)] == "release_refs");

constexpr Names encoding_names() {
  Names names{};
  const auto list = [&names](Encoding first, auto... each) {
    std::size_t number = static_cast<std::size_t>(first);
    ((names[number++] = each), ...);
  };
  list(Encoding::none, "none", "json", "bytes", "pickle");
  list(Encoding::i8, "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "f32", "f64");
  return names;
}
constexpr Names kEncodingNames = encoding_names();
static_assert(kEncodingNames[static_cast<std::size_t>(Encoding::f64)] == "f64");

std::byte* put(std::byte* to, const void* from, std::size_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);  // an empty view may have no address, which memcpy forbids
  return to + bytes;
}

/// Says what is wrong with a prefix that decode_prefix() refused.
Error prefix_error(const std::byte* in) {
  const auto body = load<std::uint32_t>(in + kBodyAt);
  if (body > kMaxFrameBodyBytes)
    return fail(Errc::frame_too_large,
                "body: " + std::to_string(body) + " bytes, at most " + std::to_string(kMaxFrameBodyBytes));
  const auto op = load<std::uint8_t>(in + kOpAt);
  if (kOpNames[op].empty()) return fail(Errc::bad_message, "op: " + std::to_string(op) + " is unknown");
  const auto flags = load<std::uint8_t>(in + kFlagsAt);
  if ((flags & ~kKnownFlags) != 0) return fail(Errc::bad_message, "flags: " + std::to_string(flags) + " is unknown");
  const auto tail = load<std::uint64_t>(in + kTailAt);
  if (kEncodingNames[tail & 0xff].empty())
    return fail(Errc::bad_message, "encoding: " + std::to_string(tail & 0xff) + " is unknown");
  if ((tail >> 8 & 0xff) > kMaxFrameFds)
    return fail(Errc::bad_message,
                "fds: " + std::to_string(tail >> 8 & 0xff) + ", at most " + std::to_string(kMaxFrameFds));
  return fail(Errc::bad_message, "reserved: a byte is not zero");
}

}  // namespace

std::string_view name(Op op) { return kOpNames[static_cast<std::size_t>(op)]; }

std::string_view name(Encoding encoding) { return kEncodingNames[static_cast<std::size_t>(encoding)]; }

std::optional<Encoding> find_encoding(std::string_view wanted) {
  const auto* const found = std::find(kEncodingNames.begin(), kEncodingNames.end(), wanted);
  if (wanted.empty() || found == kEncodingNames.end()) return std::nullopt;
  return static_cast<Encoding>(found - kEncodingNames.begin());
}

void encode_prefix(const Prefix& prefix, std::span<std::byte, kPrefixBytes> out) {
  std::byte* const to = out.data();
  store_le(to + kBodyAt, prefix.body);
  store_le(to + kHeadAt, prefix.head);
  store_le(to + kOpAt, prefix.op);
  store_le(to + kFlagsAt, prefix.flags);
  store_le(to + kRequestAt, prefix.request);
  store_le(to + kTargetAt, prefix.target);
  store_le(to + kCountAt, prefix.count);
  store_le(to + kTailAt, static_cast<std::uint64_t>(prefix.encoding) | static_cast<std::uint64_t>(prefix.fds) << 8);
}

Result<Prefix> decode_prefix(std::span<const std::byte, kPrefixBytes> in) {
  const std::byte* const from = in.data();
  const auto tail = load<std::uint64_t>(from + kTailAt);
  const Prefix prefix{
      .op = load<Op>(from + kOpAt),
      .flags = load<std::uint8_t>(from + kFlagsAt),
      .encoding = static_cast<Encoding>(tail & 0xff),
      .fds = static_cast<std::uint8_t>(tail >> 8 & 0xff),
      .target = load<std::uint32_t>(from + kTargetAt),
      .count = load<std::uint32_t>(from + kCountAt),
      .request = load<std::uint64_t>(from + kRequestAt),
      .head = load<std::uint16_t>(from + kHeadAt),
      .body = load<std::uint32_t>(from + kBodyAt),
  };
  // One branch for all that can be wrong: this runs for every frame.
  const bool wrong = (prefix.body > kMaxFrameBodyBytes) | name(prefix.op).empty() |
                     ((prefix.flags & ~kKnownFlags) != 0) | name(prefix.encoding).empty() |
                     (prefix.fds > kMaxFrameFds) | (tail >> 16 != 0);
  if (wrong) return prefix_error(from);
  return prefix;
}

void ByteBuffer::Free::operator()(std::byte* bytes) const { std::free(bytes); }

std::span<std::byte> ByteBuffer::prepare(std::size_t bytes) {
  if (capacity_ - end_ < bytes) grow(bytes);
  return {bytes_.get() + end_, capacity_ - end_};
}

/// Makes room for `bytes` behind what the queue holds: by moving it to the front if at least as much is free there as
/// has to be moved, so that a byte is moved a bounded number of times, else by a larger block.
void ByteBuffer::grow(std::size_t bytes) {
  const std::size_t held = size();
  if (begin_ >= held && capacity_ - held >= bytes) {
    put(bytes_.get(), bytes_.get() + begin_, held);
  } else {
    constexpr std::size_t kFirst = 4096;
    const std::size_t capacity = std::max({kFirst, capacity_ * 2, held + bytes});
    std::unique_ptr<std::byte[], Free> larger{static_cast<std::byte*>(std::malloc(capacity))};
    if (!larger) throw std::bad_alloc{};
    put(larger.get(), bytes_.get() + begin_, held);
    bytes_ = std::move(larger);
    capacity_ = capacity;
  }
  begin_ = 0;
  end_ = held;
}

void ByteBuffer::append(std::span<const std::byte> bytes) {
  put(prepare(bytes.size()).data(), bytes.data(), bytes.size());
  commit(bytes.size());
}

void ByteBuffer::consume(std::size_t bytes) {
  assert(bytes <= size());
  begin_ += bytes;
  if (begin_ != end_) return;
  clear();
  if (capacity_ > kKeepBytes) {
    bytes_.reset();
    capacity_ = 0;
  }
}

void append_frame(ByteBuffer& out, Prefix prefix, std::string_view head, std::span<const std::byte> body) {
  append_frame(out, prefix, head, body, {});
}

void append_frame(ByteBuffer& out, Prefix prefix, std::string_view head, std::span<const std::byte> body,
                  std::span<const std::byte> more) {
  assert(head.size() <= kMaxFrameHeadBytes && body.size() + more.size() <= kMaxFrameBodyBytes);
  prefix.head = static_cast<std::uint16_t>(head.size());
  prefix.body = static_cast<std::uint32_t>(body.size() + more.size());
  const std::size_t bytes = kPrefixBytes + prefix.head + prefix.body;
  std::byte* to = out.prepare(bytes).data();
  encode_prefix(prefix, std::span<std::byte, kPrefixBytes>{to, kPrefixBytes});
  to = put(to + kPrefixBytes, head.data(), head.size());
  to = put(to, body.data(), body.size());
  put(to, more.data(), more.size());
  out.commit(bytes);
}

Result<std::optional<FrameView>> FrameDecoder::next() {
  buffer_.consume(std::exchange(taken_, 0));
  const auto arrived = buffer_.data();
  if (arrived.size() < kPrefixBytes) return std::nullopt;
  const auto prefix = decode_prefix(arrived.first<kPrefixBytes>());
  if (!prefix) return prefix.error();
  const std::size_t bytes = kPrefixBytes + prefix->head + prefix->body;
  if (arrived.size() < bytes) return std::nullopt;
  const FrameView frame{
      .prefix = *prefix,
      .head = as_text(arrived.subspan(kPrefixBytes, prefix->head)),
      .body = arrived.subspan(kPrefixBytes + prefix->head, prefix->body),
  };
  if (!frame.head.empty() && frame.head.front() != '{') return fail(Errc::bad_message, "head: not a JSON object");
  taken_ = bytes;
  return frame;
}

}  // namespace taskpool
