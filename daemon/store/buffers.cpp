#include "daemon/store/buffers.hpp"

#include <algorithm>
#include <iterator>
#include <numeric>

#include "proto/limits.hpp"

namespace taskpool::store {

Result<Buffers::Found> Buffers::find_or_make(std::uint32_t uid, const BufferOpen& head, std::uint64_t max_bytes,
                                             std::uint64_t now) {
  if (const auto known = names_.find({uid, head.name}); known != names_.end()) {
    if (head.create == Create::exclusive) return fail(Errc::object_exists, "name: " + head.name);
    return Found{known->second, known->second->memory};
  }
  if (head.create == Create::never) return fail(Errc::unknown_object, "name: no buffer " + head.name);
  if (head.bytes < kMinBufferBytes)
    return fail(Errc::bad_argument, "bytes: want at least " + std::to_string(kMinBufferBytes));
  const auto used = bytes_.find(uid);
  const auto left = max_bytes - std::min(used == bytes_.end() ? 0 : used->second, max_bytes);
  if (head.bytes > left)
    return fail(Errc::store_full, "bytes: " + std::to_string(head.bytes) + ", and the user's other buffers leave " +
                                      std::to_string(left));
  const auto first = names_.lower_bound({uid, ""});
  if (!head.name.empty() &&
      std::distance(first, names_.lower_bound({uid + 1, ""})) >= static_cast<std::ptrdiff_t>(kMaxNamed))
    return fail(Errc::limit_reached, "name: a user may have " + std::to_string(kMaxNamed) + " buffers with names");
  auto memory = os::SharedMemory::create("taskpool-buffer", head.bytes);
  if (!memory) return fail(Errc::store_full, memory.error().detail);
  Found found{std::make_shared<Buffer>(), std::make_shared<os::SharedMemory>(std::move(*memory)), true};
  *found.buffer = {.number = ++last_number_, .uid = uid, .name = head.name, .bytes = head.bytes, .created = now};
  buffers_.emplace(found.buffer->number, found.buffer);
  bytes_[uid] += head.bytes;
  if (head.name.empty()) return found;
  found.buffer->memory = found.memory;
  names_.emplace(std::pair{uid, head.name}, found.buffer);
  return found;
}

Result<Buffers::Opened> Buffers::open(std::uint32_t session, std::uint32_t uid, std::uint32_t target,
                                      const BufferOpen& head, std::uint64_t max_bytes, std::uint64_t now) {
  const auto found = find_or_make(uid, head, max_bytes, now);
  if (found)
    ++found->buffer->openers[session];  // before the number is given up, which may be all that keeps this buffer
  close(session, target);
  if (!found) return found.error();
  opened_[{session, target}] = found->buffer;
  return Opened{found->buffer->bytes, found->created, found->memory};
}

void Buffers::close(std::uint32_t session, std::uint32_t target) {
  const auto found = opened_.extract(std::pair{session, target});
  if (!found.empty()) leave(found.mapped(), session);
}

void Buffers::leave(const BufferPtr& buffer, std::uint32_t session) {
  const auto opener = buffer->openers.find(session);
  if (--opener->second == 0) buffer->openers.erase(opener);
  if (!buffer->openers.empty()) return;
  buffers_.erase(buffer->number);
  if (!buffer->name.empty()) names_.erase({buffer->uid, buffer->name});
  const auto used = bytes_.find(buffer->uid);
  used->second -= buffer->bytes;
  if (used->second == 0) bytes_.erase(used);
}

void Buffers::end_session(std::uint32_t session) {
  for (auto next = opened_.lower_bound({session, 0}); next != opened_.end() && next->first.first == session;) {
    const auto buffer = std::move(next->second);
    next = opened_.erase(next);
    leave(buffer, session);
  }
}

std::vector<const Buffers::Buffer*> Buffers::of(std::uint32_t uid, std::uint64_t after) const {
  std::vector<const Buffer*> found;
  for (auto next = buffers_.upper_bound(after); next != buffers_.end(); ++next)
    if (next->second->uid == uid) found.push_back(next->second.get());
  return found;
}

std::uint64_t Buffers::bytes() const {
  return std::accumulate(bytes_.begin(), bytes_.end(), std::uint64_t{0},
                         [](std::uint64_t sum, const auto& user) { return sum + user.second; });
}

}  // namespace taskpool::store
