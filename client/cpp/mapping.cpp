#include "client/cpp/mapping.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "proto/limits.hpp"

namespace taskpool::client {

Result<std::shared_ptr<Mapping>> Mapping::map(const Fd& memory, std::uint32_t segment, std::uint64_t bytes,
                                              bool writable, std::uint64_t epoch) {
  struct stat status {};
  if (::fstat(memory.get(), &status) != 0) return errno_error("arena segment");
  const int seals = ::fcntl(memory.get(), F_GET_SEALS);
  if (bytes == 0 || bytes > kMaxSegmentBytes || status.st_size < 0 ||
      static_cast<std::uint64_t>(status.st_size) < bytes)
    return fail(Errc::bad_message, "arena segment " + std::to_string(segment) + ": not as long as it says");
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0)
    return fail(Errc::bad_message, "arena segment " + std::to_string(segment) + ": not sealed");
  void* const at = ::mmap(nullptr, bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, memory.get(), 0);
  if (at == MAP_FAILED) return errno_error("mmap of an arena segment");
  return std::shared_ptr<Mapping>{new Mapping{{static_cast<std::byte*>(at), bytes}, segment, epoch}};
}

Mapping::~Mapping() { ::munmap(bytes_.data(), bytes_.size()); }

}  // namespace taskpool::client
