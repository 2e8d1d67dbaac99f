#include "daemon/runtime/link.hpp"

#include <unistd.h>

#include <cstdio>
#include <utility>

#include "proto/codec.hpp"

namespace taskpool::runtime {
namespace {

Outbox make_outbox(const os::SharedMemory& shared) {
  auto& page = *reinterpret_cast<ClaimPage*>(shared.data());
  return Outbox{page, shared.bytes().subspan(kOutboxOffset)};
}

}  // namespace

Link::Link(os::UniqueFd channel, os::SharedMemory shared, ForkMark mark)
    : channel_{std::move(channel)}, shared_{std::move(shared)}, outbox_{make_outbox(shared_)}, mark_{mark} {}

std::optional<IncomingFrame> Link::next_frame() {
  for (;;) {
    auto next = channel_.next();
    if (!next) lost(next.error());
    auto& frame = *next;
    if (frame && handle_arena_frame(*frame)) continue;
    if (frame) return std::move(*frame);
    flush();
    const auto more = channel_.receive();
    if (!more) lost(more.error());
    if (!*more) return std::nullopt;
  }
}

void Link::flush() {
  if (outbox_.empty()) return;
  leave_if_copy();
  if (const auto sent = channel_.send(outbox_.frames()); !sent) lost(sent.error());
  outbox_.clear();
}

void Link::send(const Prefix& prefix, std::string_view head, std::span<const std::byte> body) {
  leave_if_copy();
  if (const auto sent = channel_.send(prefix, head, body); !sent) lost(sent.error());
}

Result<ArenaRef> Link::ask_room(std::uint32_t session, Ticket ticket, std::uint64_t bytes) {
  flush();
  send({.op = Op::want_room, .count = 1, .request = ticket}, {}, std::as_bytes(std::span{&bytes, 1}));
  Result<ArenaRef> answer{ArenaRef{}};
  const auto found = channel_.wait_for([&](IncomingFrame& frame) {
    if (handle_arena_frame(frame)) return Channel::Verdict::handled;
    if (frame.view.prefix.op != Op::room) return Channel::Verdict::keep;
    if (static_cast<Ticket>(frame.view.prefix.request) != ticket || frame.view.body.size() != sizeof(ArenaRef))
      return Channel::Verdict::handled;  // the answer to a ticket that gave up
    answer = load<ArenaRef>(frame.view.body.data());
    if (*answer == ArenaRef{}) {
      const auto refusal = decode<ErrorHead>(frame.view.head);
      answer = refusal ? fail(refusal->code, refusal->detail) : fail(Errc::out_of_space, "no room in the arena");
    }
    return Channel::Verdict::found;
  });
  if (!found) lost(found.error());
  if (!answer) return answer;
  const auto room = arenas_.room(session, *answer);
  if (!room) return room.error();
  if (room->size() < bytes) return fail(Errc::out_of_space, "the arena gave less room than asked for");
  return answer;
}

bool Link::handle_arena_frame(IncomingFrame& frame) {
  if (frame.view.prefix.op == Op::attach) {
    const auto segment = decode<Attach>(frame.view.head);
    if (!segment) lost(segment.error());
    if (frame.fds.size() != 1) lost(fail(Errc::bad_message, "attach: no descriptor"));
    // A segment that cannot be mapped fails only the items that refer to it: it will not be found.
    if (const auto attached = arenas_.attach(*segment, std::move(frame.fds.front())); !attached)
      std::fprintf(stderr, "level=warning event=attach_failed segment=%u detail=\"%s\"\n", segment->segment,
                   attached.error().detail.c_str());
    return true;
  }
  if (frame.view.prefix.op == Op::detach) {
    const auto session = decode<Detach>(frame.view.head);
    if (!session) lost(session.error());
    arenas_.detach(session->session);
    return true;
  }
  return false;
}

void Link::leave_if_copy() const {
  if (mark_.is_copy()) ::_exit(0);
}

void Link::lost(const Error& error) const {
  leave_if_copy();
  if (error.code.value() != EPIPE && error.code.value() != ECONNRESET)
    std::fprintf(stderr, "level=error event=channel_lost pid=%d detail=\"%s\"\n", static_cast<int>(::getpid()),
                 error.detail.c_str());
  ::_exit(kExitChannelLost);
}

}  // namespace taskpool::runtime
