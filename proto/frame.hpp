#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "proto/limits.hpp"
#include "proto/result.hpp"

namespace taskpool {

/// What a frame is. PROTOCOL.md, section 3.
enum class Op : std::uint8_t {
  hello = 1,
  welcome,
  error,
  ok,
  prepare,
  forget,
  apply,
  result,
  map,
  input,
  results,
  failed,
  done,
  progress,
  cancel,
  wait,
  fetch,
  ps,
  workers,
  pools,
  stats,
  functions,
  failures,
  pool_open,
  pool_close,
  pool_resize,
  pool_pause,
  pool_resume,
  reload,
  drain,
  shutdown,
  ping,
  arena_open,
  arena_segment,
  arena_release,
  nested_wait,
  log,
  whoami,
  run = 64,
  run_results,
  run_failed,
  define,
  attach,
  detach,
  want_room,
  room,
  report,
  worker_ready,
  worker_failed,
  start = 96,
  ready,
  start_failed,
  fork,
  forked,
  fork_failed,
  exited,
  object_open = 128,
  object_close,
  object_delete,
  store,
  store_reply,
  watch,
  changed,
  objects,
  locks,
  buffer_open,
  release_refs,
};

/// The name of an op as PROTOCOL.md writes it, or "" for a number that is none.
std::string_view name(Op op);

/// How an item is encoded. PROTOCOL.md, section 2.
enum class Encoding : std::uint8_t {
  none = 0,
  json = 1,
  bytes = 2,
  pickle = 3,
  i8 = 16,
  i16,
  i32,
  i64,
  u8,
  u16,
  u32,
  u64,
  f32,
  f64,
};

constexpr bool is_array(Encoding encoding) { return encoding >= Encoding::i8 && encoding <= Encoding::f64; }
/// Bytes of one element of an array encoding; 0 for the others.
constexpr std::size_t element_bytes(Encoding encoding) {
  switch (encoding) {
    case Encoding::i8:
    case Encoding::u8: return 1;
    case Encoding::i16:
    case Encoding::u16: return 2;
    case Encoding::i32:
    case Encoding::u32:
    case Encoding::f32: return 4;
    case Encoding::i64:
    case Encoding::u64:
    case Encoding::f64: return 8;
    default: return 0;
  }
}
/// "json", "i64", ...; "" for a number that is none.
std::string_view name(Encoding encoding);
std::optional<Encoding> find_encoding(std::string_view name);

inline constexpr std::uint8_t kInArena = 1;  ///< Flag: the body is a list of references.
inline constexpr std::uint8_t kLast = 2;     ///< Flag: no more input follows.
inline constexpr std::uint8_t kQuiet = 2;    ///< The same flag of a `store`: success is not answered.

/// The 32 bytes that begin every frame, in the order of their meaning rather than of the wire.
struct Prefix {
  Op op = Op::error;
  std::uint8_t flags = 0;
  Encoding encoding = Encoding::none;
  std::uint8_t fds = 0;
  std::uint32_t target = 0;
  std::uint32_t count = 0;
  std::uint64_t request = 0;
  std::uint16_t head = 0;  ///< Bytes. Set by encode.
  std::uint32_t body = 0;  ///< Bytes. Set by encode.
};

/// One frame, viewing a buffer of whoever made it.
struct FrameView {
  Prefix prefix;
  std::string_view head;
  std::span<const std::byte> body;
};

/// Writes the prefix into `out`, with the lengths that it carries.
void encode_prefix(const Prefix& prefix, std::span<std::byte, kPrefixBytes> out);
/// Reads a prefix. Errors: `bad_message` (unknown op, flag or encoding, non-zero reserved byte, too many descriptors),
/// `frame_too_large`.
Result<Prefix> decode_prefix(std::span<const std::byte, kPrefixBytes> in);

/// A byte queue: appended at the back, consumed at the front. Memory is kept up to `kKeepBytes` when it runs empty.
class ByteBuffer {
 public:
  ByteBuffer() = default;
  ByteBuffer(ByteBuffer&& other) noexcept { *this = std::move(other); }
  ByteBuffer& operator=(ByteBuffer&& other) noexcept {
    bytes_ = std::move(other.bytes_);
    capacity_ = std::exchange(other.capacity_, 0);
    begin_ = std::exchange(other.begin_, 0);
    end_ = std::exchange(other.end_, 0);
    return *this;
  }

  /// At least `bytes` writable bytes at the back; valid until the next call that is not const.
  std::span<std::byte> prepare(std::size_t bytes);
  /// Makes the first `bytes` of what prepare() returned part of the queue.
  void commit(std::size_t bytes) { end_ += bytes; }
  void append(std::span<const std::byte> bytes);
  /// Drops `bytes` at the front.
  void consume(std::size_t bytes);
  std::span<const std::byte> data() const { return {bytes_.get() + begin_, end_ - begin_}; }
  std::size_t size() const { return end_ - begin_; }
  bool empty() const { return begin_ == end_; }
  void clear() { begin_ = end_ = 0; }
  /// Bytes of memory that it holds; 0 at first, and after a move away.
  std::size_t capacity() const { return capacity_; }

 private:
  static constexpr std::size_t kKeepBytes = 256 * 1024;
  struct Free {
    void operator()(std::byte* bytes) const;
  };
  void grow(std::size_t bytes);

  std::unique_ptr<std::byte[], Free> bytes_;  ///< From malloc: never zeroed, as all of it is overwritten.
  std::size_t capacity_ = 0;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
};

/// Appends one frame. `head` at most kMaxFrameHeadBytes, `body` at most kMaxFrameBodyBytes: asserted, as it is our own.
void append_frame(ByteBuffer& out, Prefix prefix, std::string_view head = {}, std::span<const std::byte> body = {});
/// The same with a body in two parts, which saves the caller from joining them.
void append_frame(ByteBuffer& out, Prefix prefix, std::string_view head, std::span<const std::byte> body,
                  std::span<const std::byte> more);

/// Cuts a byte stream into frames. It knows nothing of sockets, so that tests and fuzzers can drive it.
class FrameDecoder {
 public:
  /// Where the next bytes of the stream go, at least `bytes` long; then commit() how many came. Any split is fine.
  std::span<std::byte> prepare(std::size_t bytes) { return buffer_.prepare(bytes); }
  void commit(std::size_t bytes) { buffer_.commit(bytes); }
  void feed(std::span<const std::byte> bytes) { buffer_.append(bytes); }
  /// The next whole frame, viewing this decoder's buffer until the next call of anything here, or nothing yet. Error:
  /// as decode_prefix(), from the prefix alone, or `bad_message` for a head that does not begin with `{`; the stream is
  /// not followed any further then (each further call fails alike), and the connection has to close.
  Result<std::optional<FrameView>> next();
  /// What has arrived behind the frame that next() returned last.
  std::span<const std::byte> rest() const { return buffer_.data().subspan(taken_); }
  /// Lends memory to a decoder that has none. Whoever reads many streams needs it for those alone of which something is
  /// there.
  bool has_memory() const { return buffer_.capacity() > 0; }
  void lend(ByteBuffer memory) { buffer_ = std::move(memory); }
  /// Takes the memory back, at a border and after next() had nothing more; else it returns none.
  ByteBuffer take_back() { return taken_ == 0 && buffer_.empty() ? std::move(buffer_) : ByteBuffer{}; }
  /// True at a frame's border: nothing of a further frame has arrived.
  bool at_border() const { return buffer_.size() == taken_; }

 private:
  ByteBuffer buffer_;
  std::size_t taken_ = 0;  ///< Bytes of the frame that next() returned last.
};

inline std::span<const std::byte> as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}
inline std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Reads or writes a little-endian integer, or a trivially copyable struct of them, at any alignment.
template <class T>
T load(const std::byte* from) {
  static_assert(std::is_trivially_copyable_v<T>);
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
template <class T>
void store_le(std::byte* to, const T& value) {
  static_assert(std::is_trivially_copyable_v<T>);
  std::memcpy(to, &value, sizeof value);
}

}  // namespace taskpool
