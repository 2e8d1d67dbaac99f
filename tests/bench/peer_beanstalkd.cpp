#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>

#include "daemon/os/process.hpp"
#include "tests/bench/bench.hpp"
#include "tests/bench/peers.hpp"
#include "tests/bench/programs.hpp"

namespace taskpool::bench {
namespace {

constexpr std::size_t kBatch = 100;
constexpr std::size_t kBodyBytes = 64;
constexpr std::size_t kWorkers = 2;

/// A connection that speaks beanstalkd's text protocol (its doc/protocol.txt).
class Beanstalk {
 public:
  explicit Beanstalk(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    const auto begun = Clock::now();
    for (;;) {
      fd_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
      if (::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return;
      if (seconds_since(begun) > 5) throw std::runtime_error("beanstalkd does not answer");
      std::this_thread::sleep_for(std::chrono::milliseconds{1});
    }
  }

  void send(const std::string& text) {
    for (std::size_t at = 0; at < text.size();) {
      const auto wrote = ::write(fd_.get(), text.data() + at, text.size() - at);
      if (wrote <= 0) throw std::runtime_error("beanstalkd closed the connection");
      at += static_cast<std::size_t>(wrote);
    }
  }
  std::string line() {
    for (;;) {
      const auto end = buffer_.find("\r\n", begin_);
      if (end != std::string::npos) {
        auto text = buffer_.substr(begin_, end - begin_);
        begin_ = end + 2;
        return text;
      }
      read_more();
    }
  }
  void skip(std::size_t bytes) {
    while (buffer_.size() - begin_ < bytes) read_more();
    begin_ += bytes;
  }

 private:
  void read_more() {
    buffer_.erase(0, begin_);
    begin_ = 0;
    std::array<char, 65536> into;
    const auto got = ::read(fd_.get(), into.data(), into.size());
    if (got <= 0) throw std::runtime_error("beanstalkd closed the connection");
    buffer_.append(into.data(), static_cast<std::size_t>(got));
  }

  os::UniqueFd fd_;
  std::string buffer_;
  std::size_t begin_ = 0;
};

void put_all(Beanstalk& queue, std::size_t jobs) {
  const std::string job = "put 0 0 60 " + std::to_string(kBodyBytes) + "\r\n" + std::string(kBodyBytes, 'x') + "\r\n";
  std::string batch;
  for (std::size_t i = 0; i < kBatch; ++i) batch += job;
  for (std::size_t done = 0; done < jobs; done += kBatch) {
    queue.send(batch);
    for (std::size_t i = 0; i < kBatch; ++i) (void)queue.line();  // INSERTED and a number
  }
}

/// Reserves and deletes in batches until `left` is used up; the one that takes the last tells `finished`.
void take_until_done(const std::string& path, std::atomic<std::int64_t>& left, int finished) {
  Beanstalk queue{path};
  std::string reserves;
  for (std::size_t i = 0; i < kBatch; ++i) reserves += "reserve\r\n";
  for (;;) {
    queue.send(reserves);
    std::string deletes;
    for (std::size_t i = 0; i < kBatch; ++i) {
      const auto reserved = queue.line();  // RESERVED <id> <bytes>
      const auto id = reserved.substr(9, reserved.find(' ', 9) - 9);
      queue.skip(kBodyBytes + 2);
      deletes += "delete " + id + "\r\n";
    }
    queue.send(deletes);
    for (std::size_t i = 0; i < kBatch; ++i) (void)queue.line();
    const auto before = left.fetch_sub(kBatch);
    if (before > 0 && before <= static_cast<std::int64_t>(kBatch)) ::eventfd_write(finished, 1);
  }
}

struct Worker {
  pid_t pid;
  ~Worker() {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }
};

}  // namespace

std::optional<double> beanstalkd_throughput(std::size_t jobs) {
  if (!is_installed("beanstalkd")) return std::nullopt;
  jobs -= jobs % (kBatch * kWorkers);
  const TemporaryFolder folder;
  const auto path = folder.path() + "/socket";
  os::SpawnOptions spawn;
  spawn.argv = {"beanstalkd", "-l", "unix:" + path};
  const os::UniqueFd nowhere{::open("/dev/null", O_WRONLY | O_CLOEXEC)};
  spawn.descriptors = {{nowhere.get(), 2}};  // it complains about the workers that are killed at the end
  auto server = os::spawn(spawn);
  if (!server) throw std::runtime_error(server.error().detail);
  const Worker stop_server{server->pid};

  void* memory = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::runtime_error("mmap failed");
  auto& left = *new (memory) std::atomic<std::int64_t>{static_cast<std::int64_t>(jobs)};
  const os::UniqueFd finished{::eventfd(0, EFD_CLOEXEC)};
  Beanstalk queue{path};
  std::array<pid_t, kWorkers> pids{};
  for (auto& pid : pids) {
    pid = ::fork();
    if (pid != 0) continue;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    try {
      take_until_done(path, left, finished.get());
    } catch (const std::exception&) {
      ::_exit(1);
    }
  }
  const Worker first{pids[0]};
  const Worker second{pids[1]};
  const auto begun = Clock::now();
  put_all(queue, jobs + kBatch * kWorkers);  // the rest fills the batches that the workers would else wait with
  eventfd_t value = 0;
  ::eventfd_read(finished.get(), &value);
  const double rate = static_cast<double>(jobs) / seconds_since(begun);
  ::munmap(memory, 4096);
  return rate;
}

}  // namespace taskpool::bench
