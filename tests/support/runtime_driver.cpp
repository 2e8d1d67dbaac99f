#include "tests/support/runtime_driver.hpp"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include <boost/test/unit_test.hpp>
#include <cstring>

#include "daemon/os/fd_passing.hpp"
#include "proto/codec.hpp"

namespace taskpool::test {
namespace {

bool wait_readable(int fd, std::chrono::milliseconds patience = kPatience) {
  pollfd wanted{fd, POLLIN, 0};
  return ::poll(&wanted, 1, static_cast<int>(patience.count())) > 0;
}

OwnedFrame own(runtime::IncomingFrame& frame) {
  return {frame.view.prefix,
          std::string{frame.view.head},
          {frame.view.body.begin(), frame.view.body.end()},
          std::move(frame.fds)};
}

std::vector<std::byte> pack(const std::vector<std::string>& items) {
  Packer packer;
  for (const auto& item : items) packer.add(as_bytes(item));
  std::vector<std::byte> body{packer.table().begin(), packer.table().end()};
  body.insert(body.end(), packer.payload().begin(), packer.payload().end());
  return body;
}

}  // namespace

bool eventually(const std::function<bool()>& fact) {
  const auto end = std::chrono::steady_clock::now() + kPatience;
  while (!fact()) {
    if (std::chrono::steady_clock::now() > end) return false;
    const timespec pause{0, 200'000};
    ::nanosleep(&pause, nullptr);
  }
  return true;
}

std::optional<OwnedFrame> read_frame(runtime::Channel& channel) {
  for (;;) {
    auto next = channel.next();
    if (!next) return std::nullopt;
    if (auto& frame = *next) return own(*frame);
    if (!wait_readable(channel.fd())) return std::nullopt;
    const auto more = channel.receive();
    if (!more || !*more) return std::nullopt;
  }
}

Ticket DrivenWorker::send_run(std::uint32_t function, const Prefix& items, std::span<const std::byte> body,
                              RunHeader header, std::string_view head) {
  const bool single = (header.flags & kRunSingle) != 0;
  const Ticket first = offer_tickets(page(), single ? 1 : items.count);
  auto prefix = items;
  prefix.op = Op::run;
  prefix.request = first;
  prefix.target = function;
  std::vector<std::byte> bytes(sizeof header);
  std::memcpy(bytes.data(), &header, sizeof header);
  bytes.insert(bytes.end(), body.begin(), body.end());
  send(prefix, head, bytes);
  return first;
}

Ticket DrivenWorker::send_map(std::uint32_t function, const std::vector<std::string>& items, RunHeader header) {
  return send_run(function, {.encoding = Encoding::json, .count = static_cast<std::uint32_t>(items.size())},
                  pack(items), header);
}

Ticket DrivenWorker::send_apply(std::uint32_t function, const std::string& item, RunHeader header) {
  header.flags |= kRunSingle;
  return send_run(function, {.encoding = Encoding::json, .count = 1}, as_bytes(item), header);
}

Ticket DrivenWorker::send_numbers(std::uint32_t function, const std::vector<std::int64_t>& numbers, RunHeader header) {
  return send_run(function, {.encoding = Encoding::i64, .count = static_cast<std::uint32_t>(numbers.size())},
                  std::as_bytes(std::span{numbers}), header);
}

void DrivenWorker::attach(const Attach& segment, const os::SharedMemory& memory) {
  const int fd = memory.fd();
  BOOST_REQUIRE(channel_.send({.op = Op::attach}, encode(segment), {}, std::span{&fd, 1}).has_value());
}

void DrivenWorker::send(const Prefix& prefix, std::string_view head, std::span<const std::byte> body) {
  BOOST_REQUIRE(channel_.send(prefix, head, body).has_value());
}

void DrivenWorker::interrupt(Ticket ticket, Interrupt reason) {
  page().interrupt.store((std::uint64_t{ticket} + 1) | (static_cast<std::uint64_t>(reason) << 32));
  BOOST_REQUIRE(os::signal(pidfd_, SIGUSR1).has_value());
}

void DrivenWorker::kill() { BOOST_REQUIRE(os::signal(pidfd_, SIGKILL).has_value()); }

bool DrivenWorker::take(OwnedFrame frame) {
  if (frame.prefix.op == Op::run_failed) {
    const auto error = decode<ErrorHead>(frame.head);
    BOOST_REQUIRE(error.has_value());
    for (std::uint32_t i = 0; i < frame.prefix.count; ++i) {
      auto& outcome = outcomes[static_cast<Ticket>(frame.prefix.request) + i];
      outcome.error = *error;
      ++outcome.times;
    }
    return true;
  }
  if (frame.prefix.op == Op::run_results) {
    take_results(frame);
    return true;
  }
  others.push_back(std::move(frame));
  return false;
}

void DrivenWorker::take_results(const OwnedFrame& frame) {
  const auto& prefix = frame.prefix;
  const auto first = static_cast<Ticket>(prefix.request);
  BOOST_REQUIRE(check_items(prefix.flags, prefix.encoding, prefix.count, frame.body).has_value());
  const auto put = [&](Ticket ticket, std::string value) {
    auto& outcome = outcomes[ticket];
    outcome.encoding = prefix.encoding;
    outcome.value = std::move(value);
    ++outcome.times;
  };
  const bool is_one_array = is_array(prefix.encoding) && prefix.target == 1;
  if ((prefix.flags & kInArena) != 0) {
    const auto ref = load<ArenaRef>(frame.body.data());
    const auto place =
        "@" + std::to_string(ref.segment) + "+" + std::to_string(ref.offset) + ":" + std::to_string(ref.bytes);
    const std::uint32_t tickets = is_array(prefix.encoding) && !is_one_array ? prefix.count : 1;
    for (std::uint32_t i = 0; i < tickets; ++i) put(first + i, place);
  } else if (is_one_array) {
    put(first, std::string{as_text(frame.body)});
  } else if (is_array(prefix.encoding)) {
    const auto width = element_bytes(prefix.encoding);
    for (std::uint32_t i = 0; i < prefix.count; ++i)
      put(first + i, std::string{as_text(std::span{frame.body}.subspan(i * width, width))});
  } else {
    Ticket ticket = first;
    for (PackedItems items{prefix.count, frame.body}; !items.done();) put(ticket++, std::string{as_text(items.next())});
  }
}

bool DrivenWorker::read_outcomes(Ticket end) {
  while (outcomes.empty() || ticket_before(outcomes.rbegin()->first + 1, end)) {
    auto frame = read_frame(channel_);
    if (!frame) return false;
    take(std::move(*frame));
  }
  return true;
}

std::optional<OwnedFrame> DrivenWorker::read_until(Op op) {
  for (;;) {
    auto frame = read_frame(channel_);
    if (!frame || frame->prefix.op == op) return frame;
    take(std::move(*frame));
  }
}

void DrivenWorker::bury() {
  while (auto frame = read_frame(channel_)) take(std::move(*frame));
  FrameDecoder decoder;
  decoder.feed(memory_.bytes().subspan(kOutboxOffset, page().outbox_bytes.load()));
  for (;;) {
    const auto frame = decoder.next();
    BOOST_REQUIRE(frame.has_value());
    if (!*frame) break;
    const auto ticket = static_cast<Ticket>((*frame)->prefix.request);
    if (outcomes.contains(ticket)) continue;  // it came through the channel
    take({(*frame)->prefix, std::string{(*frame)->head}, {(*frame)->body.begin(), (*frame)->body.end()}, {}});
  }
  BOOST_TEST(decoder.at_border());
}

void DrivenWorker::read_available() {
  using namespace std::chrono_literals;
  while (wait_readable(channel_.fd(), 0ms)) {
    auto frame = read_frame(channel_);
    if (!frame) return;
    take(std::move(*frame));
  }
}

bool DrivenWorker::wait_death() {
  using namespace std::chrono_literals;
  return eventually([this] {
    read_available();  // a worker whose channel is full waits, and does not die
    return wait_readable(pidfd_.get(), 0ms);
  });
}

std::string DrivenWorker::outcome(Ticket ticket) const {
  const auto found = outcomes.find(ticket);
  if (found == outcomes.end()) return "nothing";
  if (found->second.times != 1) return "reported " + std::to_string(found->second.times) + " times";
  if (found->second.error) return std::string{name(found->second.error->code)} + ": " + found->second.error->detail;
  return found->second.value;
}

RuntimeDriver::RuntimeDriver(const std::vector<std::string>& arguments) {
  auto ends = os::socket_pair();
  BOOST_REQUIRE(ends.has_value());
  os::SpawnOptions options{.argv = {TASKPOOL_RUNTIME}};
  options.argv.insert(options.argv.end(), arguments.begin(), arguments.end());
  options.descriptors = {{ends->second.get(), 3}};
  auto child = os::spawn(options);
  BOOST_REQUIRE(child.has_value());
  child_ = std::move(*child);
  control_ = std::make_unique<runtime::Channel>(std::move(ends->first));
}

RuntimeDriver::~RuntimeDriver() {
  control_.reset();
  if (child_.pid == 0) return;
  (void)os::signal(child_.pidfd, SIGKILL);  // it may have ended
  (void)os::reap(child_.pidfd);
}

OwnedFrame RuntimeDriver::start(const std::vector<std::string>& modules) {
  BOOST_REQUIRE(control_->send({.op = Op::start}, encode(Start{.runtime = "native", .modules = modules})).has_value());
  auto answer = read();
  BOOST_REQUIRE(answer.has_value());
  return std::move(*answer);
}

void RuntimeDriver::load(const std::vector<std::string>& modules) {
  const auto answer = start(modules);
  BOOST_TEST_REQUIRE(name(answer.prefix.op) == "ready");
  const auto ready = decode<Ready>(answer.head);
  BOOST_REQUIRE(ready.has_value());
  std::uint32_t next = 0;
  for (const auto& function : ready->functions) numbers_[function.name] = next++;
}

std::uint32_t RuntimeDriver::number(const std::string& function) const { return numbers_.at(function); }

void RuntimeDriver::ask_worker(const Fork& fork, std::span<const int> stdio) {
  BOOST_REQUIRE(control_->send({.op = Op::fork}, encode(fork), {}, stdio).has_value());
}

std::unique_ptr<DrivenWorker> RuntimeDriver::take_worker() {
  auto answer = read();
  BOOST_REQUIRE(answer.has_value());
  BOOST_TEST_REQUIRE(name(answer->prefix.op) == "forked");
  BOOST_REQUIRE(answer->fds.size() == 3);
  const auto forked = decode<Forked>(answer->head);
  BOOST_REQUIRE(forked.has_value());
  auto memory = os::SharedMemory::attach(std::move(answer->fds[2]), kClaimPageBytes);
  BOOST_REQUIRE(memory.has_value());
  return std::make_unique<DrivenWorker>(std::move(answer->fds[0]), std::move(answer->fds[1]), std::move(*memory),
                                        static_cast<pid_t>(forked->pid));
}

std::unique_ptr<DrivenWorker> RuntimeDriver::make_worker(Fork fork, std::span<const int> stdio) {
  ask_worker(fork, stdio);
  auto worker = take_worker();
  const auto first = read_frame(worker->channel());
  BOOST_REQUIRE(first.has_value());
  BOOST_TEST_REQUIRE(name(first->prefix.op) == "worker_ready");
  return worker;
}

std::optional<Exited> RuntimeDriver::take_exit() {
  const auto frame = read();
  if (!frame || frame->prefix.op != Op::exited) return std::nullopt;
  const auto exited = decode<Exited>(frame->head);
  if (!exited) return std::nullopt;
  return *exited;
}

bool RuntimeDriver::close() {
  control_.reset();
  const bool ended = wait_readable(child_.pidfd.get());
  if (!ended) return false;
  const auto exit = os::reap(child_.pidfd);
  child_.pid = 0;
  return exit.code == 0 && exit.signal == 0;
}

void RuntimeDriver::kill() { BOOST_REQUIRE(os::signal(child_.pidfd, SIGKILL).has_value()); }

}  // namespace taskpool::test
