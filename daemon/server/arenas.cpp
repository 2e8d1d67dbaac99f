#include "daemon/server/arenas.hpp"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <bit>

#include "proto/limits.hpp"

namespace taskpool::server {

namespace {
/// Smallest segment. Bytes. Its pages are taken when they are first touched, so a large one costs nothing.
constexpr std::uint64_t kSmallestSegment = 16u << 20;
}  // namespace

Arenas::Session::~Session() {
  if (metrics != nullptr) metrics->arena_bytes -= total_bytes;
}

void Arenas::add(std::uint32_t session, std::uint32_t uid, Announce announce) {
  auto& added = sessions_[session];
  added = std::make_unique<Session>();
  added->uid = session == 0 ? ::getuid() : uid;
  added->announce = std::move(announce);
  added->metrics = &metrics_;
}

void Arenas::remove(std::uint32_t session) { sessions_.erase(session); }

Arenas::Session* Arenas::find(std::uint32_t session) const {
  const auto found = sessions_.find(session);
  return found == sessions_.end() ? nullptr : found->second.get();
}

Result<std::uint32_t> Arenas::grow(Session& session, Arena& arena, std::uint64_t bytes, const char* name) {
  if (bytes == 0 || bytes > kMaxSegmentBytes)
    return fail(Errc::bad_argument, fmt::format("bytes: want 1 to {}", kMaxSegmentBytes));
  const auto left = config_.arena_bytes - std::min(config_.arena_bytes, session.total_bytes);
  if (bytes > left || arena.segments.size() >= kMaxSegments)
    return fail(Errc::out_of_space, fmt::format("arena_bytes: the session has {} of {} bytes, and {} more do not fit",
                                                session.total_bytes, config_.arena_bytes, bytes));
  const auto size =
      std::min(std::max(std::bit_ceil(bytes), kSmallestSegment), std::max(left & ~std::uint64_t{4095}, bytes));
  auto memory = os::SharedMemory::create(name, size);
  if (!memory) return memory.error();
  arena.segments.push_back(std::move(*memory));
  session.total_bytes += size;
  metrics_.arena_bytes += size;
  return static_cast<std::uint32_t>(arena.segments.size());
}

Result<Arenas::Opened> Arenas::open_up(std::uint32_t session, std::uint64_t bytes) {
  auto* const owner = find(session);
  if (owner == nullptr) return fail(Errc::internal, "the session has no arenas");
  const auto segment = grow(*owner, owner->up, bytes, "taskpool-up");
  if (!segment) return segment.error();
  const auto& memory = owner->up.segments[*segment - 1];
  return Opened{*segment, memory.size(), memory.fd()};
}

bool Arenas::is_up(std::uint32_t session, const ArenaRef& reference) const {
  return reference.bytes == 0 || !bytes(session, false, reference).empty();
}

std::span<std::byte> Arenas::bytes(std::uint32_t session, bool down, const ArenaRef& region) const {
  const auto* const owner = find(session);
  if (owner == nullptr) return {};
  const auto& segments = down ? owner->down.segments : owner->up.segments;
  if (region.segment == 0 || region.segment > segments.size()) return {};
  const auto& memory = segments[region.segment - 1];
  if (region.offset > memory.size() || region.bytes > memory.size() - region.offset) return {};
  return memory.bytes().subspan(region.offset, region.bytes);
}

Result<ArenaRef> Arenas::allocate_in(Session& session, Arena& arena, std::uint64_t bytes, const char* name) {
  auto region = arena.space.allocate(bytes);
  if (!region) {
    const auto segment = grow(session, arena, bytes, name);
    if (!segment) return segment.error();
    const auto& memory = arena.segments[*segment - 1];
    arena.space.add(*segment, memory.size());
    if (&arena == &session.down && session.announce) session.announce(*segment, memory.size(), memory.fd());
    region = arena.space.allocate(bytes);
    if (!region) return fail(Errc::out_of_space, "the arena has no gap that large");
  }
  arena.regions[{region->segment, region->offset}] = region->bytes;
  return ArenaRef{region->segment, region->offset, bytes};
}

bool Arenas::release_in(Arena& arena, const ArenaRef& region) {
  const auto known = arena.regions.find({region.segment, region.offset});
  if (known == arena.regions.end()) return false;
  arena.space.free({region.segment, region.offset, known->second});
  arena.regions.erase(known);
  return true;
}

Result<ArenaRef> Arenas::allocate(std::uint32_t session, std::uint64_t bytes) {
  auto* const owner = find(session);
  if (owner == nullptr) return fail(Errc::cancelled, "the session is gone");
  return allocate_in(*owner, owner->down, bytes, "taskpool-down");
}

bool Arenas::release_down(std::uint32_t session, const ArenaRef& region) {
  auto* const owner = find(session);
  return owner != nullptr && release_in(owner->down, region);
}

std::uint64_t Arenas::down_used(std::uint32_t session) const {
  const auto* const owner = find(session);
  return owner == nullptr ? 0 : owner->down.space.used_bytes();
}

Result<ArenaRef> Arenas::allocate_own(std::uint64_t bytes) {
  auto& own = *find(0);
  return allocate_in(own, own.up, bytes, "taskpool-kept");
}

void Arenas::release_own(const ArenaRef& region) { (void)release_in(find(0)->up, region); }

std::optional<pool::SegmentView> Arenas::find_segment(std::uint32_t session, bool down, std::uint64_t segment) {
  const auto* const owner = find(session);
  if (owner == nullptr) return std::nullopt;
  const auto& segments = down ? owner->down.segments : owner->up.segments;
  if (segment == 0 || segment > segments.size()) return std::nullopt;
  return pool::SegmentView{segments[segment - 1].fd(), segments[segment - 1].size()};
}

bool Arenas::is_same_uid(std::uint32_t session) {
  const auto* const owner = find(session);
  return owner != nullptr && owner->uid == ::getuid();
}

}  // namespace taskpool::server
