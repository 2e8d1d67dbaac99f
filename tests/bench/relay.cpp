#include "tests/bench/relay.hpp"

#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <utility>

#include "daemon/os/unique_fd.hpp"
#include "tests/bench/bench.hpp"

namespace taskpool::bench {
namespace {

constexpr std::size_t kReadBytes = 64 * 1024;
using Buffer = std::array<char, kReadBytes>;

struct Channel {
  os::UniqueFd left;
  os::UniqueFd right;
};

Channel make_channel() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) throw std::runtime_error("socketpair failed");
  return {os::UniqueFd{ends[0]}, os::UniqueFd{ends[1]}};
}

void write_all(int fd, const char* data, std::size_t bytes) {
  while (bytes > 0) {
    const auto wrote = ::write(fd, data, bytes);
    if (wrote <= 0) ::_exit(1);
    data += wrote;
    bytes -= static_cast<std::size_t>(wrote);
  }
}

/// Reads at least one whole message; returns the bytes read, a multiple of a message. 0: the other side has gone.
std::size_t read_messages(int fd, Buffer& into) {
  std::size_t have = 0;
  do {
    const auto got = ::read(fd, into.data() + have, into.size() - have);
    if (got <= 0) return 0;
    have += static_cast<std::size_t>(got);
  } while (have % kRelayMessageBytes != 0);
  return have;
}

using Work = std::function<void(char* message)>;

void worker_loop(int fd, const Work& work) {
  Buffer buffer;
  while (const auto bytes = read_messages(fd, buffer)) {
    if (work)
      for (std::size_t at = 0; at < bytes; at += kRelayMessageBytes) work(buffer.data() + at);
    write_all(fd, buffer.data(), bytes);
  }
}

void supervisor_loop(int client, const std::vector<int>& workers) {
  const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
  const auto watch = [epoll](int fd) {
    epoll_event event{.events = EPOLLIN, .data = {.fd = fd}};
    ::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
  };
  watch(client);
  for (const int worker : workers) watch(worker);
  std::array<epoll_event, 16> events;
  Buffer buffer;
  std::vector<char> to_client;
  std::size_t turn = 0;
  for (;;) {
    const int ready = ::epoll_wait(epoll, events.data(), static_cast<int>(events.size()), -1);
    to_client.clear();
    for (int i = 0; i < ready; ++i) {
      const int fd = events[static_cast<std::size_t>(i)].data.fd;
      const auto bytes = read_messages(fd, buffer);
      if (bytes == 0) return;
      if (fd != client) {
        to_client.insert(to_client.end(), buffer.data(), buffer.data() + bytes);
        continue;
      }
      const auto messages = bytes / kRelayMessageBytes;
      const auto share = (messages + workers.size() - 1) / workers.size();
      for (std::size_t at = 0; at < messages; at += share) {
        const auto count = std::min(share, messages - at);
        write_all(workers[turn++ % workers.size()], buffer.data() + at * kRelayMessageBytes,
                  count * kRelayMessageBytes);
      }
    }
    if (!to_client.empty()) write_all(client, to_client.data(), to_client.size());
  }
}

/// The three processes, of which the caller is the client.
class Relay {
 public:
  Relay(std::size_t workers, const Work& work) {
    auto front = make_channel();
    std::vector<Channel> backs;
    for (std::size_t i = 0; i < workers; ++i) backs.push_back(make_channel());
    std::vector<int> ends;
    for (auto& back : backs) ends.push_back(back.left.get());
    start([&] { supervisor_loop(front.right.get(), ends); }, front.left);
    for (auto& back : backs) start([&] { worker_loop(back.right.get(), work); }, front.left);
    client_ = std::move(front.left);
  }
  ~Relay() {
    client_.reset();
    for (const pid_t pid : children_) {
      ::kill(pid, SIGKILL);
      ::waitpid(pid, nullptr, 0);
    }
  }
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;

  int client() const { return client_.get(); }

  /// Sends `messages` with `window` of them under way; `fill` writes each.
  void pump(std::size_t messages, std::size_t window, const std::function<void(char*, std::size_t)>& fill = {}) {
    Buffer buffer{};
    std::size_t sent = 0;
    const auto send = [&](std::size_t count) {
      count = std::min(count, messages - sent);
      if (fill)
        for (std::size_t i = 0; i < count; ++i) fill(buffer.data() + i * kRelayMessageBytes, sent + i);
      write_all(client(), buffer.data(), count * kRelayMessageBytes);
      sent += count;
    };
    send(window);
    for (std::size_t received = 0; received < messages;) {
      const auto bytes = read_messages(client(), buffer);
      if (bytes == 0) throw std::runtime_error("the relay ended");
      received += bytes / kRelayMessageBytes;
      send(bytes / kRelayMessageBytes);
    }
  }

 private:
  template <class Main>
  void start(Main main, const os::UniqueFd& not_its_own) {
    const pid_t pid = ::fork();
    if (pid < 0) throw std::runtime_error("fork failed");
    if (pid == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ::close(not_its_own.get());
      main();
      ::_exit(0);
    }
    children_.push_back(pid);
  }

  os::UniqueFd client_;
  std::vector<pid_t> children_;
};

struct Range {
  std::uint64_t first;
  std::uint64_t count;
};

}  // namespace

std::vector<double> relay_round_trips(std::size_t count) {
  Relay relay{1, {}};
  relay.pump(count / 10 + 100, 1);
  std::vector<double> times;
  times.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    const auto begun = Clock::now();
    relay.pump(1, 1);
    times.push_back(seconds_since(begun) * 1e6);
  }
  return times;
}

double relay_throughput(std::size_t window, std::size_t workers, std::size_t messages) {
  Relay relay{workers, {}};
  relay.pump(messages / 10, window);
  const auto begun = Clock::now();
  relay.pump(messages, window);
  return static_cast<double>(messages) / seconds_since(begun);
}

double relay_array_map(std::size_t items, std::size_t chunk, std::size_t workers) {
  const auto bytes = items * sizeof(std::int64_t);
  void* memory = ::mmap(nullptr, 2 * bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED) throw std::runtime_error("mmap failed");
  auto* const in = static_cast<std::int64_t*>(memory);
  auto* const out = in + items;
  for (std::size_t i = 0; i < items; ++i) in[i] = static_cast<std::int64_t>(i);

  std::vector<double> rates;
  {
    Relay relay{workers, [in, out](char* message) {
                  Range range;
                  std::memcpy(&range, message, sizeof range);
                  for (auto i = range.first; i < range.first + range.count; ++i) out[i] = in[i] * in[i];
                }};
    for (int pass = 0; pass <= kRounds; ++pass) {
      const auto begun = Clock::now();
      relay.pump((items + chunk - 1) / chunk, 2 * workers, [&](char* message, std::size_t index) {
        const Range range{index * chunk, std::min(chunk, items - index * chunk)};
        std::memcpy(message, &range, sizeof range);
      });
      if (pass > 0) rates.push_back(static_cast<double>(items) / seconds_since(begun));
    }
  }
  const bool right = out[items - 1] == in[items - 1] * in[items - 1];
  ::munmap(memory, 2 * bytes);
  if (!right) throw std::runtime_error("the relay computed something else");
  return median(rates);
}

}  // namespace taskpool::bench
