/// store_kill [TIMES]: a process that changes a segment at full speed is killed at random, again and again. After each
/// time every object has to hold what it held before or after the change that was under way, and no reader may notice.

#include <sys/wait.h>
#include <unistd.h>
#include <csignal>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <random>

#include "tests/store/shared_segment.hpp"

using namespace taskpool::store;
using namespace taskpool::store::testing;

namespace {

[[noreturn]] void write_until_killed(SharedSegment& segment, std::uint64_t number) {
  Writer writer = SharedSegment::take_over(segment.memory());
  segment.board->finished.store(number,
                                std::memory_order_release);  // readers see it only from here on, if it was redone
  for (;;) {
    perform(writer, ++number);
    segment.board->finished.store(number, std::memory_order_release);
    (void)writer.reclaim(100);
  }
}

[[noreturn]] void watch_until_told(SharedSegment& segment) try {
  Watcher watcher{segment.reader(), segment.places, 1};
  while (!segment.board->stop) {
    watcher.look(segment.board->finished.load(std::memory_order_acquire));
    ++segment.board->looks;
  }
  std::printf("reader: %lu reads, %lu gave up\n", watcher.reads(), watcher.gave_up());
  std::fflush(stdout);
  ::_exit(0);
} catch (const std::exception& problem) {
  std::printf("reader: %s\n", problem.what());
  std::fflush(stdout);
  ::_exit(1);
}

pid_t start(const auto& child) {
  std::fflush(stdout);
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  child();
  ::_exit(1);
}

/// Waits until the reader has looked again. False: it does not.
bool looks_again(SharedSegment& segment) {
  const auto looks = segment.board->looks.load();
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds{30};
  while (segment.board->looks.load() < looks + 2) {
    if (std::chrono::steady_clock::now() > end) return false;
    ::sched_yield();
  }
  return true;
}

struct Counts {
  int old_state = 0, new_state = 0;
  std::uint64_t changes = 0;
  double slowest_recovery_ms = 0;
};

/// One life and death of a writer. Throws what is wrong.
void kill_once(SharedSegment& segment, Contents& expected, std::vector<std::byte>& copy, unsigned microseconds,
               Counts& counts) {
  const pid_t writer = start([&] { write_until_killed(segment, expected.number); });
  const timespec delay{0, static_cast<long>(microseconds) * 1000};
  ::nanosleep(&delay, nullptr);  // a random moment is what this is about
  ::kill(writer, SIGKILL);
  int status = 0;
  if (::waitpid(writer, &status, 0) != writer || !WIFSIGNALED(status))
    throw std::runtime_error{"the writer ended by itself"};
  if (!looks_again(segment)) throw std::runtime_error{"the reader is stuck"};

  // In a copy, so that the next writer finds what this one left.
  std::copy(segment.memory().begin(), segment.memory().end(), copy.begin());
  const auto begin = std::chrono::steady_clock::now();
  const Writer successor = SharedSegment::take_over(copy);
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begin;
  counts.slowest_recovery_ms = std::max(counts.slowest_recovery_ms, took.count());
  const Contents found = read_contents(successor);
  const std::uint64_t finished = segment.board->finished.load();
  while (expected.number < finished) {
    perform(expected, expected.number + 1);
    ++counts.changes;
  }
  if (found.number == expected.number + 1) {
    perform(expected, found.number);
    ++counts.new_state;
  } else {
    ++counts.old_state;
  }
  if (found.number != expected.number) throw std::runtime_error{"a finished change is lost"};
  if (found.dict != expected.dict) throw std::runtime_error{"the dict is neither old nor new"};
  if (found.list != expected.list) throw std::runtime_error{"the list is neither old nor new"};
  if (!(found == expected)) throw std::runtime_error{"value or array is neither old nor new"};
}

}  // namespace

int main(int argc, char** argv) {
  const int times = argc > 1 ? std::atoi(argv[1]) : 1000;
  SharedSegment segment;
  std::vector<std::byte> copy_words(segment.memory().size());
  Contents expected = read_contents(SharedSegment::take_over(segment.memory()));
  const pid_t reader = start([&] { watch_until_told(segment); });
  std::minstd_rand random{static_cast<unsigned>(std::random_device{}())};
  Counts counts;
  int done = 0;
  bool good = true;
  try {
    for (; done < times; ++done)
      kill_once(segment, expected, copy_words, static_cast<unsigned>(random() % 6000), counts);
  } catch (const std::exception& problem) {
    std::printf("killed %d times: %s\n", done + 1, problem.what());
    good = false;
  }
  segment.board->stop = true;
  int status = 0;
  good &= ::waitpid(reader, &status, 0) == reader && status == 0;
  std::printf("writers killed: %d, changes: %lu, last change found old: %d, new: %d, slowest recovery: %.2f ms\n", done,
              counts.changes, counts.old_state, counts.new_state, counts.slowest_recovery_ms);
  std::printf("%s\n", good ? "good" : "FAILED");
  return good ? 0 : 1;
}
