#include <algorithm>

#include "client/cpp/connection.hpp"
#include "client/cpp/opened.hpp"
#include "client/cpp/request_number.hpp"
#include "client/cpp/store_reply.hpp"
#include "client/cpp/waiting.hpp"
#include "proto/store_body.hpp"

namespace taskpool::client {
namespace {

/// A task that waits in the store lends its worker's place once that has taken so long. Most locks come sooner, and
/// lending costs two frames.
constexpr std::chrono::milliseconds kLendAfter{2};
/// How much of quiet requests may be under way before one is answered, so that it is known that they have arrived.
/// Bytes.
constexpr std::size_t kMaxQuietBytes = std::size_t{1} << 16;
/// Lists of values above this go through the arena, so that a frame holds what else there is. Bytes.
constexpr std::size_t kMaxInlineItemsBytes = kMaxFrameBodyBytes / 2;

bool goes_by_arena(const StoreArgument& argument) {
  return argument.bytes.size() >
         (argument.encoding == store::kItemsEncoding ? kMaxInlineItemsBytes : kMaxInlineItemBytes);
}

bool may_wait(store::Code code) { return store::find_operation(static_cast<std::uint16_t>(code))->waits; }

}  // namespace

/// Writes an operation into store_body_, what is large of it into the arena. To get a place there may take time, in
/// which the connection may break.
Result<void> Connection::write_operation(Lock& lock, const StoreOperation& operation, std::vector<UpPlace>& places) {
  const auto epoch = epoch_;
  for (const auto& argument : operation.arguments) {
    if (!goes_by_arena(argument)) continue;
    if (argument.bytes.size() > kMaxStoreValueBytes)
      return fail(Errc::body_too_large, "value: " + std::to_string(argument.bytes.size()) + " bytes, at most " +
                                            std::to_string(kMaxStoreValueBytes) + "; use a buffer for more");
    const auto place = allocate(lock, argument.bytes.size());
    if (!place) return place.error();
    places.push_back(*place);
    fill(lock, *place, argument.bytes);
    if (epoch != epoch_) return fail(Errc::daemon_gone, "the connection broke before it was sent");
  }
  const auto number = number_of(operation.object);
  if (!number) return number.error();
  store_body_.clear();
  store::BodyWriter body{store_body_};
  body.begin(operation.code, *number);
  std::size_t next_place = 0;
  for (const auto& argument : operation.arguments) {
    if (!goes_by_arena(argument)) {
      append_argument(body, argument);
      continue;
    }
    const auto& place = places[next_place++];
    const ArenaRef ref{place.ref.segment, place.ref.offset, argument.bytes.size()};
    if (argument.encoding == store::kItemsEncoding) {
      body.items_in_arena(ref);
    } else {
      body.value_in_arena(static_cast<Encoding>(argument.encoding), ref, argument.refs);
    }
  }
  return {};
}

/// Appends the `store` frame of an operation. False: `reply`, if there is one, has ended with the error.
bool Connection::submit_store(Lock& lock, const std::shared_ptr<StoreReply>& reply, const StoreOperation& operation,
                              bool waits) {
  std::vector<UpPlace> places;
  auto written = ensure_connected(lock);
  if (written) written = write_operation(lock, operation, places);
  if (!written) {
    for (const auto& place : places) free_locked(place);
    if (reply) refuse(*reply, written.error());
    return false;
  }
  if (reply) {
    reply->places = std::move(places);
    reply->bound = !reply->places.empty();
  } else if (!places.empty()) {
    for (const auto& place : places) free_locked(place);  // nobody would learn when it may be used again
    return false;
  }
  if (!append_store(reply, 1, store_body_, waits)) return false;
  if (!reply && reconnects_) quiet_objects_.emplace_back(store_request(store_requests_, kNobody), operation.object);
  return true;
}

bool Connection::submit_store(Lock& lock, const std::shared_ptr<StoreReply>& reply,
                              const EncodedOperations& operations) {
  auto ready = ensure_connected(lock);
  for (const auto& [at, object] : operations.targets) {
    if (!ready) break;
    const auto number = number_of(object);
    if (number) store_le(operations.body.data() + at, *number);
    if (!number) ready = number.error();
  }
  if (ready) return append_store(reply, operations.count, operations.body, false);
  refuse(*reply, ready.error());
  return false;
}

bool Connection::append_store(const std::shared_ptr<StoreReply>& reply, std::uint32_t count,
                              std::span<const std::byte> body, bool waits) {
  Prefix prefix;
  prefix.op = Op::store;
  prefix.count = count;
  if (!reply) {
    prefix.flags = kQuiet;
    prefix.request = store_request(++store_requests_, kNobody);
  } else if (register_store_request(reply)) {
    prefix.request = reply->request;
  } else {
    refuse(*reply, fail(Errc::limit_reached, "too many requests are under way"));
    return false;
  }
  append(prefix, {}, body);
  if (!reconnects_ || (reply && reply->bound)) return true;
  if (!waits) {
    append_frame(unanswered_, prefix, {}, body);
    return true;
  }
  auto& extras = reply->extras();
  extras.repeatable = true;
  extras.prefix = prefix;
  extras.body.assign(body.begin(), body.end());
  return true;
}

Result<StoreResult> Connection::store(const StoreOperation& operation) {
  if (is_inherited()) return inherited();
  const bool waits = may_wait(operation.code);
  StoreReply reply;
  Lock lock{mutex_};
  // Without a count: this frame outlives the request, as it waits for its end.
  submit_store(lock, std::shared_ptr<StoreReply>{std::shared_ptr<void>{}, &reply}, operation, waits);
  const auto ended = [&reply] { return reply.ended(); };
  // Only where there is a place to lend: a wait without an end is one plain read, any other takes a poll.
  const auto lend_at = waits && !worker_token_.empty() ? Deadline{Clock::now() + kLendAfter} : Deadline{};
  if (!wait(lock, reply, lend_at, ended, Lending::no)) wait(lock, reply, {}, ended);
  return reply.take_one();
}

Result<std::vector<StoreResult>> Connection::store(const EncodedOperations& operations) {
  if (is_inherited()) return inherited();
  StoreReply reply;
  Lock lock{mutex_};
  submit_store(lock, std::shared_ptr<StoreReply>{std::shared_ptr<void>{}, &reply}, operations);
  wait(
      lock, reply, {}, [&reply] { return reply.ended(); }, Lending::no);
  return reply.take_all();
}

std::shared_ptr<Pending> Connection::store_async(const StoreOperation& operation) {
  auto reply = std::make_shared<StoreReply>();
  reply->object = operation.object;
  Lock lock{mutex_};
  submit_store(lock, reply, operation, may_wait(operation.code));
  sent_some(lock);
  return reply;
}

std::shared_ptr<Pending> Connection::store_async(const EncodedOperations& operations) {
  auto reply = std::make_shared<StoreReply>();
  for (const auto& [at, object] : operations.targets)
    if (reply->more_objects.empty() || reply->more_objects.back() != object) reply->more_objects.push_back(object);
  Lock lock{mutex_};
  submit_store(lock, reply, operations);
  sent_some(lock);
  return reply;
}

void Connection::store_quietly(const StoreOperation& operation) {
  if (is_inherited()) return;
  Lock lock{mutex_};
  if (state_ != State::connected && !reconnects_) return;
  std::shared_ptr<StoreReply> reply;
  if (unanswered_.size() >= kMaxQuietBytes) {
    reply = std::make_shared<StoreReply>();
    reply->object = operation.object;
  }
  if (submit_store(lock, reply, operation, false)) write_out();
  run_callbacks(lock);
}

std::shared_ptr<WatchReply> Connection::watch(const std::shared_ptr<Opened>& opened, const store::KeyView* key) {
  auto reply = std::make_shared<WatchReply>();
  Lock lock{mutex_};
  const auto refuse_it = [&](const Error& why) {
    reply->failure = std::make_unique<ErrorHead>(error_head(why));
    end(*reply);
    return reply;
  };
  if (auto connected = ensure_connected(lock); !connected) return refuse_it(connected.error());
  const auto number = number_of(opened);
  if (!number) return refuse_it(number.error());
  register_request(reply);
  reply->bound = true;
  Prefix prefix;
  prefix.op = Op::watch;
  prefix.request = reply->request;
  prefix.target = *number;
  prefix.count = key != nullptr ? 1 : 0;
  append(prefix, {}, key != nullptr ? *key : std::span<const std::byte>{});
  wait(
      lock, *reply, {}, [&] { return reply->begun_watching || reply->ended(); }, Lending::no);
  return reply;
}

/// Forgets the requests that need not be sent again, now that `answered` was: it was read after those before it.
void Connection::trim_unanswered(std::uint64_t answered) {
  while (!unanswered_.empty()) {
    const auto prefix = decode_prefix(unanswered_.data().first<kPrefixBytes>());
    const bool over = (prefix->flags & kQuiet) != 0 ? prefix->request < answered : find(prefix->request) == nullptr;
    if (!over) return;
    unanswered_.consume(kPrefixBytes + prefix->body);
    if (quiet_objects_.empty() || quiet_objects_.front().first != prefix->request) continue;
    dropped_.push_back(std::move(quiet_objects_.front().second));
    quiet_objects_.pop_front();
  }
}

/// After a reconnection: sends the requests again that were not answered, in their order, to a daemon that can tell
/// those that it has seen. Another one gets only what was never sent.
void Connection::resend_store(bool resumed) {
  for (const auto& each : opened_)
    if (const auto opened = each.object.lock()) (void)append_open(opened);

  auto log = std::exchange(unanswered_, {});
  std::vector<std::pair<std::uint64_t, std::span<const std::byte>>> frames;
  for (auto rest = log.data(); !rest.empty();) {
    const auto prefix = decode_prefix(rest.first<kPrefixBytes>());
    const auto frame = rest.first(kPrefixBytes + prefix->body);
    rest = rest.subspan(frame.size());
    const bool is_quiet = (prefix->flags & kQuiet) != 0;
    const auto pending = find(prefix->request);
    if (!is_quiet && (!pending || pending->ended())) continue;
    if (!resumed && (is_quiet || pending->begun)) continue;
    frames.emplace_back(prefix->request, frame);
    unanswered_.append(frame);
  }
  std::deque<ByteBuffer> waiting;
  for (const auto& slot : slots_) {
    if (!slot.pending || slot.pending->ended() || !is_store_request(slot.pending->request)) continue;
    const auto* extras = slot.pending->find_extras();
    if (extras == nullptr || (!resumed && slot.pending->begun)) continue;
    append_frame(waiting.emplace_back(), extras->prefix, {}, extras->body);
    frames.emplace_back(slot.pending->request, waiting.back().data());
  }
  std::sort(frames.begin(), frames.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  for (const auto& [request, frame] : frames) out_.append(frame);
  if (resumed) return;

  for (auto& [request, opened] : quiet_objects_) dropped_.push_back(std::move(opened));  // none was kept
  quiet_objects_.clear();
  const auto unknown = error_head(Errc::outcome_unknown, "the daemon went away; it may have been done");
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    const auto pending = slots_[i].pending;
    if (!pending || !is_store_request(pending->request) || !pending->begun) continue;
    pending->abandon(*this, unknown, false);
    end(*pending);
  }
}

/// The daemon cannot be reached: nothing is sent again.
void Connection::forget_store() {
  unanswered_.clear();
  for (auto& [request, opened] : quiet_objects_) dropped_.push_back(std::move(opened));
  quiet_objects_.clear();
}

}  // namespace taskpool::client
