#pragma once

#include "proto/claim_page.hpp"
#include "proto/result.hpp"

namespace taskpool::runtime {

/// What the supervisor asks of the running task, read from the claim page; an interrupt that was meant for another
/// ticket, which has ended meanwhile, counts as none.
Interrupt pending_interrupt(const ClaimPage& page);

/// Makes SIGUSR1 end the blocking system calls of a task, and a descriptor readable, when the supervisor interrupts it.
/// There is one per process, as there is one handler.
class Interrupts {
 public:
  /// Takes SIGUSR1 over; `page` must outlive the process's use of signals.
  static Result<Interrupts> install(const ClaimPage& page);
  /// Readable once the running task has been interrupted.
  int fd() const { return fd_; }
  /// To be called before each task: forgets an interrupt of the one before. Costs a read unless there was one.
  void forget();

 private:
  int fd_ = -1;  ///< Open as long as the process lives.
};

}  // namespace taskpool::runtime
