#include "taskpool/direct.hpp"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <csignal>
#include <mutex>
#include <thread>
#include <vector>

namespace taskpool {
namespace {

using namespace std::chrono_literals;
using Locked = DirectMutex::Locked;

#ifdef __SANITIZE_THREAD__
constexpr bool kTsan = true;  // it reports the misuse that is tried on purpose
#else
constexpr bool kTsan = false;
#endif

/// Memory as a buffer's: zeros, shared with the processes that are forked from here.
struct Buffer {
  static constexpr std::size_t kBytes = 4096;
  std::byte* const data =
      static_cast<std::byte*>(::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  std::span<std::byte> bytes() const { return {data, kBytes}; }
  ~Buffer() { ::munmap(data, kBytes); }
};

/// Runs `work` in a child, which ends by signal 9 as soon as that returns.
template <class Work>
void in_a_child_that_is_killed(Work work) {
  const pid_t child = ::fork();
  if (child == 0) {
    work();
    ::raise(SIGKILL);
  }
  int status = 0;
  BOOST_REQUIRE_EQUAL(::waitpid(child, &status, 0), child);
  BOOST_TEST(WIFSIGNALED(status));
}

BOOST_FIXTURE_TEST_SUITE(direct_primitives, Buffer)

BOOST_AUTO_TEST_CASE(a_mutex_lets_one_in_at_a_time) {
  auto mutex = DirectMutex::create(bytes(), 64).value();
  std::uint64_t sum = 0;  // not atomic: the mutex is what protects it
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread)
    threads.emplace_back([&] {
      auto same = DirectMutex::open(bytes(), 64).value();
      for (int i = 0; i < 5000; ++i) {
        const std::lock_guard guard{same};
        ++sum;
      }
    });
  for (auto& thread : threads) thread.join();
  const std::lock_guard guard{mutex};
  BOOST_TEST(sum == 20000u);
}

BOOST_AUTO_TEST_CASE(a_mutex_works_between_processes) {
  auto mutex = DirectMutex::create(bytes(), 0).value();
  auto* const sum = reinterpret_cast<std::uint64_t*>(data + 64);
  std::vector<pid_t> children;
  for (int child = 0; child < 3; ++child) {
    children.push_back(::fork());
    if (children.back() != 0) continue;
    for (int i = 0; i < 2000; ++i) {
      const std::lock_guard guard{mutex};
      ++*sum;
    }
    ::_exit(0);
  }
  for (const auto child : children) {
    int status = 0;
    ::waitpid(child, &status, 0);
    BOOST_TEST(status == 0);
  }
  BOOST_TEST(*sum == 6000u);
}

BOOST_AUTO_TEST_CASE(the_next_one_learns_that_the_owner_was_killed_and_the_one_after_does_not) {
  auto mutex = DirectMutex::create(bytes(), 0).value();
  in_a_child_that_is_killed([&] { mutex.lock(); });
  BOOST_TEST((mutex.lock() == Locked::owner_died));
  BOOST_TEST(mutex.unlock());
  BOOST_TEST((mutex.lock() == Locked::yes));
  BOOST_TEST(mutex.unlock());
}

BOOST_AUTO_TEST_CASE(one_who_was_told_and_is_killed_too_hands_that_on) {
  auto mutex = DirectMutex::create(bytes(), 0).value();
  for (int deaths = 0; deaths < 3; ++deaths) in_a_child_that_is_killed([&] { mutex.lock(); });
  BOOST_TEST((mutex.try_lock_for_told(10s) == Locked::owner_died));
  BOOST_TEST(mutex.unlock());
}

BOOST_AUTO_TEST_CASE(a_waiting_one_is_let_in_when_the_owner_is_killed) {
  auto mutex = DirectMutex::create(bytes(), 0).value();
  auto held = DirectSemaphore::create(bytes(), 64, 0).value();
  const pid_t child = ::fork();
  if (child == 0) {
    mutex.lock();
    held.release();
    for (;;) ::pause();
  }
  BOOST_REQUIRE(held.try_acquire_for(30s));
  BOOST_TEST((mutex.try_lock_told() == Locked::no));
  std::thread killer{[&] { ::kill(child, SIGKILL); }};
  BOOST_TEST((mutex.lock() == Locked::owner_died));
  killer.join();
  mutex.unlock();
  ::waitpid(child, nullptr, 0);
}

BOOST_AUTO_TEST_CASE(a_recursive_mutex_counts_and_its_owner_alone_unlocks) {
  auto mutex = DirectMutex::create(bytes(), 0, true).value();
  BOOST_TEST((mutex.lock() == Locked::yes));
  BOOST_TEST((mutex.lock() == Locked::yes));
  BOOST_TEST(mutex.unlock());
  bool taken = true, unlocked = true;
  std::thread{[&] {
    auto same = DirectMutex::open(bytes(), 0).value();
    taken = same.try_lock();
    unlocked = !kTsan && same.unlock();
  }}.join();
  BOOST_TEST(!taken);
  BOOST_TEST(!unlocked);
  BOOST_TEST(mutex.unlock());
  BOOST_TEST((kTsan || !mutex.unlock()));
}

BOOST_AUTO_TEST_CASE(waits_end_with_their_time) {
  auto mutex = DirectMutex::create(bytes(), 0).value();
  auto semaphore = DirectSemaphore::create(bytes(), 64, 0).value();
  mutex.lock();
  bool locked = true;
  std::thread{[&] { locked = mutex.try_lock_for(20ms); }}.join();
  BOOST_TEST(!locked);
  mutex.unlock();
  BOOST_TEST(!semaphore.try_acquire_for(20ms));
  BOOST_TEST(!semaphore.try_acquire_for(-1s));
  BOOST_TEST(!semaphore.try_acquire());
}

BOOST_AUTO_TEST_CASE(a_semaphore_counts) {
  auto semaphore = DirectSemaphore::create(bytes(), 128, 2).value();
  semaphore.acquire();
  BOOST_TEST(semaphore.try_acquire());
  BOOST_TEST(!semaphore.try_acquire());
  BOOST_TEST(semaphore.release());
  BOOST_TEST(semaphore.value() == 1);
  in_a_child_that_is_killed([&] { semaphore.acquire(); });
  BOOST_TEST(semaphore.value() == 0);  // as documented: it dies with whoever took it
}

BOOST_AUTO_TEST_CASE(a_semaphore_publishes_what_was_written_before_its_release) {
  auto ready = DirectSemaphore::create(bytes(), 0, 0).value();
  std::uint64_t value = 0;  // not atomic
  std::thread writer{[&] {
    value = 7;
    ready.release();
  }};
  ready.acquire();
  BOOST_TEST(value == 7u);
  writer.join();
}

BOOST_AUTO_TEST_CASE(cells_and_arrays_add_up_over_processes) {
  const auto cell = AtomicCell<std::uint64_t>::open(bytes(), 8).value();
  const auto array = AtomicArray<double>::open(bytes(), 64, 4).value();
  std::vector<pid_t> children;
  for (int child = 0; child < 3; ++child) {
    children.push_back(::fork());
    if (children.back() != 0) continue;
    for (int i = 0; i < 1000; ++i) {
      cell.add(1);
      array.add(3, 0.5);
    }
    ::_exit(0);
  }
  for (const auto child : children) ::waitpid(child, nullptr, 0);
  BOOST_TEST(cell.get() == 3000u);
  BOOST_TEST(array.get(3) == 1500.0);
  BOOST_TEST(array.get(2) == 0.0);
  BOOST_TEST(cell.add(2) == 3002u);
  BOOST_TEST(!cell.compare_and_set(1, 5));
  BOOST_TEST(cell.compare_and_set(3002, 5));
  BOOST_TEST(cell.get() == 5u);
}

BOOST_AUTO_TEST_CASE(a_place_outside_or_askew_is_refused) {
  BOOST_TEST(DirectMutex::create(bytes(), 4096).error().errc() == Errc::out_of_range);
  BOOST_TEST(DirectMutex::create(bytes(), 4064).error().errc() == Errc::out_of_range);
  BOOST_TEST(DirectMutex::create(bytes(), ~std::size_t{0}).error().errc() == Errc::out_of_range);
  BOOST_TEST(DirectMutex::create(bytes(), 8).error().errc() == Errc::bad_argument);
  BOOST_TEST(DirectSemaphore::create(bytes(), 32, 1).error().errc() == Errc::bad_argument);
  BOOST_TEST(AtomicCell<std::uint64_t>::open(bytes(), 4).error().errc() == Errc::bad_argument);
  BOOST_TEST(AtomicArray<std::uint64_t>::open(bytes(), 8, 512).error().errc() == Errc::out_of_range);
  BOOST_TEST(AtomicArray<std::uint64_t>::open(bytes(), 0, ~std::size_t{0} / 4).error().errc() == Errc::out_of_range);
  BOOST_TEST(AtomicArray<std::uint64_t>::open(bytes(), 0, 512).value().size() == 512u);
}

BOOST_AUTO_TEST_CASE(what_is_something_else_or_never_made_is_not_opened) {
  DirectSemaphore::create(bytes(), 0, 1).value();
  BOOST_TEST(DirectMutex::open(bytes(), 0).error().errc() == Errc::wrong_type);
  BOOST_TEST(DirectSemaphore::open(bytes(), 64).error().errc() == Errc::wrong_type);
}

BOOST_AUTO_TEST_CASE(who_opens_waits_for_the_maker) {
  std::thread maker{[&] {
    std::this_thread::sleep_for(5ms);  // usually later than the open; either order is fine
    (void)DirectMutex::create(bytes(), 0);
  }};
  BOOST_TEST(DirectMutex::open(bytes(), 0).has_value());
  maker.join();
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool
