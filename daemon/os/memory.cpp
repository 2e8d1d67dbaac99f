#include "daemon/os/memory.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cassert>
#include <string>
#include <utility>

namespace taskpool::os {

SharedMemory::SharedMemory(SharedMemory&& other) noexcept
    : fd_{std::move(other.fd_)}, data_{std::exchange(other.data_, nullptr)}, size_{std::exchange(other.size_, 0)} {}

SharedMemory& SharedMemory::operator=(SharedMemory&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

SharedMemory::~SharedMemory() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

Result<SharedMemory> SharedMemory::create(const char* name, std::size_t bytes) {
  assert(bytes > 0);
  UniqueFd fd{::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING)};
  if (!fd) return errno_error("memfd_create");
  if (::ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0)
    return errno_error(std::string{name} + ": " + std::to_string(bytes) + " bytes");
  if (::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) return errno_error("F_ADD_SEALS");
  return map(std::move(fd), bytes, Access::read_write);
}

Result<SharedMemory> SharedMemory::attach(UniqueFd fd, std::size_t bytes, Access access) {
  // Seals first: what is sealed against shrinking stays as large as it is found afterwards. Only a memfd has seals.
  const int seals = ::fcntl(fd.get(), F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) return fail(Errc::bad_message, "shared memory: not sealed");
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) return errno_error("fstat");
  if (bytes == 0 || static_cast<std::uint64_t>(status.st_size) < bytes)
    return fail(Errc::bad_message,
                "shared memory: has " + std::to_string(status.st_size) + " bytes, want " + std::to_string(bytes));
  return map(std::move(fd), bytes, access);
}

Result<SharedMemory> SharedMemory::map(UniqueFd fd, std::size_t bytes, Access access) {
  const int protection = access == Access::read_write ? PROT_READ | PROT_WRITE : PROT_READ;
  void* const data = ::mmap(nullptr, bytes, protection, MAP_SHARED, fd.get(), 0);
  if (data == MAP_FAILED) return errno_error("mmap of " + std::to_string(bytes) + " bytes");
  return SharedMemory{std::move(fd), static_cast<std::byte*>(data), bytes};
}

void SharedMemory::prefault(std::size_t offset, std::size_t bytes) const {
  assert(offset <= size_ && bytes <= size_ - offset);
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = offset / page * page;
  if (bytes > 0) (void)::madvise(data_ + begin, offset + bytes - begin, MADV_POPULATE_WRITE);
}

void SharedMemory::discard(std::size_t offset, std::size_t bytes) const {
  assert(offset <= size_ && bytes <= size_ - offset);
  (void)::fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                    static_cast<off_t>(bytes));
}

}  // namespace taskpool::os
