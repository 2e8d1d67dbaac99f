#include "client/cpp/connection.hpp"
#include "client/cpp/job.hpp"
#include "proto/codec.hpp"

namespace taskpool::client {

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

}  // namespace taskpool::client
