#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>

#include "proto/result.hpp"

namespace taskpool::runtime {

/// Tells a process from the copies of it that fork() makes, at the price of one read: a page that the kernel clears in
/// every child (MADV_WIPEONFORK, madvise(2)). getpid() would be a system call after each item.
class ForkMark {
 public:
  static Result<ForkMark> create() {
    const auto bytes = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    void* const page = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return errno_error("mmap");
    if (::madvise(page, bytes, MADV_WIPEONFORK) != 0) return errno_error("MADV_WIPEONFORK");
    ForkMark mark;
    mark.page_ = static_cast<volatile char*>(page);
    *mark.page_ = 1;
    return mark;
  }
  /// True in a process that was forked after create().
  bool is_copy() const { return *page_ == 0; }

 private:
  volatile char* page_ = nullptr;  ///< Lives as long as the process.
};

}  // namespace taskpool::runtime
