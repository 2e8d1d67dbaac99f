#include "client/cpp/connection.hpp"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cstdlib>
#include <cstring>

#include "client/cpp/environment.hpp"
#include "client/cpp/fork_generation.hpp"
#include "client/cpp/job.hpp"
#include "proto/codec.hpp"

namespace taskpool::client {
namespace {

/// What may be queued with a daemon that does not say. Bytes.
constexpr std::size_t kDefaultQueueBytes = std::size_t{8} << 20;
/// Functions whose prepared call is remembered by name.
constexpr std::size_t kMaxRemembered = 1024;

/// Spinning helps only where the other side can run meanwhile.
bool spinning_can_help(const ClientOptions& options) {
  cpu_set_t cpus;
  if (!options.spin || environment("TASKPOOL_SPIN") == "0") return false;
  return ::sched_getaffinity(0, sizeof cpus, &cpus) == 0 && CPU_COUNT(&cpus) > 1;
}

std::uint32_t slot_of(std::uint64_t request) { return static_cast<std::uint32_t>(request); }

}  // namespace

Connection::Connection(ClientOptions options, std::optional<Link> link)
    : options_{std::move(options)},
      reconnects_{!link},
      fork_generation_{fork_generation()},
      may_spin_{spinning_can_help(options_)},
      worker_token_{environment("TASKPOOL_WORKER_TOKEN")},
      queue_limit_{kDefaultQueueBytes} {
  if (link) install(std::move(*link));
}

Connection::~Connection() = default;

bool Connection::is_inherited() const { return fork_generation_ != fork_generation(); }

Error Connection::inherited() { return fail(Errc::daemon_gone, "it belongs to the process that forked this one"); }

void Connection::close_inherited() {
  if (const int fd = socket_fd_.exchange(-1); fd >= 0) ::close(fd);
}

Result<void> Connection::connect() {
  Lock lock{mutex_};
  return ensure_connected(lock);
}

ServerInfo Connection::server() {
  const Lock lock{mutex_};
  return server_;
}

std::uint64_t Connection::epoch() {
  const Lock lock{mutex_};
  return epoch_;
}

void Connection::register_request(const std::shared_ptr<Pending>& pending) {
  std::uint32_t index;
  if (free_slots_.empty()) {
    index = static_cast<std::uint32_t>(slots_.size());
    slots_.emplace_back();
  } else {
    index = free_slots_.back();
    free_slots_.pop_back();
  }
  auto& slot = slots_[index];
  slot.pending = pending;
  if (++slot.generation == 0) slot.generation = 1;  // request 0 means the connection
  pending->request = std::uint64_t{slot.generation} << 32 | index;
}

std::shared_ptr<Pending> Connection::find(std::uint64_t request) const {
  const auto index = slot_of(request);
  if (index >= slots_.size() || slots_[index].generation != request >> 32) return nullptr;
  return slots_[index].pending;
}

void Connection::end(Pending& pending) {
  for (const auto& place : pending.places) free_locked(place);
  pending.places.clear();
  if (pending.request != 0) {
    auto& slot = slots_[slot_of(pending.request)];
    if (slot.pending.use_count() > 0) ended_.push_back(std::move(slot.pending));
    slot.pending.reset();
    free_slots_.push_back(slot_of(pending.request));
  }
  pending.ended_.store(true, std::memory_order_release);
  notify(pending);
}

void Connection::notify(Pending& pending) {
  for (auto* follower : followers_)
    if (follower->pending == &pending) follower->wake.notify_one();
}

void Connection::refuse(Reply& reply, const Error& why) {
  reply.failure = std::make_unique<ErrorHead>(error_head(why));
  end(reply);
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
  if (place->epoch != epoch_) return refuse(*reply, fail(Errc::daemon_gone, "the connection broke before the call was sent"));
  reply->places.push_back(*place);
  reply->bound = true;
  prefix.flags = kInArena;
  const ArenaRef ref{place->ref.segment, place->ref.offset, item.bytes.size()};
  submit_frame(reply, to, prefix, std::as_bytes(std::span{&ref, 1}));
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
  if (!to.repeatable || reply->bound) return;
  auto& extras = reply->extras();
  extras.repeatable = true;
  extras.prefix = prefix;
  extras.head = head;
  extras.body.assign(body.begin(), body.end());
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
    if (!fds.empty()) drain(lock, 0);
    register_request(std::shared_ptr<Reply>{std::shared_ptr<void>{}, &reply});
    Prefix prefix;
    prefix.op = op;
    prefix.request = reply.request;
    prefix.fds = static_cast<std::uint8_t>(fds.size());
    append(prefix, head, {});
    reply.bound = !fds.empty();
    if (again) {
      auto& extras = reply.extras();
      extras.repeatable = true;
      extras.prefix = prefix;
      extras.head = head;
    }
    if (!fds.empty()) send_with_fds(lock, fds);
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

Result<std::uint64_t> Connection::cancel(Pending& pending, bool force) {
  if (is_inherited()) return inherited();
  if (pending.ended()) return 0;
  Cancel cancel;
  cancel.request = pending.request;
  cancel.force = force;
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

void Connection::open_job(const std::shared_ptr<Job>& job, std::optional<Op> op, const std::string& head) {
  const auto& to = job->destination();
  Lock lock{mutex_};
  const auto connected = ensure_connected(lock);
  std::optional<ErrorHead> refused;
  if (!connected) refused = error_head(connected.error());
  if (!refused && to.pool_epoch != 0 && to.pool_epoch != epoch_)
    refused = error_head(Errc::pool_closed, "the pool ended with the connection that opened it");
  if (refused) {
    job->refuse(*this, *refused);
    return end(*job);
  }
  register_request(job);
  job->pool_epoch = to.pool_epoch;
  job->prepared = to.prepared;
  if (!op) return;
  Prefix prefix;
  prefix.op = *op;
  prefix.request = job->request;
  append(prefix, head, {});
}

void Connection::end_with(Reply& reply, const Error& why) {
  const Lock lock{mutex_};
  refuse(reply, why);
}

Result<Body> Connection::submit_job(const std::string& head, const std::function<std::optional<Item>()>& feed) {
  Reply reply;
  Lock lock{mutex_};
  if (!may_start(lock, reply, 0)) return reply.take();
  register_request(std::shared_ptr<Reply>{std::shared_ptr<void>{}, &reply});
  reply.bound = true;
  Prefix prefix;
  prefix.request = reply.request;
  Packer packer;
  bool opened = false;
  std::vector<UpPlace> places;
  const auto send = [&](std::uint8_t flags, std::uint32_t count, std::span<const std::byte> body,
                        std::span<const std::byte> more) {
    prefix.op = opened ? Op::input : Op::map;
    prefix.flags = flags;
    prefix.count = count;
    append(prefix, std::exchange(opened, true) ? std::string_view{} : std::string_view{head}, body, more);
    sent_some(lock);
  };
  const auto send_packed = [&](std::uint8_t flags) {
    send(flags, packer.count(), packer.table(), packer.payload());
    packer.clear();
  };

  std::optional<Error> refused;
  while (!reply.ended() || !reply.failure) {
    lock.unlock();
    const auto item = feed();
    lock.lock();
    if (!item) break;
    if (is_array(item->encoding) || (opened && item->encoding != prefix.encoding)) {
      refused = fail(Errc::bad_argument, "input: want items of one encoding, and no array");
      break;
    }
    prefix.encoding = item->encoding;
    if (item->bytes.size() <= kMaxInlineItemBytes) {
      packer.add(item->bytes);
      if (packer.bytes() >= kPackBytes) send_packed(0);
      continue;
    }
    if (!packer.empty()) send_packed(0);
    const auto place = allocate(lock, item->bytes.size());
    if (!place) {
      refused = place.error();
      break;
    }
    places.push_back(*place);
    fill(lock, *place, item->bytes);
    if (place->epoch != epoch_) break;  // the request has ended with that connection
    const ArenaRef ref{place->ref.segment, place->ref.offset, item->bytes.size()};
    send(kInArena, 1, std::as_bytes(std::span{&ref, 1}), {});
  }
  if (!reply.ended() || !reply.failure) send_packed(kLast);
  auto body = wait_and_take(lock, reply);
  if (!places.empty()) {  // what was copied out of the arena, and when, only a later reply tells
    lock.unlock();
    (void)ask(Op::ping, {}, false);
    lock.lock();
    for (const auto& place : places) free_locked(place);
  }
  if (refused) return *refused;
  return body;
}

std::shared_ptr<Prepared> Connection::prepared(const std::string& pool, const std::string& function,
                                               std::uint64_t pool_epoch) {
  std::string key;
  key.reserve(pool.size() + function.size() + 1);
  key.append(pool).append(1, '\0').append(function);
  const Lock lock{mutex_};
  const auto found = by_name_.find(key);
  if (found != by_name_.end() && found->second->pool_epoch == pool_epoch) return found->second;
  auto made = std::make_shared<Prepared>();
  Call call;
  call.function = function;
  call.pool = pool;
  made->head = encode(call);
  made->pool_epoch = pool_epoch;
  if (by_name_.size() >= kMaxRemembered) by_name_.clear();
  by_name_.insert_or_assign(std::move(key), made);
  return made;
}

}  // namespace taskpool::client
