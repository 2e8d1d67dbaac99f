#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "daemon/runtime/interrupts.hpp"
#include "daemon/runtime/link.hpp"
#include "proto/items.hpp"
#include "proto/message.hpp"
#include "proto/module_abi.h"

namespace taskpool::runtime {

/// The error of a function that failed without reporting one.
ErrorHead unexplained_failure();

/// CLOCK_MONOTONIC, as the claim page has it. Nanoseconds.
std::uint64_t monotonic_ns();

/// The `taskpool_call` that functions are given, with the host services behind it: what a function may ask of its
/// worker, and what it has answered. One is reused for all items of a worker, as setting one up costs more than a short
/// function.
class Call : public taskpool_call {
 public:
  /// What is the same for all calls of a worker.
  struct Place {
    std::uint32_t worker = 0;
    std::string task_prefix;  ///< How the names of tasks begin. PROTOCOL.md, "fork".
    std::string spool;        ///< Directory for captured output, or "".
  };

  Call(Link& link, const Interrupts& interrupts, Place place);
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  /// What is the same for all items of a `run` frame. `command` is the raw JSON of its options, or "".
  void begin_run(const RunHeader& header, std::string command);
  /// Describes the next item, the `offset`th of the run, and forgets the last one's outcome. `elements` is 1 unless the
  /// encoding is an array's.
  void begin_item(Ticket ticket, std::uint32_t offset, Encoding item_encoding, std::uint32_t elements,
                  std::span<const std::byte> item);

  /// What the function returns is of no use to anybody: an initializer's. Until the next begin_item().
  void drop_result() { is_dropped_ = true; }

  /// Puts the outcome into the outbox: the result if `succeeded`, else the error.
  void publish(bool succeeded);
  /// Puts a failure of `tickets` tickets into the outbox.
  void publish_failure(std::uint32_t tickets = 1);
  /// Sets the error that publish_failure() sends.
  void set_error(Errc code, std::string type, std::string message, std::string traceback = {});

  bool has_error() const { return error_.has_value(); }
  const ErrorHead& error_head() const { return *error_; }

  /// What a result of this item, or of a block that begins with it, belongs to.
  Outbox::Origin origin(Encoding of_result) const { return {ticket_, of_result, single_}; }

 private:
  struct Services;  ///< The functions of taskpool_host; they are given a Call and act on it.
  static const taskpool_host kHost;

  std::byte* reserve_result(Encoding encoding, std::uint64_t bytes);
  void commit_result(std::uint64_t bytes);
  const char* task_name();
  void report_progress(double done, double total, const char* message);

  Link& link_;
  const Interrupts& interrupts_;
  Place place_;

  RunHeader run_;
  std::string command_;
  bool single_ = false;
  Ticket ticket_ = 0;
  std::string task_name_;          ///< Made when asked for; "" until then.
  std::uint64_t reported_ns_ = 0;  ///< When progress was last sent; 0: not by this item.

  Encoding result_encoding_ = Encoding::none;
  std::uint64_t reserved_bytes_ = 0;
  std::uint64_t result_bytes_ = 0;
  std::byte* result_place_ = nullptr;  ///< In the outbox, in `room_` or in `dropped_`.
  bool is_dropped_ = false;
  std::vector<std::byte> dropped_;  ///< A result that nobody wants.
  ArenaRef room_;                   ///< All zero: the result is inline.
  ResultRefs refs_;                 ///< What the result names.
  std::optional<ErrorHead> error_;
};

}  // namespace taskpool::runtime
