#include "daemon/runtime/chunk.hpp"

#include <utility>

#include "proto/fields.hpp"

namespace taskpool::runtime {
namespace {

/// The `command` object in the head of a run, as raw JSON.
Result<std::string> read_command_options(std::string_view head) {
  std::string command;
  Fields fields{head};
  fields.raw("command", command, Json::value_t::object);
  if (const auto read = fields.finish(false); !read) return read.error();
  return command;
}

/// Numbers in an arena are checked here rather than by check_items(): the supervisor cuts arrays where it likes, so
/// that a piece may begin at any element.
Result<void> check_number_reference(Encoding encoding, std::uint32_t count, std::span<const std::byte> body) {
  if (body.size() != sizeof(ArenaRef)) return fail(Errc::bad_message, "body: not one reference");
  const auto bytes = load<ArenaRef>(body.data()).bytes;
  const auto wanted = std::uint64_t{count} * element_bytes(encoding);
  if (bytes != wanted)
    return fail(Errc::bad_message,
                "body: an array of " + std::to_string(bytes) + " bytes, want " + std::to_string(wanted));
  return {};
}

bool is_aligned(std::span<const std::byte> bytes, std::size_t alignment) {
  return reinterpret_cast<std::uintptr_t>(bytes.data()) % alignment == 0;
}

}  // namespace

Result<void> Chunk::read(const FrameView& frame) {
  const auto& prefix = frame.prefix;
  first_ = static_cast<Ticket>(prefix.request);
  tickets_ = count_ = prefix.count;
  encoding_ = prefix.encoding;
  in_arena_ = (prefix.flags & kInArena) != 0;
  command_.clear();
  at_ = 0;
  if (frame.body.size() < sizeof(RunHeader)) return fail(Errc::bad_message, "run: no header");
  header_ = load<RunHeader>(frame.body.data());
  if (is_single()) tickets_ = 1;
  body_ = frame.body.subspan(sizeof(RunHeader));
  at_byte_ = std::size_t{count_} * sizeof(std::uint32_t);
  if ((header_.flags & kRunCommand) != 0) {
    auto command = read_command_options(frame.head);
    if (!command) return command.error();
    command_ = std::move(*command);
  }
  if (in_arena_ && is_array(encoding_)) return check_number_reference(encoding_, count_, body_);
  return is_single() ? check_single(prefix.flags, encoding_, count_, body_)
                     : check_items(prefix.flags, encoding_, count_, body_);
}

Result<std::span<const std::byte>> Chunk::item(const Arenas& arenas, std::uint32_t offset) {
  if (!in_arena_ && is_single()) return aligned(body_);
  if (!in_arena_) {
    std::span<const std::byte> item;
    for (; at_ <= offset; ++at_) {  // more than once only after tickets that were taken back
      const auto bytes = load<std::uint32_t>(body_.data() + std::size_t{at_} * sizeof(std::uint32_t));
      item = body_.subspan(at_byte_, bytes);
      at_byte_ += bytes;
    }
    return item;
  }
  const auto region =
      arenas.view(header_.session, load<ArenaRef>(body_.data() + std::size_t{offset} * sizeof(ArenaRef)));
  if (!region) return region.error();
  return region->same_uid ? aligned(region->bytes) : copied(region->bytes);
}

std::span<const std::byte> Chunk::copied(std::span<const std::byte> bytes) {
  copy_.assign(bytes.begin(), bytes.end());
  return copy_;
}

std::span<const std::byte> Chunk::aligned(std::span<const std::byte> item) {
  const auto width = element_bytes(encoding_);
  return width == 0 || is_aligned(item, width) ? item : copied(item);
}

Result<Chunk::Numbers> Chunk::numbers(const Arenas& arenas) const {
  if (!in_arena_) return Numbers{body_, is_aligned(body_, element_bytes(encoding_))};
  const auto region = arenas.view(header_.session, load<ArenaRef>(body_.data()));
  if (!region) return region.error();
  return Numbers{region->bytes, region->same_uid && is_aligned(region->bytes, element_bytes(encoding_))};
}

}  // namespace taskpool::runtime
