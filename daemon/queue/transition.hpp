#pragma once

#include <cstdint>

#include "daemon/queue/job.hpp"

namespace taskpool::queue {

/// One change of a job. Everything that happens to a job is a sequence of these, applied by Queue::apply() alone: a
/// journal is a listener to them.
struct Transition {
  enum class Kind : std::uint8_t {
    accepted,     ///< The job exists; no items yet.
    input,        ///< `range` came and waits.
    refused,      ///< `range.count` items came that never wait: they have failed.
    input_ended,  ///< No more items will come.
    started,      ///< The first `range.count` waiting items went to a worker.
    returned,     ///< `range` came back unclaimed, or its worker died before it ran; waits at the front.
    delayed,      ///< `range` is to be repeated later.
    resumed,      ///< `range` is due; waits at the front.
    succeeded,    ///< `range.count` running items have results.
    failed,       ///< `range.count` running items failed for good.
    cancelled,    ///< `range.count` waiting, delayed or running items will never run to their end; see `from`.
    stopped,      ///< Somebody cancelled the job: nothing of it starts any more.
    ended,        ///< The last item has its outcome.
  };
  enum class From : std::uint8_t { none, waiting, running, delayed };

  Kind kind;
  Job& job;
  Range range = {};
  From from = From::none;
};

}  // namespace taskpool::queue
