#include <algorithm>
#include <cstring>

#include "client/cpp/connection.hpp"
#include "proto/codec.hpp"

namespace taskpool::client {
namespace {

/// The first up segment; each further one is as large as all before it, so that few are needed. Bytes.
constexpr std::uint64_t kFirstSegmentBytes = std::uint64_t{8} << 20;
constexpr std::uint64_t kMaxGrowthBytes = std::uint64_t{1} << 30;
constexpr std::uint64_t kPageBytes = 4096;

std::uint64_t whole_pages(std::uint64_t bytes) { return (bytes + kPageBytes - 1) / kPageBytes * kPageBytes; }

}  // namespace

/// Asks for a segment that has room for some bytes: a generous one, or, where that is refused, one that just fits.
class Connection::SegmentRequest final : public Pending {
 public:
  SegmentRequest(std::uint64_t generous, std::uint64_t fits) : size_{generous}, fits_{fits} { bound = true; }

  void ask(Connection& connection) const {
    Prefix prefix;
    prefix.op = Op::arena_open;
    prefix.request = request;
    ArenaSegment wanted;
    wanted.bytes = size_;
    connection.append(prefix, encode(wanted), {});
  }
  Result<bool> accept(Connection& connection, const FrameView& frame, std::span<Fd> fds) override {
    if (frame.prefix.op == Op::error) {
      const auto error = decode<ErrorHead>(frame.head);
      if (!error) return error.error();
      if (std::exchange(size_, fits_) != fits_) {
        ask(connection);
        return false;
      }
      refuse(connection, to_error(*error));
    } else if (auto added = add(connection, frame, fds); !added) {
      refuse(connection, added.error());
    }
    close(connection);
    return true;
  }
  void abandon(Connection& connection, const ErrorHead&, bool) override { close(connection); }

 private:
  Result<void> add(Connection& connection, const FrameView& frame, std::span<Fd> fds) const {
    const auto segment = decode<ArenaSegment>(frame.body.empty() ? frame.head : as_text(frame.body));
    if (!segment) return segment.error();
    if (frame.prefix.op != Op::ok || fds.size() != 1 || segment->bytes < size_ ||
        connection.up_segments_.contains(segment->segment))
      return fail(Errc::bad_message, "arena_open: not a new segment of that size");
    auto mapping = Mapping::map(fds[0], segment->segment, segment->bytes, true, connection.epoch_);
    if (!mapping) return mapping.error();
    connection.up_.add(segment->segment, segment->bytes);
    connection.up_segments_.emplace(segment->segment, std::move(*mapping));
    return {};
  }
  void refuse(Connection& connection, const Error& why) const {
    connection.refused_ = Refusal{why, fits_, connection.frees_};
  }
  static void close(Connection& connection) {
    connection.opening_segment_ = false;
    connection.up_changed();
  }

  std::uint64_t size_;
  const std::uint64_t fits_;
};

/// Wakes who waits for a place.
void Connection::up_changed() {
  ++up_changes_;
  notify(place_freed_);
}

Result<UpPlace> Connection::allocate(Lock& lock, std::uint64_t bytes) {
  auto place = take_place(lock, bytes);
  if (place) ++places_in_flight_;
  return place;
}

Result<std::optional<UpPlace>> Connection::try_allocate(std::uint64_t bytes) {
  auto place = try_place(bytes);
  if (place && *place) ++places_in_flight_;
  return place;
}

Result<std::optional<UpPlace>> Connection::try_place(std::uint64_t bytes) {
  if (bytes > kMaxSegmentBytes)
    return fail(Errc::body_too_large, std::to_string(bytes) + " bytes, at most " + std::to_string(kMaxSegmentBytes));
  if (const auto place = up_.allocate(bytes)) return std::optional{UpPlace{*place, epoch_}};
  if (opening_segment_) return std::optional<UpPlace>{};
  if (refused_ && refused_->frees == frees_ && bytes >= refused_->bytes) {
    // The daemon gives no more: some task's end makes room, if there is one.
    if (places_in_flight_ > 0) return std::optional<UpPlace>{};
    return std::exchange(refused_, std::nullopt)->why;  // the next who asks may be luckier
  }
  const auto fits = whole_pages(bytes);
  const auto generous = std::max(fits, std::clamp(up_.total_bytes(), kFirstSegmentBytes, kMaxGrowthBytes));
  const auto request = std::make_shared<SegmentRequest>(generous, fits);
  opening_segment_ = true;
  register_request(request);
  request->ask(*this);
  return std::optional<UpPlace>{};
}

Result<UpPlace> Connection::take_place(Lock& lock, std::uint64_t bytes) {
  const auto epoch = epoch_;
  for (;;) {
    if (state_ != State::connected || epoch != epoch_) return fail(Errc::daemon_gone, "the connection broke");
    const auto place = try_place(bytes);
    if (!place) return place.error();
    if (*place) return **place;
    const auto changes = up_changes_;
    wait(lock, place_freed_, {}, [&] { return up_changes_ != changes || epoch != epoch_; });
  }
}

const std::shared_ptr<Mapping>& Connection::segment_of(const UpPlace& place) const {
  return up_segments_.at(static_cast<std::uint32_t>(place.ref.segment));
}

void Connection::fill(Lock& lock, const UpPlace& place, std::span<const std::byte> bytes) {
  const auto segment = segment_of(place);  // stays mapped while the lock is not held
  lock.unlock();
  std::memcpy(segment->bytes().subspan(place.ref.offset).data(), bytes.data(), bytes.size());
  lock.lock();
}

std::shared_ptr<Mapping> Connection::copy_to(const UpPlace& place, std::span<const std::byte> bytes) {
  const auto& segment = segment_of(place);
  std::memcpy(segment->bytes().subspan(place.ref.offset).data(), bytes.data(), bytes.size());
  return segment;
}

void Connection::free_locked(const UpPlace& place) {
  if (place.epoch != epoch_) return;
  up_.free(place.ref);
  --places_in_flight_;
  ++frees_;
  up_changed();
}

void Connection::free(const UpBuffer& buffer) {
  if (is_inherited()) return;
  const Lock lock{mutex_};
  if (buffer.mapping_->epoch() != epoch_) return;
  auto ref = buffer.mapping_->reference_to(buffer.bytes_);
  ref.bytes = buffer.place_bytes_;
  up_.free(ref);
  ++frees_;
  up_changed();
}

Result<UpBuffer> Connection::up_buffer(std::size_t bytes) {
  if (is_inherited()) return inherited();
  UpBuffer buffer;
  if (bytes == 0) return buffer;
  Lock lock{mutex_};
  if (auto connected = ensure_connected(lock); !connected) return connected.error();
  const auto place = take_place(lock, bytes);
  if (!place) return place.error();
  buffer.mapping_ = segment_of(*place);
  buffer.bytes_ = buffer.mapping_->bytes().subspan(place->ref.offset, bytes);
  buffer.place_bytes_ = place->ref.bytes;
  buffer.connection_ = weak_from_this();
  return buffer;
}

Result<void> Connection::add_down_segment(const FrameView& frame, std::span<Fd> fds) {
  const auto segment = decode<ArenaSegment>(frame.head);
  if (!segment) return segment.error();
  if (fds.size() != 1 || segment->segment == 0 || segment->segment > kMaxSegments ||
      down_segments_.contains(segment->segment))
    return fail(Errc::bad_message, "arena_segment: not one new segment");
  auto mapping = Mapping::map(fds[0], segment->segment, segment->bytes, false, epoch_);
  if (!mapping) return mapping.error();
  down_segments_.emplace(segment->segment, std::move(*mapping));
  return {};
}

Result<Body> Connection::body_at(const ArenaRef& ref, Encoding encoding, std::uint32_t count) {
  if (ref == ArenaRef{}) return Body{encoding, count, {}};
  const auto segment =
      ref.segment > kMaxSegments ? down_segments_.end() : down_segments_.find(static_cast<std::uint32_t>(ref.segment));
  if (segment == down_segments_.end())
    return fail(Errc::bad_message, "reference: no arena segment " + std::to_string(ref.segment));
  const auto memory = segment->second->bytes();
  if (ref.bytes == 0 || ref.bytes > memory.size() || ref.offset > memory.size() - ref.bytes)
    return fail(Errc::bad_message, "reference: outside of arena segment " + std::to_string(ref.segment));
  return Body{encoding, count, memory.subspan(ref.offset, ref.bytes), segment->second, weak_from_this()};
}

Result<Body> Connection::read_single(const FrameView& frame) {
  const auto& prefix = frame.prefix;
  if (auto checked = check_single(prefix.flags, prefix.encoding, prefix.count, frame.body); !checked)
    return checked.error();
  if ((prefix.flags & kInArena) != 0) return body_at(load<ArenaRef>(frame.body.data()), prefix.encoding, prefix.count);
  return Body{prefix.encoding, prefix.count, Bytes(frame.body.begin(), frame.body.end())};
}

}  // namespace taskpool::client
