#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "proto/items.hpp"
#include "proto/store_ops.hpp"

/// Bodies of the ops `store` and `store_reply`: operations, their arguments and their results. PROTOCOL.md,
/// section 3.5.
namespace taskpool::store {

// How an argument is encoded, where it is no item: beyond the numbers of taskpool::Encoding.
inline constexpr std::uint8_t kKeyEncoding = 32;        ///< A key in canonical form; proto/store/key.hpp.
inline constexpr std::uint8_t kRefsEncoding = 33;       ///< u64 ids of the objects that the value before it names.
inline constexpr std::uint8_t kItemsEncoding = 34;      ///< Values, each perhaps with refs, as arguments back to back.
inline constexpr std::uint8_t kArgumentInArena = 0x80;  ///< Bit of the encoding: the bytes are a reference.

inline constexpr std::size_t kOperationBytes = 8;  ///< Of an operation's header.
inline constexpr std::size_t kArgumentBytes = 8;   ///< Of an argument's header.
/// Arguments of one operation, at most.
inline constexpr std::size_t kMaxArguments = 4;

/// One argument or one element of a result; views the body.
struct Argument {
  std::uint8_t encoding = 0;  ///< Without the bit for the arena.
  bool in_arena = false;      ///< `bytes` is an ArenaRef then.
  std::span<const std::byte> bytes;
  std::span<const std::byte> refs;  ///< u64 each; of the `refs` argument that followed, if any.

  std::size_t ref_count() const { return refs.size() / sizeof(std::uint64_t); }
  std::uint64_t ref(std::size_t index) const {
    return load<std::uint64_t>(refs.data() + index * sizeof(std::uint64_t));
  }
  /// Whether it is an i64 alone.
  bool is_integer() const {
    return encoding == static_cast<std::uint8_t>(Encoding::i64) && !in_arena && bytes.size() == sizeof(std::int64_t);
  }
  std::int64_t integer() const { return load<std::int64_t>(bytes.data()); }
  /// The place in the arena; only if in_arena.
  ArenaRef place() const { return load<ArenaRef>(bytes.data()); }
};

/// Reads arguments back to back: a result's, or the items of an argument with that encoding. `refs` are joined to the
/// value before them.
class ArgumentReader {
 public:
  explicit ArgumentReader(std::span<const std::byte> bytes) : rest_{bytes} {}
  bool done() const { return rest_.empty(); }
  /// The next value, and its refs. Errors: `bad_message`, `body_too_large` (a value over kMaxInlineItemBytes).
  Result<Argument> next();
  std::span<const std::byte> rest() const { return rest_; }

 private:
  friend class OperationReader;
  friend class ResultReader;
  // These fill what the caller has: an operation's arguments are not copied on their way.
  Result<void> read(Argument& into);
  Result<void> read_one(Argument& into);

  std::span<const std::byte> rest_;
};

/// One operation, viewing the body.
struct Operation {
  const OperationInfo* info = nullptr;
  std::uint32_t target = 0;
  std::size_t count = 0;
  std::array<Argument, kMaxArguments> arguments;

  /// The integer at `index`, or `otherwise` if there are fewer arguments.
  std::int64_t integer(std::size_t index, std::int64_t otherwise = 0) const {
    return index < count ? arguments[index].integer() : otherwise;
  }
};

/// Walks the operations of a `store` frame. What it returns has the number and the kinds of arguments that its row
/// says.
class OperationReader {
 public:
  OperationReader(std::span<const std::byte> body, std::uint32_t count) : arguments_{body}, left_{count} {}
  bool done() const { return left_ == 0; }
  /// Reads the next operation; of its arguments `count` count, the others are as they were. Errors: `bad_message` (also
  /// for bytes behind the last), `body_too_large`, `bad_key` (longer than kMaxKeyBytes). Whether a key is canonical is
  /// not looked at.
  Result<void> next(Operation& into);

 private:
  ArgumentReader arguments_;
  std::uint32_t left_;
};

/// Walks the results of a `store_reply`: first each result's count of values with next_result(), then as many next().
class ResultReader {
 public:
  ResultReader(std::span<const std::byte> body, std::uint32_t count) : arguments_{body}, left_{count} {}
  bool done() const { return left_ == 0; }
  /// How many values the next result has. Error: `bad_message`.
  Result<std::uint32_t> next_result();
  Result<Argument> next() { return arguments_.next(); }

 private:
  ArgumentReader arguments_;
  std::uint32_t left_;
};

/// Builds operations or results, appended to a caller's buffer.
class BodyWriter {
 public:
  explicit BodyWriter(std::vector<std::byte>& out) : out_{out} {}

  /// Begins an operation; its arguments follow.
  void begin(Code code, std::uint32_t target);
  /// Begins a result; its values follow.
  void begin_result();
  std::uint32_t count() const { return count_; }  ///< Operations or results so far.

  void key(std::span<const std::byte> canonical) { put(kKeyEncoding, canonical); }
  void value(Encoding encoding, std::span<const std::byte> bytes, std::span<const std::uint64_t> refs = {});
  void value_in_arena(Encoding encoding, const ArenaRef& place, std::span<const std::uint64_t> refs = {});
  void integer(std::int64_t value) {
    put(static_cast<std::uint8_t>(Encoding::i64), std::as_bytes(std::span{&value, 1}));
  }
  /// A list of items that another BodyWriter wrote with value() alone, without begin().
  void items(std::span<const std::byte> bytes) { put(kItemsEncoding, bytes); }
  void items_in_arena(const ArenaRef& place) {
    put(kItemsEncoding | kArgumentInArena, std::as_bytes(std::span{&place, 1}));
  }
  /// An argument that was read, as it was.
  void copy(const Argument& argument);
  void put(std::uint8_t encoding, std::span<const std::byte> bytes);

 private:
  void append(std::uint8_t encoding, std::span<const std::byte> bytes);
  void put_refs(std::span<const std::byte> refs);

  std::vector<std::byte>& out_;
  std::size_t at_ = 0;  ///< Where the count of what is being built is.
  bool is_result_ = false;
  std::uint32_t count_ = 0;
};

}  // namespace taskpool::store
