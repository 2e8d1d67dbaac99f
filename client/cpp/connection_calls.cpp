#include <algorithm>

#include "client/cpp/connection.hpp"
#include "proto/codec.hpp"

namespace taskpool::client {

Cancel cancel_with(CancelMode mode) {
  Cancel cancel;
  cancel.force = mode == CancelMode::kill;
  cancel.waiting = mode == CancelMode::waiting;
  return cancel;
}

bool Connection::may_start(Lock& lock, Reply& reply, std::uint64_t pool_epoch) {
  if (auto connected = ensure_connected(lock); !connected) {
    refuse(reply, connected.error());
    return false;
  }
  if (pool_epoch != 0 && pool_epoch != epoch_) {
    refuse(reply, fail(Errc::pool_closed, "the pool ended with the connection that opened it"));
    return false;
  }
  return true;
}

void Connection::submit(Lock& lock, const std::shared_ptr<Reply>& reply, const Destination& to, const Item& item) {
  if (!may_start(lock, *reply, to.pool_epoch)) return;
  Prefix prefix;
  prefix.encoding = item.encoding;
  prefix.count = is_array(item.encoding) ? item.count : 1;
  if (is_array(item.encoding) && item.bytes.size() != item.count * element_bytes(item.encoding))
    return refuse(*reply, fail(Errc::bad_argument, "argument: not an array of its count"));
  if (item.bytes.size() <= kMaxInlineItemBytes) return submit_frame(reply, to, prefix, item.bytes);

  const auto place = allocate(lock, item.bytes.size());
  if (!place) return refuse(*reply, place.error());
  fill(lock, *place, item.bytes);
  if (place->epoch != epoch_)
    return refuse(*reply, fail(Errc::daemon_gone, "the connection broke before the call was sent"));
  reply->places.push_back(*place);
  reply->bound = true;
  prefix.flags = kInArena;
  const ArenaRef ref{place->ref.segment, place->ref.offset, item.bytes.size()};
  submit_frame(reply, to, prefix, std::as_bytes(std::span{&ref, 1}));
  keep_region(*reply, to, segment_of(*place), ref);
}

void Connection::submit(Lock& lock, const std::shared_ptr<Reply>& reply, const Destination& to,
                        const UpBuffer& argument, Encoding encoding) {
  if (!may_start(lock, *reply, to.pool_epoch)) return;
  const auto bytes = argument.data();
  const auto element = std::max<std::size_t>(element_bytes(encoding), 1);
  if (bytes.size() % element != 0 || bytes.size() / element > kMaxJobItems)
    return refuse(*reply, fail(Errc::bad_argument, "argument: not a whole number of elements, or too many"));
  if (argument.mapping_ && argument.mapping_->epoch() != epoch_)
    return refuse(*reply, fail(Errc::daemon_gone, "the buffer belongs to a connection that broke"));
  Prefix prefix;
  prefix.encoding = encoding;
  prefix.count = is_array(encoding) ? static_cast<std::uint32_t>(bytes.size() / element) : 1;
  if (!argument.mapping_) return submit_frame(reply, to, prefix, {});
  prefix.flags = kInArena;
  reply->bound = true;
  const auto ref = argument.mapping_->reference_to(bytes);
  submit_frame(reply, to, prefix, std::as_bytes(std::span{&ref, 1}));
  keep_region(*reply, to, argument.mapping_, ref);
}

void Connection::submit_frame(const std::shared_ptr<Reply>& reply, const Destination& to, Prefix prefix,
                              std::span<const std::byte> body) {
  register_request(reply);
  reply->pool_epoch = to.pool_epoch;
  prefix.op = Op::apply;
  prefix.request = reply->request;
  reply->prepared = to.prepared;
  if (to.prepared) prefix.target = number_of(to.prepared);
  const std::string_view head = prefix.target != 0 ? std::string_view{} : to.prepared ? to.prepared->head : to.head;
  append(prefix, head, body);
  if (!to.repeatable || (!reply->bound && !keep(*reply, head.size() + body.size()))) return;
  auto& extras = reply->extras();
  extras.repeatable = true;
  extras.prefix = prefix;
  extras.head = head;
  if (!reply->bound) extras.body.assign(body.begin(), body.end());
}

/// Where the argument lies that was just submitted, so that it can be sent again. Costs nothing: the region is taken
/// until the call's end anyway.
void Connection::keep_region(Reply& reply, const Destination& to, const std::shared_ptr<Mapping>& mapping,
                             const ArenaRef& ref) {
  if (!to.repeatable) return;
  reply.extras().mapping = mapping;
  reply.extras().region = mapping->bytes().subspan(ref.offset, ref.bytes);
}

Result<Body> Connection::wait_and_take(Lock& lock, Reply& reply) {
  wait(lock, reply, {}, [&reply] { return reply.ended(); });
  return reply.take();
}

Result<Body> Connection::apply(const Destination& to, const Item& item) {
  if (is_inherited()) return inherited();
  Reply reply;
  Lock lock{mutex_};
  // Without a count: this frame outlives the request, as it waits for its end.
  submit(lock, std::shared_ptr<Reply>{std::shared_ptr<void>{}, &reply}, to, item);
  return wait_and_take(lock, reply);
}

Result<Body> Connection::apply(const Destination& to, const UpBuffer& argument, Encoding encoding) {
  if (is_inherited()) return inherited();
  Reply reply;
  Lock lock{mutex_};
  submit(lock, std::shared_ptr<Reply>{std::shared_ptr<void>{}, &reply}, to, argument, encoding);
  return wait_and_take(lock, reply);
}

std::shared_ptr<Pending> Connection::apply_async(const Destination& to, const Item& item) {
  auto reply = std::make_shared<Reply>();
  Lock lock{mutex_};
  submit(lock, reply, to, item);
  sent_some(lock);
  return reply;
}

std::shared_ptr<Pending> Connection::apply_async(const Destination& to, UpBuffer argument, Encoding encoding) {
  auto reply = std::make_shared<Reply>();
  Lock lock{mutex_};
  submit(lock, reply, to, argument, encoding);
  if (!reply->ended() && argument.mapping_) {  // the region is the request's now
    auto ref = argument.mapping_->reference_to(argument.bytes_);
    ref.bytes = argument.place_bytes_;
    reply->places.push_back({ref, epoch_});
    ++places_in_flight_;
    argument.mapping_.reset();
    argument.bytes_ = {};
  }
  sent_some(lock);
  lock.unlock();
  return reply;
}

Result<Body> Connection::ask(Op op, const std::string& head, bool again, std::span<const int> fds,
                             std::vector<Fd>* got) {
  if (is_inherited()) return inherited();
  if (head.size() > kMaxFrameHeadBytes)
    return fail(Errc::bad_argument, "the request's fields are " + std::to_string(head.size()) + " bytes, at most " +
                                        std::to_string(kMaxFrameHeadBytes));
  Reply reply;
  Lock lock{mutex_};
  if (may_start(lock, reply, 0)) {
    register_request(std::shared_ptr<Reply>{std::shared_ptr<void>{}, &reply});
    Prefix prefix;
    prefix.op = op;
    prefix.request = reply.request;
    prefix.fds = static_cast<std::uint8_t>(fds.size());
    if (!fds.empty()) riding_.push_back({out_.size(), fds});
    append(prefix, head, {});
    reply.bound = !fds.empty();
    if (again) {
      auto& extras = reply.extras();
      extras.repeatable = true;
      extras.prefix = prefix;
      extras.head = head;
    }
  }
  auto body = wait_and_take(lock, reply);
  if (got != nullptr) *got = std::move(reply.fds);
  return body;
}

void Connection::tell(Op op, const std::string& head) {
  if (is_inherited()) return;
  const auto reply = std::make_shared<Reply>();
  const Lock lock{mutex_};
  if (state_ != State::connected) return;
  register_request(reply);
  Prefix prefix;
  prefix.op = op;
  prefix.request = reply->request;
  append(prefix, head, {});
  write_out();
}

Result<std::uint64_t> Connection::cancel(Pending& pending, CancelMode mode) {
  if (is_inherited()) return inherited();
  if (pending.ended()) return 0;
  auto cancel = cancel_with(mode);
  cancel.request = pending.request;
  const auto body = ask(Op::cancel, encode(cancel), false);
  if (!body) return body.error();
  const auto said = nlohmann::json::parse(body->text(), nullptr, false);
  const auto count = said.is_object() ? said.find("cancelled") : said.end();
  if (count == said.end() || !count->is_number_unsigned()) return fail(Errc::bad_message, "cancelled: missing");
  return count->get<std::uint64_t>();
}

void Connection::give_up(const Pending& pending) {
  if (pending.ended() || is_inherited()) return;
  Cancel cancel;
  cancel.request = pending.request;
  tell(Op::cancel, encode(cancel));
}

}  // namespace taskpool::client
