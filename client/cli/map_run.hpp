#pragma once

#include <optional>

#include "client/cli/interrupts.hpp"
#include "client/cli/map_inputs.hpp"
#include "client/cli/map_printer.hpp"
#include "taskpool/client.hpp"

namespace taskpool::cli {

/// How run_map() behaves beside what it runs.
struct MapRunOptions {
  std::optional<std::uint64_t> total;  ///< Items, if known beforehand.
  bool stop_on_error = false;
  bool progress = false;  ///< Show a bar on standard error.
};

/// How a map ended.
struct MapRun {
  std::uint64_t cancelled = 0;         ///< Items that were not run, or not to their end.
  std::optional<Error> input_error{};  ///< The input that could not be read; those before it were run.
  bool stopped = false;      ///< At the first failure; what had not been sent by then is not counted anywhere.
  bool interrupted = false;  ///< Because of a signal.
};

/// Feeds `inputs` to `stream` from a thread of its own, so that a slow input and a slow output do not wait for each
/// other, and gives the outcomes to `printer` until the job has ended. The first signal cancels the job. Does not
/// return if the reader of standard output is gone: the program ends as others do then, and the end of its session
/// cancels the job. Error: why the job failed as a whole, or why standard output cannot be written.
Result<MapRun> run_map(MapStream& stream, ItemFeed& inputs, MapPrinter& printer, const Interrupts& interrupts,
                       const MapRunOptions& options);

}  // namespace taskpool::cli
