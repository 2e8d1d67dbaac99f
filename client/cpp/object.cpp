#include "taskpool/object.hpp"

#include "client/cpp/connection.hpp"
#include "client/cpp/opened.hpp"
#include "client/cpp/session.hpp"
#include "client/cpp/store_reply.hpp"
#include "client/cpp/waiting.hpp"

namespace taskpool {
namespace {

using client::StoreOperation;

Error nothing_opened() { return fail(Errc::unknown_object, "this handle names no object"); }

std::string shown(const client::Opened& opened) {
  const auto* const view = opened.view();
  return opened.name().empty() ? "object " + view->id : std::string{store::name(opened.type())} + " " + opened.name();
}

}  // namespace

Result<void> pack_value(Bytes& packed, const StoredValue& value) {
  if (value.bytes().size() > kMaxInlineItemBytes)
    return fail(Errc::body_too_large, "value: above 64 KiB, among others");
  store::BodyWriter{packed}.value(value.encoding, value.bytes(), value.refs);
  return {};
}

const std::string& Object::name() const { return opened_->name(); }
store::ObjectType Object::type() const { return opened_->type(); }
std::string Object::id() const { return opened_->view()->id; }
bool Object::created() const { return opened_->view()->created; }

Result<void> Object::remove() const {
  if (!valid()) return nothing_opened();
  return session_->connection()->delete_object(opened_);
}

Result<Watch> Object::start_watch(const EncodedKey* key) const {
  if (!valid()) return nothing_opened();
  auto connection = session_->connection();
  const auto view = key != nullptr ? key->view() : store::KeyView{};
  auto reply = connection->watch(opened_, key != nullptr ? &view : nullptr);
  if (reply->ended() && reply->failure) return to_error(*reply->failure);
  return Watch{std::move(connection), std::move(reply)};
}

Result<StoreResult> Object::call(store::Code code, std::initializer_list<StoreArgument> arguments) const {
  if (!valid()) return nothing_opened();
  return session_->connection()->store(StoreOperation{code, opened_, {arguments.begin(), arguments.size()}});
}

RawFuture Object::call_async(store::Code code, std::initializer_list<StoreArgument> arguments) const {
  if (!valid()) return {};
  auto connection = session_->connection();
  auto pending = connection->store_async(StoreOperation{code, opened_, {arguments.begin(), arguments.size()}});
  return {std::move(connection), std::move(pending)};
}

void Object::tell(store::Code code, std::initializer_list<StoreArgument> arguments) const {
  if (valid()) session_->connection()->store_quietly({code, opened_, {arguments.begin(), arguments.size()}});
}

RawFuture Object::failed(const Error& error) const {
  if (!valid()) return {};
  auto connection = session_->connection();
  auto reply = std::make_shared<client::StoreReply>();
  connection->end_with(*reply, error);
  return {std::move(connection), std::move(reply)};
}

store::Read Object::read(store::KeyView key, std::span<std::byte> into) const {
  if (!valid()) return {.code = store::ReadCode::gone};
  const auto& view = *opened_->view();
  return view.segment->reader().get(view.object, key, into);
}

store::Read Object::read_item(std::int64_t index, std::span<std::byte> into) const {
  if (!valid()) return {.code = store::ReadCode::gone};
  const auto& view = *opened_->view();
  const auto& reader = view.segment->reader();
  if (index >= 0) return reader.list_get(view.object, static_cast<std::uint64_t>(index), into);
  // From the end: of the very list that has that end.
  store::Read read;
  const auto code = reader.consistently(view.object, [&] {
    store::ObjectStat stat;
    if (const auto known = reader.stat(view.object, stat); known != store::ReadCode::found) return known;
    const auto from_front = static_cast<std::int64_t>(stat.count) + index;
    if (from_front < 0) return store::ReadCode::absent;
    read = reader.list_get(view.object, static_cast<std::uint64_t>(from_front), into);
    return read.code;
  });
  read.code = code;
  return read;
}

store::Read Object::read_value(std::span<std::byte> into) const {
  if (!valid()) return {.code = store::ReadCode::gone};
  const auto& view = *opened_->view();
  return view.segment->reader().value_get(view.object, into);
}

store::ReadCode Object::read_words(std::uint64_t first, std::span<std::uint64_t> into) const {
  const auto& view = *opened_->view();
  return view.segment->reader().array_get(view.object, first, into);
}

store::Read Object::find(store::KeyView key) const {
  const auto& view = *opened_->view();
  return view.segment->reader().contains(view.object, key);
}

Result<store::ObjectStat> Object::stat() const {
  if (!valid()) return nothing_opened();
  for (unsigned attempt = 0; attempt < store::kReadTries; ++attempt) {
    const auto& view = *opened_->view();
    store::ObjectStat stat;
    const auto code = view.segment->reader().stat(view.object, stat);
    if (code == store::ReadCode::found) return stat;
    if (code == store::ReadCode::too_busy) continue;
    if (auto again = recover(code); !again) return again.error();
  }
  return fail(Errc::too_busy, shown(*opened_) + " kept changing");
}

Result<void> Object::check_array(Encoding typecode, std::uint64_t length) const {
  const auto& view = *opened_->view();
  if (view.typecode == typecode && view.length == length) return {};
  return fail(Errc::wrong_type, shown(*opened_) + " has " + std::to_string(view.length) + " elements " +
                                    std::string{taskpool::name(view.typecode)});
}

Result<std::vector<std::uint64_t>> Object::words_between(std::int64_t begin, std::int64_t end) const {
  if (!valid()) return nothing_opened();
  const auto length = static_cast<std::int64_t>(opened_->view()->length);
  const auto cut = [length](std::int64_t index) {
    return std::clamp<std::int64_t>(index < 0 ? std::max(index, -length) + length : index, 0, length);
  };
  const bool beyond = begin < -length;  // a single element before the first one is none; a slice is cut
  const auto first = cut(begin);
  const auto last = cut(end);
  std::vector<std::uint64_t> words;
  if (first >= last || (beyond && end == begin + 1)) return words;
  words.resize(static_cast<std::size_t>(last - first));
  for (unsigned attempt = 0; attempt < store::kReadTries; ++attempt) {
    const auto& view = *opened_->view();
    const auto& reader = view.segment->reader();
    const auto read = [&] { return reader.array_get(view.object, static_cast<std::uint64_t>(first), words); };
    // A word is whole at any time.
    const auto code = words.size() == 1 ? read() : reader.consistently(view.object, read);
    if (code == store::ReadCode::found) return words;
    if (code == store::ReadCode::absent) return fail(Errc::out_of_range, "the array is shorter");
    if (code == store::ReadCode::too_busy) continue;
    if (auto again = recover(code); !again) return again.error();
  }
  return fail(Errc::too_busy, shown(*opened_) + " kept changing");
}

Result<std::optional<std::size_t>> Object::copy_entry(store::KeyView key, std::span<std::byte> into) const {
  if (!valid()) return nothing_opened();
  for (unsigned attempt = 0; attempt < store::kReadTries; ++attempt) {
    const auto got = read(key, into);
    if (got.code == store::ReadCode::absent) return std::nullopt;
    if (got.code == store::ReadCode::found && got.bytes <= into.size()) return got.bytes;
    if (got.code == store::ReadCode::found)
      return fail(Errc::body_too_large, "the value is " + std::to_string(got.bytes) + " bytes");
    if (got.code == store::ReadCode::too_busy) continue;
    if (auto again = recover(got.code); !again) return again.error();
  }
  return fail(Errc::too_busy, "the entry kept changing");
}

Result<bool> Object::has_entry(store::KeyView key) const {
  if (!valid()) return nothing_opened();
  for (unsigned attempt = 0; attempt < store::kReadTries; ++attempt) {
    const auto got = find(key);
    if (got.code == store::ReadCode::absent) return false;
    if (got.code == store::ReadCode::found) return true;
    if (got.code == store::ReadCode::too_busy) continue;
    if (auto again = recover(got.code); !again) return again.error();
  }
  return fail(Errc::too_busy, "the entry kept changing");
}

Result<bool> Object::scan_page(store::Cursor& cursor, store::Page& page) const {
  if (!valid()) return nothing_opened();
  constexpr std::size_t kEntries = 1024;
  for (unsigned attempt = 0; attempt < store::kReadTries; ++attempt) {
    const auto& view = *opened_->view();
    page.clear();
    const auto code = view.segment->reader().scan(view.object, cursor, kEntries, kPageBytes, page);
    if (code == store::ReadCode::found) return true;
    if (code == store::ReadCode::absent) return false;
    if (code == store::ReadCode::too_busy) continue;
    if (auto again = recover(code); !again) return again.error();
  }
  return fail(Errc::too_busy, "the dict kept changing");
}

Result<void> Object::recover(store::ReadCode code) const {
  if (!valid()) return nothing_opened();
  // The segment itself may have been given up: then the daemon knows where the object is now.
  if (code == store::ReadCode::gone && opened_->view()->segment->reader().is_superseded())
    return session_->connection()->open(opened_);
  auto error = store::read_error(code);
  error.detail = shown(*opened_) + (code == store::ReadCode::gone ? " was removed" : ": " + error.detail);
  return error;
}

Result<Snapshot> Object::read_all() const {
  if (!valid()) return nothing_opened();
  /// A reader that met so many changes will meet more.
  constexpr unsigned kTries = 3;
  Snapshot snapshot;
  bool held = false;
  const auto unhold = [&] {
    if (held) tell(store::Code::unhold, {});
  };
  for (unsigned attempt = 0; attempt < store::kReadTries; ++attempt) {
    const auto& view = *opened_->view();
    snapshot.page.clear();
    const auto code = view.segment->reader().read_all(view.object, snapshot.page, snapshot.version, kTries);
    if (code == store::ReadCode::found || code == store::ReadCode::absent) {
      unhold();
      return snapshot;
    }
    if (code == store::ReadCode::too_busy) {
      if (held) unhold();
      if (auto hold = call(store::Code::hold, {StoreArgument::integer(-1)}); !hold) return hold.error();
      held = true;
    } else if (auto again = recover(code); !again) {
      unhold();
      return again.error();
    }
  }
  unhold();
  return fail(Errc::too_busy, shown(*opened_) + " kept changing");
}

Watch::Watch(std::shared_ptr<client::Connection> connection, std::shared_ptr<client::WatchReply> reply)
    : connection_{std::move(connection)}, reply_{std::move(reply)} {}
Watch::Watch(Watch&&) noexcept = default;
Watch& Watch::operator=(Watch&& other) noexcept {
  std::swap(connection_, other.connection_);
  std::swap(reply_, other.reply_);
  return *this;
}

Watch::~Watch() {
  if (reply_) connection_->give_up(*reply_);
}

Result<Change> Watch::next() {
  auto change = take({});
  if (!change) return change.error();
  return std::move(**change);
}

Result<std::optional<Change>> Watch::next_for(std::chrono::milliseconds timeout) { return take(timeout); }

Result<std::optional<Change>> Watch::take(std::optional<std::chrono::milliseconds> timeout) {
  if (connection_->is_inherited()) return connection_->inherited();
  auto lock = connection_->lock();
  const auto deadline = timeout ? client::deadline_after(*timeout) : client::Deadline{};
  const auto has_something = [this] { return !reply_->changes.empty() || reply_->ended(); };
  if (!connection_->wait(lock, *reply_, deadline, has_something)) return std::nullopt;
  if (!reply_->changes.empty()) {
    auto change = std::move(reply_->changes.front());
    reply_->changes.pop_front();
    return change;
  }
  if (reply_->failure) return to_error(*reply_->failure);
  return fail(Errc::unknown_object, "the object was removed");
}

std::string_view name(Change::Kind kind) {
  switch (kind) {
    case Change::Kind::set: return "set";
    case Change::Kind::erased: return "deleted";
    case Change::Kind::expired: return "expired";
    case Change::Kind::changed: return "changed";
    case Change::Kind::removed: return "removed";
    case Change::Kind::lagged: return "lagged";
  }
  return "changed";
}

}  // namespace taskpool
