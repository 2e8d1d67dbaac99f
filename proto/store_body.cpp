#include "proto/store_body.hpp"

#include <string>

#include "proto/limits.hpp"

namespace taskpool::store {
namespace {

// Where the fields are in an operation's header, then in an argument's.
constexpr std::size_t kCodeAt = 0;
constexpr std::size_t kArgumentsAt = 2;
constexpr std::size_t kZeroAt = 3;
constexpr std::size_t kTargetAt = 4;
constexpr std::size_t kSizeAt = 0;
constexpr std::size_t kEncodingAt = 4;

Error bad(const char* what) { return fail(Errc::bad_message, std::string{"body: "} + what); }

bool is_known(std::uint8_t encoding) {
  return encoding == kKeyEncoding || encoding == kRefsEncoding || encoding == kItemsEncoding ||
         (encoding < kKeyEncoding && !name(static_cast<Encoding>(encoding)).empty());
}

/// Whether an argument is of the kind that a letter of OperationInfo asks for.
bool fits(char kind, const Argument& argument) {
  switch (kind) {
    case 'k': return argument.encoding == kKeyEncoding && !argument.in_arena;
    case 'v': return argument.encoding < kKeyEncoding;
    case 'i': return argument.is_integer();
    case 'n': return is_array(static_cast<Encoding>(argument.encoding)) && argument.refs.empty();
    case 's': return argument.encoding == kItemsEncoding;
    default: return false;
  }
}

Error misfit(const OperationInfo& info, std::size_t index) {
  return fail(Errc::bad_message, std::string{info.name} + ": argument " + std::to_string(index + 1) +
                                     " is missing, one too many, or of another kind");
}

}  // namespace

Result<void> ArgumentReader::read_one(Argument& into) {
  if (rest_.size() < kArgumentBytes) return bad("an argument's header is cut short");
  const auto size = load<std::uint32_t>(rest_.data() + kSizeAt);
  const auto tail = load<std::uint32_t>(rest_.data() + kEncodingAt);  // the encoding and three zero bytes
  if (tail > 0xff) return bad("a reserved byte is not zero");
  if (size > rest_.size() - kArgumentBytes) return bad("an argument is longer than the body");
  const auto encoding = static_cast<std::uint8_t>(tail & 0x7f);
  into = {.encoding = encoding,
          .in_arena = (tail & kArgumentInArena) != 0,
          .bytes = rest_.subspan(kArgumentBytes, size),
          .refs = {}};
  if (!is_known(encoding)) return bad("an argument's encoding is unknown");
  if (into.in_arena) {
    if (size != sizeof(ArenaRef)) return bad("want one reference into the arena");
    const auto place = into.place();
    if (place.bytes == 0 || place.offset % kArenaAlignment != 0) return bad("a reference is empty or not aligned");
    if (place.bytes > kMaxStoreValueBytes)
      return fail(Errc::body_too_large, "value: " + std::to_string(place.bytes) + " bytes, at most " +
                                            std::to_string(kMaxStoreValueBytes) + "; use a buffer for more");
  } else if (size > kMaxInlineItemBytes && encoding != kItemsEncoding) {
    return fail(Errc::body_too_large, "value: " + std::to_string(size) + " bytes, at most " +
                                          std::to_string(kMaxInlineItemBytes) + " outside an arena");
  } else if (is_array(static_cast<Encoding>(encoding)) && size % element_bytes(static_cast<Encoding>(encoding)) != 0) {
    return bad("an array has a torn element");
  }
  rest_ = rest_.subspan(kArgumentBytes + size);
  return {};
}

Result<void> ArgumentReader::read(Argument& into) {
  if (const auto done = read_one(into); !done) return done;
  if (into.encoding == kRefsEncoding) return bad("refs without a value");
  if (rest_.size() < kArgumentBytes || load<std::uint32_t>(rest_.data() + kEncodingAt) != kRefsEncoding) return {};
  if (into.encoding >= kKeyEncoding) return bad("refs without a value");
  Argument refs;
  if (const auto done = read_one(refs); !done) return done;
  if (refs.bytes.size() % sizeof(std::uint64_t) != 0) return bad("refs are not whole ids");
  if (refs.bytes.size() / sizeof(std::uint64_t) > kMaxValueRefs)
    return fail(Errc::limit_reached, "refs: at most " + std::to_string(kMaxValueRefs));
  into.refs = refs.bytes;
  return {};
}

Result<Argument> ArgumentReader::next() {
  Argument argument;
  if (const auto done = read(argument); !done) return done.error();
  return argument;
}

Result<void> OperationReader::next(Operation& into) {
  auto& rest = arguments_.rest_;
  if (rest.size() < kOperationBytes) return bad("an operation's header is cut short");
  const auto code = load<std::uint16_t>(rest.data() + kCodeAt);
  into.info = find_operation(code);
  if (into.info == nullptr) return fail(Errc::bad_message, "operation: " + std::to_string(code) + " is unknown");
  auto left = load<std::uint8_t>(rest.data() + kArgumentsAt);
  if (load<std::uint8_t>(rest.data() + kZeroAt) != 0) return bad("a reserved byte is not zero");
  into.target = load<std::uint32_t>(rest.data() + kTargetAt);
  into.count = 0;
  rest = rest.subspan(kOperationBytes);

  const auto& info = *into.info;
  bool optional = false;
  for (const char kind : info.arguments) {
    if (kind == '?') {
      optional = true;
      continue;
    }
    if (left == 0) {
      if (!optional) return misfit(info, into.count);
      break;
    }
    auto& argument = into.arguments[into.count];
    if (const auto done = arguments_.read(argument); !done) return done;
    if (!fits(kind, argument)) return misfit(info, into.count);
    if (kind == 'k' && argument.bytes.size() > kMaxKeyBytes)
      return fail(Errc::bad_key,
                  "key: " + std::to_string(argument.bytes.size()) + " bytes, at most " + std::to_string(kMaxKeyBytes));
    --left;
    ++into.count;
  }
  if (left != 0) return misfit(info, into.count);
  if (--left_ == 0 && !rest.empty()) return bad("bytes behind the last operation");
  return {};
}

Result<std::uint32_t> ResultReader::next_result() {
  auto& rest = arguments_.rest_;
  if (left_ == 0 || rest.size() < sizeof(std::uint32_t)) return bad("a result is missing");
  const auto values = load<std::uint32_t>(rest.data());
  rest = rest.subspan(sizeof(std::uint32_t));
  if (values > rest.size() / kArgumentBytes) return bad("a result has more values than the body");
  --left_;
  return values;
}

void BodyWriter::begin(Code code, std::uint32_t target) {
  is_result_ = false;
  ++count_;
  at_ = out_.size() + kArgumentsAt;
  out_.resize(out_.size() + kOperationBytes);
  auto* const header = out_.data() + out_.size() - kOperationBytes;
  store_le(header + kCodeAt, static_cast<std::uint16_t>(code));
  store_le(header + kArgumentsAt, std::uint16_t{0});
  store_le(header + kTargetAt, target);
}

void BodyWriter::begin_result() {
  is_result_ = true;
  ++count_;
  at_ = out_.size();
  out_.resize(out_.size() + sizeof(std::uint32_t));
}

void BodyWriter::append(std::uint8_t encoding, std::span<const std::byte> bytes) {
  const auto start = out_.size();
  out_.resize(start + kArgumentBytes);
  store_le(out_.data() + start + kSizeAt, static_cast<std::uint32_t>(bytes.size()));
  store_le(out_.data() + start + kEncodingAt, std::uint32_t{encoding});
  out_.insert(out_.end(), bytes.begin(), bytes.end());
}

void BodyWriter::put(std::uint8_t encoding, std::span<const std::byte> bytes) {
  append(encoding, bytes);
  if (count_ == 0) return;  // a list of items has no count
  if (is_result_)
    store_le(out_.data() + at_, load<std::uint32_t>(out_.data() + at_) + 1);
  else
    out_[at_] = static_cast<std::byte>(std::to_integer<unsigned>(out_[at_]) + 1);
}

void BodyWriter::put_refs(std::span<const std::byte> refs) {
  if (refs.empty()) return;
  append(kRefsEncoding, refs);  // not counted: they belong to the value
}

void BodyWriter::value(Encoding encoding, std::span<const std::byte> bytes, std::span<const std::uint64_t> refs) {
  put(static_cast<std::uint8_t>(encoding), bytes);
  put_refs(std::as_bytes(refs));
}

void BodyWriter::value_in_arena(Encoding encoding, const ArenaRef& place, std::span<const std::uint64_t> refs) {
  put(static_cast<std::uint8_t>(static_cast<std::uint8_t>(encoding) | kArgumentInArena),
      std::as_bytes(std::span{&place, 1}));
  put_refs(std::as_bytes(refs));
}

void BodyWriter::copy(const Argument& argument) {
  put(static_cast<std::uint8_t>(argument.encoding | (argument.in_arena ? kArgumentInArena : 0)), argument.bytes);
  put_refs(argument.refs);
}

}  // namespace taskpool::store
