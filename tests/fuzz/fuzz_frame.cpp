#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include "proto/frame.hpp"
#include "proto/items.hpp"

using namespace taskpool;

namespace {

using Bytes = std::span<const std::byte>;

void require(bool holds) {
  if (!holds) std::abort();
}

/// A body that passed its check can be walked to its end, and packed again it is the same.
void walk_items(std::uint32_t count, Bytes body) {
  Packer packer;
  PackedItems items{count, body};
  while (!items.done()) packer.add(items.next());
  require(packer.count() == count && packer.bytes() == body.size());
  require(std::ranges::equal(packer.table(), body.first(packer.table().size())));
  require(std::ranges::equal(packer.payload(), body.subspan(packer.table().size())));
  packer.clear();
  require(packer.empty());
}

void check_bodies(const FrameView& frame) {
  const auto& prefix = frame.prefix;
  const auto items = check_items(prefix.flags, prefix.encoding, prefix.count, frame.body);
  const bool packed = (prefix.flags & kInArena) == 0 && !is_array(prefix.encoding);
  if (items && packed) walk_items(prefix.count, frame.body);
  if (!items) require(!items.error().detail.empty());
  (void)check_single(prefix.flags, prefix.encoding, prefix.count, frame.body);
}

/// Decodes a stream that arrives `step` bytes at a time, and encodes its frames again.
ByteBuffer pass_through(Bytes stream, std::size_t step, bool check) {
  ByteBuffer again;
  FrameDecoder decoder;
  while (!stream.empty()) {
    const auto part = stream.first(std::min(step, stream.size()));
    stream = stream.subspan(part.size());
    const auto room = decoder.prepare(part.size());
    std::ranges::copy(part, room.begin());
    decoder.commit(part.size());
    for (;;) {
      const auto next = decoder.next();
      if (!next) {
        require(!next.error().detail.empty() && decoder.next().has_error());
        return again;
      }
      if (!*next) break;
      const FrameView& frame = **next;
      require(!name(frame.prefix.op).empty() && find_encoding(name(frame.prefix.encoding)) == frame.prefix.encoding);
      if (check) check_bodies(frame);
      const auto half = frame.body.size() / 2;
      append_frame(again, frame.prefix, frame.head, frame.body.first(half), frame.body.subspan(half));
    }
  }
  (void)decoder.at_border();
  return again;
}

}  // namespace

/// The input is a stream. However it is split, it gives the same frames, and these are written as they were read.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const Bytes stream = std::as_bytes(std::span{data, size});
  const auto whole = pass_through(stream, stream.size(), true);
  require(whole.size() <= size && std::ranges::equal(whole.data(), stream.first(whole.size())));
  for (const std::size_t step : {std::size_t{1}, std::size_t{33}, size / 3 + 1}) {
    const auto parts = pass_through(stream, step, false);
    require(std::ranges::equal(parts.data(), whole.data()));
  }
  return 0;
}
