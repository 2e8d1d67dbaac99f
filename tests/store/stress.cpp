/// store_stress threads|processes [SECONDS [READERS]]: a writer at full speed, which is replaced again and again as
/// after a restart of the daemon, and readers that check all they find.

#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <thread>

#include "tests/store/shared_segment.hpp"

using namespace taskpool::store;
using namespace taskpool::store::testing;
using Clock = std::chrono::steady_clock;

namespace {

/// Looks until it is told to stop. False: something was wrong.
bool watch(SharedSegment& segment, unsigned seed) try {
  Watcher watcher{segment.reader(), segment.places, seed};
  while (!segment.board->stop) {
    watcher.look(segment.board->finished.load(std::memory_order_acquire));
    ++segment.board->looks;
  }
  std::printf("reader %u: %lu reads, %lu gave up\n", seed, watcher.reads(), watcher.gave_up());
  return true;
} catch (const std::exception& problem) {
  std::printf("reader %u: %s\n", seed, problem.what());
  segment.board->failed = true;
  return false;
}

void write(SharedSegment& segment, std::chrono::duration<double> time) {
  const auto end = Clock::now() + time;
  std::uint64_t number = 0;
  int restarts = 0;
  while (Clock::now() < end && !segment.board->failed) {
    Writer writer = SharedSegment::take_over(segment.memory());
    ++restarts;
    for (const auto restart = Clock::now() + time / 20; Clock::now() < restart && !segment.board->failed;)
      for (int count = 0; count < 100; ++count) {
        perform(writer, ++number);
        segment.board->finished.store(number, std::memory_order_release);
        (void)writer.reclaim(100);
      }
  }
  std::printf("writer: %lu changes, %d restarts\n", number, restarts);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view mode = argc > 1 ? argv[1] : "";
  const double seconds = argc > 2 ? std::atof(argv[2]) : 3;
  const unsigned readers = argc > 3 ? static_cast<unsigned>(std::atoi(argv[3])) : 2;
  if ((mode != "threads" && mode != "processes") || seconds <= 0 || readers == 0) {
    std::fprintf(stderr, "usage: store_stress threads|processes [SECONDS [READERS]]\n");
    return 2;
  }
  SharedSegment segment;
  std::fflush(stdout);
  bool good = true;
  std::vector<std::jthread> threads;
  std::vector<pid_t> processes;
  for (unsigned reader = 1; reader <= readers; ++reader) {
    if (mode == "threads") {
      threads.emplace_back([&segment, reader] { (void)watch(segment, reader); });
      continue;
    }
    const pid_t child = ::fork();
    if (child == 0) {
      const bool watched = watch(segment, reader);
      std::fflush(stdout);
      ::_exit(watched ? 0 : 1);
    }
    processes.push_back(child);
  }
  try {
    write(segment, std::chrono::duration<double>{seconds});
  } catch (const std::exception& problem) {
    std::printf("writer: %s\n", problem.what());
    good = false;
  }
  segment.board->stop = true;
  threads.clear();
  for (const pid_t child : processes) {
    int status = 0;
    good &= ::waitpid(child, &status, 0) == child && status == 0;
  }
  good &= !segment.board->failed && segment.board->looks != 0;
  std::printf("%s\n", good ? "good" : "FAILED");
  return good ? 0 : 1;
}
