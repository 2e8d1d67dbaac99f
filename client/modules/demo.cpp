#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include <taskpool/module.hpp>

/// The module that comes with taskpool: something to try things with, and an example to read.
namespace {

std::int64_t square(std::int64_t x) {
  // Unsigned, because the product of large numbers wraps: an error for each would be the slower example.
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(x) * static_cast<std::uint64_t>(x));
}

taskpool::RawItem echo(taskpool::RawItem item) { return item; }

void noop(taskpool::RawItem) {}

/// Waits for the time to pass or for somebody to lose patience.
double sleep_for(taskpool::Context& context, double seconds) {
  if (!(seconds >= 0 && seconds <= 1e6)) throw taskpool::BadArgument{"argument 1 (seconds): want 0 to 1000000"};
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>{seconds});
  for (;;) {
    context.throw_if_cancelled();
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now());
    if (left.count() <= 0) return seconds;
    pollfd interrupt{context.interrupt_fd(), POLLIN, 0};
    ::poll(&interrupt, 1, static_cast<int>(left.count()));
  }
}

class File {
 public:
  explicit File(const std::string& path) : fd_{::open(path.c_str(), O_RDONLY | O_CLOEXEC)} {
    if (fd_ < 0) throw std::system_error{errno, std::generic_category(), path};
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() { ::close(fd_); }
  int fd() const { return fd_; }

 private:
  int fd_;
};

constexpr std::array<bool, 256> kIsSpace = [] {
  std::array<bool, 256> table{};
  for (const char c : {' ', '\t', '\n', '\v', '\f', '\r'}) table[static_cast<unsigned char>(c)] = true;
  return table;
}();

/// Counts as `wc -w` does in the C locale.
std::uint64_t word_count(taskpool::Context& context, const std::string& path) {
  constexpr std::size_t kBlock = 256 * 1024;
  static const auto block =
      std::make_unique<unsigned char[]>(kBlock);  // reused: fresh pages cost more than the counting
  const File file{path};
  std::uint64_t words = 0;
  bool in_space = true;
  for (;;) {
    const auto got = ::read(file.fd(), block.get(), kBlock);
    if (got < 0 && errno != EINTR) throw std::system_error{errno, std::generic_category(), path};
    context.throw_if_cancelled();
    if (got == 0) return words;
    for (ssize_t i = 0; i < got; ++i) {
      const bool is_space = kIsSpace[block[static_cast<std::size_t>(i)]];
      words += static_cast<std::uint64_t>(in_space && !is_space);
      in_space = is_space;
    }
  }
}

void fail(const std::string& message) { throw std::runtime_error{message}; }

void crash(int signal_number) {
  ::signal(signal_number, SIG_DFL);
  ::kill(::getpid(), signal_number);
  throw std::runtime_error{"survived signal " + std::to_string(signal_number)};
}

/// Touches every page, so that the memory is really used.
std::uint64_t allocate(std::uint64_t bytes) {
  constexpr std::size_t kPage = 4096;
  const std::unique_ptr<volatile char[]> memory{new volatile char[bytes]};
  for (std::size_t i = 0; i < bytes; i += kPage) memory[i] = 1;
  return bytes;
}

}  // namespace

TASKPOOL_MODULE(m, "demo") {
  m.def<&square>("square", "The square of a 64-bit integer, modulo 2^64.", {"x"});
  m.def("echo", &echo, "The item itself, whatever it is.", {"item"});
  m.def("noop", &noop, "Nothing, whatever it is given.", {"item"});
  m.def("sleep", &sleep_for, "Sleeps, unless it is cancelled, and returns the time.", {"seconds"});
  m.def("word_count", &word_count, "The number of words in a file.", {"path"});
  m.def("fail", &fail, "Throws a std::runtime_error.", {"message"});
  m.def("crash", &crash, "Kills its worker by a signal.", {"signal"});
  m.def("allocate", &allocate, "Takes memory, touches it and gives it back.", {"bytes"});
}
