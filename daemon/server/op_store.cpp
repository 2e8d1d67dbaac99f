#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "daemon/server/session.hpp"
#include "proto/codec.hpp"

/// Requests about the shared store, and how the store answers.
namespace taskpool::server {

namespace {

/// A watcher with more than this unread hears that it lags, rather than everything. Bytes.
constexpr std::size_t kMostUnreadChanges = 1u << 20;

Result<void> want_no_head(const FrameView& frame) {
  if (frame.head.empty()) return boost::system::in_place_value;
  return fail(Errc::bad_message, "head: want none");
}

}  // namespace

bool Session::waits_in_turn(const FrameView& frame) {
  if (!core_.store.has_pending(*this)) return false;
  core_.store.wait_in_turn(*this, frame, false);
  return true;
}

bool Session::again(const FrameView& frame) {
  Result<void> done = boost::system::in_place_value;
  switch (frame.prefix.op) {
    case Op::object_open: done = open_object(frame); break;
    case Op::watch: done = core_.store.watch(*this, frame); break;
    default: core_.store.close(*this, frame.prefix.target); break;
  }
  if (done) return true;
  if (done.error().errc() == Errc::busy) return false;
  ++core_.metrics.requests_refused;
  reply_error(frame.prefix.request, done.error());
  return true;
}

Result<void> Session::object_open(const FrameView& frame) {
  if (waits_in_turn(frame)) return boost::system::in_place_value;
  const auto done = open_object(frame);
  if (done || done.error().errc() != Errc::busy) return done;
  core_.store.wait_in_turn(*this, frame, true);
  return boost::system::in_place_value;
}

Result<void> Session::open_object(const FrameView& frame) {
  const auto target = frame.prefix.target;
  const auto head = decode<ObjectOpen>(frame.head);
  if (!head) {
    core_.store.close(*this, target);  // what uses the number already is not to meet what it named before
    return head.error();
  }
  const auto opened = core_.store.open(*this, target, *head, frame);
  if (!opened) return opened.error();
  const auto& object = *opened->object;
  auto& domain = object.home->domain();
  if (opened->created && is_audited(core_.config, object.name.empty()))
    audit(
        frame.prefix.op,
        {{"object", store::object_text(domain.key(), object.id)}, {"type", name(object.type)}, {"name", object.name}});
  nlohmann::json body{{"object", store::object_text(domain.key(), object.id)},
                      {"id", static_cast<std::uint64_t>(object.id)},
                      {"type", name(object.type)},
                      {"offset", object.offset},
                      {"segment", domain.number},
                      {"segment_bytes", domain.bytes()},
                      {"created", opened->created}};
  if (object.type == store::ObjectType::array) {
    body["typecode"] = name(object.typecode);
    body["length"] = object.length;
  }
  if (std::find(segments_.begin(), segments_.end(), domain.number) != segments_.end()) {
    reply(frame.prefix.request, body);
    return boost::system::in_place_value;
  }
  segments_.push_back(domain.number);
  const int fd = domain.client_fd();
  reply_with(frame.prefix.request, body, std::span{&fd, 1});
  return boost::system::in_place_value;
}

Result<void> Session::buffer_open(const FrameView& frame) {
  const auto head = decode<BufferOpen>(frame.head);
  if (!head) {
    core_.store.close(*this, frame.prefix.target);
    return head.error();
  }
  const auto opened = core_.store.open_buffer(*this, frame.prefix.target, *head);
  if (!opened) return opened.error();
  if (opened->created && is_audited(core_.config, head->name.empty()))
    audit(frame.prefix.op, {{"name", head->name}, {"bytes", opened->bytes}});
  const int fd = opened->memory->fd();
  reply_with(frame.prefix.request, {{"bytes", opened->bytes}, {"created", opened->created}}, std::span{&fd, 1});
  return boost::system::in_place_value;
}

Result<void> Session::object_close(const FrameView& frame) {
  keep_for_task(frame.prefix.target);
  if (waits_in_turn(frame)) return boost::system::in_place_value;
  core_.store.close(*this, frame.prefix.target);
  return boost::system::in_place_value;
}

Result<void> Session::object_delete(const FrameView& frame) {
  core_.store.handle(*this, frame.prefix, {});
  return boost::system::in_place_value;
}

Result<void> Session::store(const FrameView& frame) {
  if (const auto good = want_no_head(frame); !good) return good;
  core_.store.handle(*this, frame.prefix, frame.body);
  return boost::system::in_place_value;
}

Result<void> Session::watch(const FrameView& frame) {
  if (waits_in_turn(frame)) return boost::system::in_place_value;
  return core_.store.watch(*this, frame);
}

Result<void> Session::objects(const FrameView& frame) {
  const auto request = decode<ObjectsRequest>(frame.head);
  if (!request) return request.error();
  const auto rows = core_.store.list(*this, *request);
  if (!rows) return rows.error();
  reply(frame.prefix.request, *rows);
  return boost::system::in_place_value;
}

Result<void> Session::locks(const FrameView& frame) {
  const auto request = decode<LocksRequest>(frame.head);
  if (!request) return request.error();
  const auto rows = core_.store.locks(*this, *request);
  if (!rows) return rows.error();
  reply(frame.prefix.request, *rows);
  return boost::system::in_place_value;
}

// What results name

void Session::hold_refs(std::span<const std::string> refs) {
  for (const auto& id : refs) {
    auto pin = core_.store.pin_named(id, uid(), this);
    if (pin && takes_refs_ && held_refs_.size() < kMaxHeldRefs) held_refs_.emplace(id, std::move(pin));
  }
}

Result<void> Session::release_refs(const FrameView& frame) {
  const auto head = decode<ReleaseRefs>(frame.head);
  if (!head) return head.error();
  for (const auto& id : head->refs)
    if (const auto held = held_refs_.find(id); held != held_refs_.end()) held_refs_.erase(held);
  return boost::system::in_place_value;
}

void Session::keep_for_task(std::uint32_t target) {
  const auto worker = parent_worker_.lock();
  if (!worker) return;
  if (auto pin = core_.store.pin_opened(*this, target)) worker->keep_for_results(std::move(pin));
}

// store::Client

void Session::answer(std::uint64_t request, std::uint32_t count, std::span<const std::byte> body) {
  channel_.send(Prefix{.op = Op::store_reply, .count = count, .request = request}, {}, body);
}

void Session::accept(std::uint64_t request) { reply(request, nlohmann::json::object()); }

void Session::refuse(std::uint64_t request, const ErrorHead& error) { reply_error(request, error); }

bool Session::tell(std::uint64_t request, std::uint32_t kind, std::uint64_t version, std::span<const std::byte> key) {
  if (channel_.queued() > kMostUnreadChanges) return false;
  channel_.send(Prefix{.op = Op::changed, .target = kind, .count = key.empty() ? 0u : 1u, .request = request}, {},
                std::as_bytes(std::span{&version, 1}), key);
  return true;
}

Result<ArenaRef> Session::place(std::span<const std::byte> value) {
  const auto place = core_.arenas.allocate(number_, value.size());
  if (!place) return place;
  std::ranges::copy(value, core_.arenas.bytes(number_, true, *place).begin());
  return place;
}

void Session::take_back(const ArenaRef& place) { (void)core_.arenas.release_down(number_, place); }

void Session::removed(const store::Object& object) {
  if (!is_audited(core_.config, object.name.empty())) return;
  const auto id = store::object_text(object.home->domain().key(), object.id);
  audit(Op::object_delete, {{"object", id}, {"type", name(object.type)}, {"name", object.name}});
}

std::span<const std::byte> Session::find_up(const ArenaRef& place) const {
  return core_.arenas.bytes(number_, false, place);
}

bool Session::is_member(std::uint32_t gid) const { return who_.is_member(gid); }

}  // namespace taskpool::server
