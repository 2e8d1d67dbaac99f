#include "daemon/runtime/arenas.hpp"

#include <string>
#include <utility>

namespace taskpool::runtime {

Result<void> Arenas::attach(const Attach& segment, os::UniqueFd fd) {
  using Access = os::SharedMemory::Access;
  auto memory =
      os::SharedMemory::attach(std::move(fd), segment.bytes, segment.down ? Access::read_write : Access::read_only);
  if (!memory) return memory.error();
  memory->close_fd();
  segments_.insert_or_assign(Key{segment.session, segment.down, segment.segment},
                             Segment{std::move(*memory), segment.same_uid});
  return {};
}

void Arenas::detach(std::uint32_t session) {
  std::erase_if(segments_, [&](const auto& entry) { return entry.first.session == session; });
}

Result<const Arenas::Segment*> Arenas::find(const Key& key, const ArenaRef& ref) const {
  const auto found = segments_.find(key);
  const auto describe = [&] {
    return std::string{key.down ? "down" : "up"} + " segment " + std::to_string(key.segment) + " of session " +
           std::to_string(key.session);
  };
  // It is announced before it is named, unless the supervisor had no descriptor left to send it with.
  if (found == segments_.end()) return fail(Errc::out_of_space, describe() + ": the daemon could not pass it on");
  const auto size = found->second.memory.size();
  if (ref.offset > size || ref.bytes > size - ref.offset)
    return fail(Errc::bad_message,
                describe() + ": has no " + std::to_string(ref.bytes) + " bytes at " + std::to_string(ref.offset));
  return &found->second;
}

Result<Arenas::Region> Arenas::view(std::uint32_t session, const ArenaRef& ref) const {
  if (ref == ArenaRef{}) return Region{.same_uid = true};
  const auto segment = find({session, false, ref.segment}, ref);
  if (!segment) return segment.error();
  return Region{(*segment)->memory.bytes().subspan(ref.offset, ref.bytes), (*segment)->same_uid};
}

Result<std::span<std::byte>> Arenas::room(std::uint32_t session, const ArenaRef& ref) const {
  const auto segment = find({session, true, ref.segment}, ref);
  if (!segment) return segment.error();
  return (*segment)->memory.bytes().subspan(ref.offset, ref.bytes);
}

}  // namespace taskpool::runtime
