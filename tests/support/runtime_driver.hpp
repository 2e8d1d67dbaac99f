#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "daemon/os/memory.hpp"
#include "daemon/os/process.hpp"
#include "daemon/runtime/channel.hpp"
#include "proto/claim_page.hpp"
#include "proto/items.hpp"
#include "proto/message.hpp"

/// A supervisor made for tests: it drives a real runtime program by hand, over its control and worker channels.
namespace taskpool::test {

/// Every wait of a test ends after this.
inline constexpr std::chrono::seconds kPatience{20};

/// A frame with bytes of its own.
struct OwnedFrame {
  Prefix prefix;
  std::string head;
  std::vector<std::byte> body;
  std::vector<os::UniqueFd> fds;
};

/// Waits for the next frame; nothing if the peer closes, or says nothing for kPatience.
std::optional<OwnedFrame> read_frame(runtime::Channel& channel);

/// What became of one ticket.
struct Outcome {
  Encoding encoding = Encoding::none;
  std::string value;  ///< The result's bytes; "@SEGMENT+OFFSET:BYTES" for a reference.
  std::optional<ErrorHead> error;
  int times = 0;  ///< How often it was reported.
};

/// One worker as a supervisor sees it.
class DrivenWorker {
 public:
  DrivenWorker(os::UniqueFd channel, os::UniqueFd pidfd, os::SharedMemory memory, pid_t pid)
      : channel_{std::move(channel)}, pidfd_{std::move(pidfd)}, memory_{std::move(memory)}, pid_{pid} {}

  ClaimPage& page() { return *reinterpret_cast<ClaimPage*>(memory_.data()); }
  pid_t pid() const { return pid_; }
  runtime::Channel& channel() { return channel_; }

  /// Offers tickets for a body of items and sends it. Returns the first ticket.
  Ticket send_run(std::uint32_t function, const Prefix& items, std::span<const std::byte> body, RunHeader header = {},
                  std::string_view head = {});
  /// The same for JSON items, or for one that is a single call.
  Ticket send_map(std::uint32_t function, const std::vector<std::string>& items, RunHeader header = {});
  Ticket send_apply(std::uint32_t function, const std::string& item, RunHeader header = {});
  /// The same for numbers, 64-bit integers, inline.
  Ticket send_numbers(std::uint32_t function, const std::vector<std::int64_t>& numbers, RunHeader header = {});
  void attach(const Attach& segment, const os::SharedMemory& memory);
  void send(const Prefix& prefix, std::string_view head, std::span<const std::byte> body = {});
  /// Sets the page's interrupt word and sends the signal.
  void interrupt(Ticket ticket, Interrupt reason);
  void kill();

  /// Reads until all tickets before `end` have an outcome; false if the worker dies or kPatience passes. Frames
  /// that are no results are kept in `others`.
  bool read_outcomes(Ticket end);
  /// Reads frames, results included, until one with this op comes.
  std::optional<OwnedFrame> read_until(Op op);
  /// Takes what the worker has sent so far.
  void read_available();
  /// What a supervisor does at a worker's death: reads what is left in the channel, then in the outbox.
  void bury();
  /// Waits until the process has exited, and takes what it sends meanwhile.
  bool wait_death();

  /// The outcome of one ticket as text: the result's bytes, or "CODE: DETAIL", or "nothing".
  std::string outcome(Ticket ticket) const;

  std::map<Ticket, Outcome> outcomes;
  std::vector<OwnedFrame> others;

 private:
  bool take(OwnedFrame frame);
  void take_results(const OwnedFrame& frame);

  runtime::Channel channel_;
  os::UniqueFd pidfd_;
  os::SharedMemory memory_;
  pid_t pid_ = 0;
};

/// The runtime program and its control channel. Killed by the destructor.
class RuntimeDriver {
 public:
  explicit RuntimeDriver(const std::vector<std::string>& arguments = {});
  ~RuntimeDriver();
  RuntimeDriver(const RuntimeDriver&) = delete;
  RuntimeDriver& operator=(const RuntimeDriver&) = delete;

  /// Sends `start`; the answer, `ready` or `start_failed`.
  OwnedFrame start(const std::vector<std::string>& modules);
  /// start() that must succeed. Afterwards number() knows the functions.
  void load(const std::vector<std::string>& modules);
  std::uint32_t number(const std::string& function) const;

  /// Sends `fork`; does not wait.
  void ask_worker(const Fork& fork, std::span<const int> stdio = {});
  /// Waits for `forked` and for nothing that the worker says.
  std::unique_ptr<DrivenWorker> take_worker();
  /// Asks for a worker and waits until it is ready.
  std::unique_ptr<DrivenWorker> make_worker(Fork fork = {}, std::span<const int> stdio = {});
  /// Waits for `exited`.
  std::optional<Exited> take_exit();
  std::optional<OwnedFrame> read() { return read_frame(*control_); }

  pid_t pid() const { return child_.pid; }
  /// Closes the control channel, and waits for the program to end. False: it did not.
  bool close();
  void kill();

 private:
  std::unique_ptr<runtime::Channel> control_;
  os::Child child_;
  std::map<std::string, std::uint32_t> numbers_;
};

/// Waits until `fact` is true. False: kPatience passed.
bool eventually(const std::function<bool()>& fact);

}  // namespace taskpool::test
