#include "client/cpp/store_reply.hpp"

#include "client/cpp/connection.hpp"
#include "proto/codec.hpp"
#include "proto/store_body.hpp"

namespace taskpool::client {
namespace {

/// A value of a reply, copied unless it is in the arena. Locked.
Result<Body> read_value(Connection& connection, const store::Argument& argument) {
  // A key, where a pair comes back, is bytes to whoever does not ask for more.
  const auto encoding =
      argument.encoding >= store::kKeyEncoding ? Encoding::bytes : static_cast<Encoding>(argument.encoding);
  if (argument.in_arena) {
    const auto place = argument.place();
    const auto element = std::max<std::size_t>(element_bytes(encoding), 1);
    const auto count = is_array(encoding) ? static_cast<std::uint32_t>(place.bytes / element) : 1;
    return connection.body_at(place, encoding, count);
  }
  const auto element = element_bytes(encoding);
  const auto count = element == 0 ? 1 : static_cast<std::uint32_t>(argument.bytes.size() / element);
  return Body{encoding, count, Bytes(argument.bytes.begin(), argument.bytes.end())};
}

}  // namespace

void append_argument(store::BodyWriter& body, const StoreArgument& argument) {
  if (argument.is_number) return body.integer(argument.number);
  if (argument.encoding < store::kKeyEncoding)
    return body.value(static_cast<Encoding>(argument.encoding), argument.bytes, argument.refs);
  body.put(argument.encoding, argument.bytes);
}

Result<bool> StoreReply::accept(Connection& connection, const FrameView& frame, std::span<Fd> given) {
  if (frame.prefix.op != Op::store_reply) {
    auto last = Reply::accept(connection, frame, given);
    if (last && failure && failure->index)
      failure->detail = "operation " + std::to_string(*failure->index + 1) + ": " + failure->detail;
    return last;
  }
  store::ResultReader reader{frame.body, frame.prefix.count};
  while (!reader.done()) {
    const auto values = reader.next_result();
    if (!values) return values.error();
    if (frame.prefix.count == 1 && *values <= 1) {
      if (*values == 0) return true;
      const auto argument = reader.next();
      if (!argument) return argument.error();
      auto value = read_value(connection, *argument);
      if (!value) return value.error();
      body = std::move(*value);
      has_body = true;
      return true;
    }
    StoreResult result;
    result.reserve(*values);
    for (std::uint32_t i = 0; i < *values; ++i) {
      const auto argument = reader.next();
      if (!argument) return argument.error();
      auto value = read_value(connection, *argument);
      if (!value) return value.error();
      result.push_back(std::move(*value));
    }
    results.push_back(std::move(result));
  }
  return true;
}

Result<StoreResult> StoreReply::take_one() {
  if (failure) return to_error(*failure);
  if (!results.empty()) return std::move(results.front());
  StoreResult result;
  if (has_body) result.push_back(std::move(body));
  return result;
}

Result<std::vector<StoreResult>> StoreReply::take_all() {
  if (failure) return to_error(*failure);
  if (results.empty()) {
    auto& result = results.emplace_back();
    if (has_body) result.push_back(std::move(body));
  }
  return std::move(results);
}

Result<bool> WatchReply::accept(Connection&, const FrameView& frame, std::span<Fd>) {
  switch (frame.prefix.op) {
    case Op::ok: begun_watching = true; return false;
    case Op::changed: {
      if (frame.body.size() < sizeof(std::uint64_t)) return fail(Errc::bad_message, "changed: no version");
      Change change;
      change.kind = static_cast<Change::Kind>(frame.prefix.target);
      change.version = load<std::uint64_t>(frame.body.data());
      if (frame.prefix.count == 1) {
        auto key = store::parse_key(frame.body.subspan(sizeof(std::uint64_t)));
        if (!key) return key.error();
        change.key = std::move(*key);
      }
      if (changes.size() >= kMaxKept) {
        changes.clear();
        change.key.reset();
        if (change.kind != Change::Kind::removed) change.kind = Change::Kind::lagged;
      }
      const bool last = change.kind == Change::Kind::removed;
      changes.push_back(std::move(change));
      return last;
    }
    case Op::error: {
      auto error = decode<ErrorHead>(frame.head);
      if (!error) return error.error();
      failure = std::make_unique<ErrorHead>(std::move(*error));
      return true;
    }
    default: return fail(Errc::bad_message, "unexpected " + std::string{name(frame.prefix.op)});
  }
}

void WatchReply::abandon(Connection&, const ErrorHead& error, bool) { failure = std::make_unique<ErrorHead>(error); }

}  // namespace taskpool::client
