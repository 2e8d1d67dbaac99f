#include <algorithm>

#include "client/cpp/connection.hpp"
#include "client/cpp/opened.hpp"
#include "proto/codec.hpp"

/// The numbers of objects and buffers: opening and closing them.
namespace taskpool::client {

Result<void> Connection::open(const std::shared_ptr<Opened>& opened) {
  if (is_inherited()) return inherited();
  if (opened->value_.size() > kMaxInlineItemBytes)
    return fail(Errc::body_too_large, "value: the first one is at most 64 KiB; set a larger one afterwards");
  Lock lock{mutex_};
  for (bool again = false;; again = true) {
    if (auto connected = ensure_connected(lock); !connected) return connected;
    if (!has_store_) return fail(Errc::unsupported_version, "the daemon has no store");
    opened->epoch_ = 0;  // a view alone may be older than what the caller asks for
    const auto reply = append_open(opened);
    if (!reply) return reply.error();
    wait(
        lock, **reply, {}, [&reply] { return (*reply)->ended(); }, Lending::no);
    const auto body = (*reply)->take();
    if (body) return {};
    const auto code = body.error().errc();
    // Opening twice does no harm.
    const bool broke = code == Errc::daemon_gone || code == Errc::outcome_unknown;
    if (again || !broke || opened->open_.create == Create::exclusive) return body.error();
  }
}

Result<std::uint32_t> Connection::number_of(const std::shared_ptr<Opened>& opened) {
  if (opened->epoch_ != epoch_ || epoch_ == 0) {
    if (const auto reply = append_open(opened); !reply) return reply.error();
  }
  return opened->number_;
}

/// A number, one that was not used yet if there is one: what is under way may still name those that are free again.
Result<std::uint32_t> Connection::take_number(ObjectNumber owner) {
  if (opened_.size() < kMaxOpened) {
    opened_.push_back(std::move(owner));
    return static_cast<std::uint32_t>(opened_.size());
  }
  const auto free = std::find_if(opened_.begin(), opened_.end(),
                                 [](const auto& each) { return !each.is_buffer && each.object.expired(); });
  if (free == opened_.end()) return fail(Errc::limit_reached, "too many objects are open");
  *free = std::move(owner);
  return static_cast<std::uint32_t>(free - opened_.begin() + 1);
}

/// Gives it a number, the one that it has if it has one, and sends that.
Result<std::shared_ptr<OpenReply>> Connection::append_open(const std::shared_ptr<Opened>& opened) {
  auto& open = opened->open_;
  if (opened->lock_) {
    const auto number = number_of(opened->lock_);
    if (!number) return number.error();
    open.lock = open.object.empty() ? *number : 0;
  }
  if (opened->owner_ != this) {
    const auto number = take_number({opened, false});
    if (!number) return number.error();
    opened->number_ = *number;
    opened->owner_ = this;
  }
  auto reply = std::make_shared<OpenReply>(opened);
  register_request(reply);
  reply->bound = true;  // with the next connection it is asked for again
  Prefix prefix;
  prefix.op = Op::object_open;
  prefix.request = reply->request;
  prefix.target = opened->number_;
  const bool has_value = open.object.empty() && opened->type_ == store::ObjectType::value;
  if (has_value) {
    prefix.encoding = opened->value_encoding_;
    prefix.count = 1;
  }
  append(prefix, encode(open), has_value ? as_bytes(opened->value_) : std::span<const std::byte>{});
  opened->epoch_ = epoch_;
  return reply;
}

Result<void> Connection::delete_object(const std::shared_ptr<Opened>& opened) {
  if (is_inherited()) return inherited();
  Reply reply;
  Lock lock{mutex_};
  if (auto connected = ensure_connected(lock); !connected) return connected;
  const auto number = number_of(opened);
  if (!number) return number.error();
  register_request(std::shared_ptr<Reply>{std::shared_ptr<void>{}, &reply});
  reply.bound = true;
  Prefix prefix;
  prefix.op = Op::object_delete;
  prefix.request = reply.request;
  prefix.target = *number;
  append(prefix, {}, {});
  wait(
      lock, reply, {}, [&reply] { return reply.ended(); }, Lending::no);
  if (const auto body = reply.take(); !body) return body.error();
  return {};
}

Result<Body> Connection::open_buffer(const std::string& head, std::uint32_t& number, std::uint64_t& epoch,
                                     std::vector<Fd>& fds) {
  if (is_inherited()) return inherited();
  Reply reply;
  Lock lock{mutex_};
  if (auto connected = ensure_connected(lock); !connected) return connected.error();
  if (!has_store_) return fail(Errc::unsupported_version, "the daemon has no store");
  const auto taken = take_number({{}, true});
  if (!taken) return taken.error();
  number = *taken;
  epoch = epoch_;
  register_request(std::shared_ptr<Reply>{std::shared_ptr<void>{}, &reply});
  reply.bound = true;
  Prefix prefix;
  prefix.op = Op::buffer_open;
  prefix.request = reply.request;
  prefix.target = number;
  append(prefix, head, {});
  wait(
      lock, reply, {}, [&reply] { return reply.ended(); }, Lending::no);
  fds = std::move(reply.fds);
  if (reply.failure) opened_[number - 1] = {};
  return reply.take();
}

void Connection::close_buffer(std::uint32_t number, std::uint64_t epoch) {
  if (is_inherited()) return;
  const Lock lock{mutex_};
  opened_[number - 1] = {};
  if (epoch != epoch_ || state_ != State::connected) return;
  Prefix prefix;
  prefix.op = Op::object_close;
  prefix.target = number;
  append(prefix, {}, {});
  write_out();
}

void Connection::close_object(Opened& opened) {
  if (is_inherited()) return;
  const Lock lock{mutex_};
  // Its number is not used again before all others were: what is under way may still name it.
  if (opened.owner_ != this || opened.epoch_ != epoch_ || state_ != State::connected) return;
  if (opened.view() == nullptr) return;  // it was never open
  Prefix prefix;
  prefix.op = Op::object_close;
  prefix.target = opened.number_;
  append(prefix, {}, {});
  write_out();  // what only this handle kept alive goes now
}

Result<std::shared_ptr<StoreSegment>> Connection::store_segment(std::uint32_t number, std::uint64_t bytes,
                                                                std::span<Fd> fds) {
  auto& segment = store_segments_[number];
  if (segment) return segment;
  if (fds.size() != 1) return fail(Errc::bad_message, "object_open: the segment did not come with it");
  auto mapped = StoreSegment::map(fds[0], bytes);
  if (!mapped) return mapped.error();
  segment = std::move(*mapped);
  return segment;
}

}  // namespace taskpool::client
