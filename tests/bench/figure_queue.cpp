#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <stdexcept>

#include "proto/codec.hpp"
#include "proto/frame.hpp"
#include "proto/version.hpp"
#include "tests/bench/daemon.hpp"
#include "tests/bench/figures.hpp"

namespace taskpool::bench {
namespace {

constexpr std::size_t kDepth = 1'000'000;
constexpr std::size_t kBatch = 1'000;
constexpr std::size_t kBatches = 20;  ///< Over which the cost is taken, at either depth.
constexpr std::size_t kBodyBytes = 16;
constexpr std::uint32_t kCall = 1;

/// A session that writes frames by hand: the library would keep something for each call, and this is about the daemon.
class RawSession {
 public:
  explicit RawSession(const std::string& path) : fd_{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)} {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    if (::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
      throw std::runtime_error("cannot connect");
    Hello hello;
    hello.version = kProtocolVersion;
    hello.client = "taskpool-bench";
    append_frame(out_, {.op = Op::hello, .request = 1}, encode(hello));
    Call call;
    call.function = "bench_noop";
    append_frame(out_, {.op = Op::prepare, .target = kCall, .request = 2}, encode(call));
    send();
    wait_for(2);
  }

  /// Submits tasks and waits until the daemon has them all; returns the seconds.
  double submit(std::size_t tasks) {
    const std::array<std::byte, kBodyBytes> body{};
    for (std::size_t i = 0; i < tasks; ++i)
      append_frame(out_,
                   {.op = Op::apply, .encoding = Encoding::bytes, .target = kCall, .count = 1, .request = ++last_}, {},
                   body);
    append_frame(out_, {.op = Op::ping, .request = ++last_});
    const auto begun = Clock::now();
    send();
    wait_for(last_);
    return seconds_since(begun);
  }

 private:
  void send() {
    for (auto left = out_.data(); !left.empty();) {
      const auto wrote = ::write(fd_.get(), left.data(), left.size());
      if (wrote <= 0) throw std::runtime_error("the daemon closed the connection");
      left = left.subspan(static_cast<std::size_t>(wrote));
    }
    out_.clear();
  }
  void wait_for(std::uint64_t request) {
    for (;;) {
      while (auto frame = need(decoder_.next())) {
        if (frame->prefix.op == Op::error) throw std::runtime_error(std::string{frame->head});
        if (frame->prefix.request == request) return;
      }
      const auto into = decoder_.prepare(64 * 1024);
      const auto got = ::read(fd_.get(), into.data(), into.size());
      if (got <= 0) throw std::runtime_error("the daemon closed the connection");
      decoder_.commit(static_cast<std::size_t>(got));
    }
  }

  os::UniqueFd fd_;
  ByteBuffer out_;
  FrameDecoder decoder_;
  std::uint64_t last_ = 2;
};

struct Filling {
  double shallow_ns = 0;  ///< One more task on top of a thousand.
  double deep_ns = 0;     ///< On top of a million.
  double bytes = 0;       ///< The daemon's memory for each task, beside the body.
};

Filling fill_queue() {
  const Daemon daemon{{.extra = "session_queued_bytes = \"1GiB\"\n"}};
  const auto client = daemon.connect();
  need(client.pool_pause("default"));
  RawSession session{daemon.socket()};
  const auto before = memory_of(daemon.pid(), "status", "VmRSS");
  const auto cost = [&session] {
    std::vector<double> times;
    for (std::size_t i = 0; i < kBatches; ++i) times.push_back(session.submit(kBatch) * 1e9 / kBatch);
    return median(times);
  };
  session.submit(kBatch);
  Filling filling;
  filling.shallow_ns = cost();
  for (auto depth = (1 + kBatches) * kBatch; depth < kDepth; depth += kBatch) session.submit(kBatch);
  const auto after = memory_of(daemon.pid(), "status", "VmRSS");
  filling.deep_ns = cost();
  filling.bytes = static_cast<double>(after - before) / static_cast<double>(kDepth) - kBodyBytes;
  return filling;
}

}  // namespace

void queue_depth(Report& report) {
  const Placed placed{Placement::same};
  std::vector<double> shallow;
  std::vector<double> deep;
  std::vector<double> bytes;
  for (int round = 0; round < kRounds; ++round) {
    const auto filling = fill_queue();
    shallow.push_back(filling.shallow_ns);
    deep.push_back(filling.deep_ns);
    bytes.push_back(filling.bytes);
  }
  report.add({"queue_submit_at_1M", median(deep), "ns", "at 1,000", median(shallow), at_most_times(1.2)});
  report.add({"queue_bytes_per_task", median(bytes), "bytes", "", 0, at_most(400)});
}

}  // namespace taskpool::bench
