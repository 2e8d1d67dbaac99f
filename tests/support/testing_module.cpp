#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <taskpool/module.hpp>

/// Functions for the tests: those that show how arguments and results travel, and those that misbehave.
namespace {

using taskpool::Context;
using Clock = std::chrono::steady_clock;

std::int64_t initialized_with = 0;

void initialize(std::int64_t value) { initialized_with = value; }
std::int64_t initialized() { return initialized_with; }

std::int64_t add(std::int64_t a, std::int64_t b) { return a + b; }
double half(std::int8_t x) { return x / 2.0; }
std::string greet(const std::string& name) { return "hello " + name; }
std::size_t byte_count(std::span<const std::byte> bytes) { return bytes.size(); }
double sum(std::span<const double> numbers) {
  double total = 0;
  for (const double number : numbers) total += number;
  return total;
}
std::vector<std::int32_t> doubled(std::vector<std::int32_t> numbers) {
  for (auto& number : numbers) number *= 2;
  return numbers;
}
std::map<std::string, int> count_letters(std::string_view text) {
  std::map<std::string, int> counts;
  for (const char letter : text) ++counts[std::string{letter}];
  return counts;
}

nlohmann::json describe(Context& context) {
  return {{"task", context.task()},
          {"job", context.job()},
          {"index", context.index()},
          {"attempt", context.attempt()},
          {"worker", context.worker()},
          {"seed", context.seed()},
          {"has_deadline", context.deadline().has_value()}};
}

std::int32_t not_thirteen(std::int32_t x) {
  if (x == 13) throw std::domain_error{"thirteen"};
  return x;
}
int throw_number() { throw 42; }
std::string not_encodable() { return "\xff\xfe"; }
std::vector<std::byte> big_result(std::uint64_t bytes) {
  std::vector<std::byte> result(bytes);
  for (std::size_t i = 0; i < bytes; ++i) result[i] = static_cast<std::byte>(i * 7);
  return result;
}

/// Reports in `steps` steps, and logs.
void report(Context& context, int steps) {
  for (int i = 1; i <= steps; ++i) context.progress(i, steps, "step");
  context.warning("that was all");
}
/// Works that long without looking at anything.
std::int64_t spin(std::int64_t microseconds) {
  const auto end = Clock::now() + std::chrono::microseconds{microseconds};
  while (Clock::now() < end) {
  }
  return microseconds;
}
/// Waits to be interrupted, in poll() on the descriptor or in a system call that a signal ends.
std::string wait_interrupt(Context& context, const std::string& how) {
  const auto end = Clock::now() + std::chrono::seconds{20};
  while (!context.cancelled() && Clock::now() < end) {
    pollfd interrupt{context.interrupt_fd(), POLLIN, 0};
    if (how == "poll")
      ::poll(&interrupt, 1, 20'000);
    else
      ::poll(nullptr, 0, 20'000);
  }
  return context.cancelled() ? "interrupted" : "not interrupted";
}
/// On its first run, reads its argument over and over, for 20 s at most. Returns how many bytes were not like the
/// first.
std::uint64_t read_on(Context& context, std::span<const std::byte> bytes) {
  const auto end = Clock::now() + std::chrono::seconds{20};
  std::uint64_t odd = 0;
  while (context.attempt() == 0 && !context.cancelled() && Clock::now() < end)
    for (const auto byte : bytes) odd += byte != bytes.front() ? 1u : 0u;
  return odd;
}
void stop_if_cancelled(Context& context) {
  wait_interrupt(context, "poll");
  context.throw_if_cancelled();
}

void print(const std::string& text) { std::printf("%s\n", text.c_str()); }
void leave(int code) { std::exit(code); }
/// Kills its worker when it comes to that number.
std::int64_t die_at(std::int64_t x) {
  if (x == 1000) ::kill(::getpid(), SIGKILL);
  return -x;
}
/// The same, sleeping rather than dying: an item at which others wait.
std::int64_t stall_at(std::int64_t x) {
  if (x == 1000) ::poll(nullptr, 0, 60'000);
  return -x;
}
std::int64_t close_all(std::int64_t x) {
  for (int fd = 0; fd < 1024; ++fd) ::close(fd);
  return x;
}
/// Returns twice: in the parent and in the child.
std::int64_t fork_twice(std::int64_t x) {
  const auto child = ::fork();
  return child == 0 ? -x : x;
}

}  // namespace

TASKPOOL_MODULE(m, "testing") {
  m.def("initialize", &initialize);
  m.def("initialized", &initialized);
  m.def("add", &add, "The sum of two integers.", {"a", "b"});
  m.def("half", &half, "Half of a small integer.", {"x"});
  m.def("greet", &greet);
  m.def("byte_count", &byte_count);
  m.def("sum", &sum);
  m.def("doubled", &doubled);
  m.def("count_letters", &count_letters);
  m.def("describe", &describe);
  m.def<&not_thirteen>("not_thirteen");
  m.def("throw_number", &throw_number);
  m.def("not_encodable", &not_encodable);
  m.def("big_result", &big_result);
  m.def("report", &report);
  m.def("spin", &spin);
  m.def("wait_interrupt", &wait_interrupt);
  m.def("read_on", &read_on);
  m.def("stop_if_cancelled", &stop_if_cancelled);
  m.def("print", &print);
  m.def("leave", &leave);
  m.def("die_at", &die_at);
  m.def("stall_at", &stall_at);
  m.def("close_all", &close_all);
  m.def("fork_twice", &fork_twice);
  m.def("yes", [](bool value) { return value; });
}
