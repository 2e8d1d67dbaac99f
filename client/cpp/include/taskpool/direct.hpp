#pragma once

#include <pthread.h>
#include <semaphore.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <new>
#include <span>
#include <string>
#include <thread>
#include <type_traits>

#include "proto/result.hpp"

#if defined(__SANITIZE_THREAD__)
#define TASKPOOL_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TASKPOOL_TSAN 1
#endif
#endif
#ifdef TASKPOOL_TSAN
extern "C" {
void __tsan_acquire(void* address);
void __tsan_release(void* address);
void __tsan_mutex_pre_lock(void* address, unsigned flags);
void __tsan_mutex_post_lock(void* address, unsigned flags, int recursion);
}
#endif

/// Locks, semaphores and numbers inside a buffer, used by the processes of one user without the daemon: as fast as
/// those of `multiprocessing`, and nothing of them has a name in /dev/shm. PROTOCOL.md, section 3.6, has their layout.
///
/// All of them are views: they must not outlive the mapping, and a mutex must not be held when its buffer is unmapped.
/// Whoever maps a buffer can write anything into it, so they are for processes that trust each other.
namespace taskpool {

namespace direct {

/// What a place in a buffer holds.
enum class Kind : std::uint32_t {
  none = 0,
  mutex = 0x31'4d'50'54,
  recursive_mutex = 0x31'52'50'54,
  semaphore = 0x31'53'50'54
};

/// Bytes and alignment of a mutex or semaphore: a cache line of its own.
inline constexpr std::size_t kPrimitiveBytes = 64;
/// Where in it the C library's object begins.
inline constexpr std::size_t kObjectOffset = 8;
static_assert(sizeof(pthread_mutex_t) <= kPrimitiveBytes - kObjectOffset);
static_assert(sizeof(sem_t) <= kPrimitiveBytes - kObjectOffset);
static_assert(std::atomic_ref<std::uint32_t>::is_always_lock_free &&
              std::atomic_ref<std::uint64_t>::is_always_lock_free);

/// How long open() waits for whoever made the buffer to make what is in it.
inline constexpr std::chrono::milliseconds kMakeTime{1000};

inline Result<std::byte*> place(std::span<std::byte> buffer, std::size_t offset, std::size_t bytes,
                                std::size_t alignment) {
  if (offset > buffer.size() || bytes > buffer.size() - offset)
    return fail(Errc::out_of_range, "offset " + std::to_string(offset) + ": needs " + std::to_string(bytes) +
                                        " bytes, the buffer has " + std::to_string(buffer.size()));
  auto* const at = buffer.data() + offset;
  if (reinterpret_cast<std::uintptr_t>(at) % alignment != 0)
    return fail(Errc::bad_argument,
                "offset " + std::to_string(offset) + ": not a multiple of " + std::to_string(alignment));
  return at;
}

inline std::atomic_ref<std::uint32_t> kind_at(std::byte* place) {
  return std::atomic_ref{*reinterpret_cast<std::uint32_t*>(place)};
}

inline void publish(std::byte* place, Kind kind) {
  kind_at(place).store(static_cast<std::uint32_t>(kind), std::memory_order_release);
}

/// Waits until the place holds something, and says what.
inline Kind published(std::byte* place) {
  const auto end = std::chrono::steady_clock::now() + kMakeTime;
  for (;;) {
    const auto kind = static_cast<Kind>(kind_at(place).load(std::memory_order_acquire));
    if (kind != Kind::none || std::chrono::steady_clock::now() >= end) return kind;
    std::this_thread::sleep_for(std::chrono::milliseconds{1});
  }
}

inline timespec deadline_after(std::chrono::nanoseconds timeout) {
  const auto end = std::chrono::steady_clock::now().time_since_epoch() + std::max(timeout, std::chrono::nanoseconds{0});
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(end);
  return {static_cast<time_t>(seconds.count()), static_cast<long>((end - seconds).count())};
}

// The thread sanitizer does not know these functions of the C library, or not in memory that is shared.
inline void acquired([[maybe_unused]] void* object) {
#ifdef TASKPOOL_TSAN
  __tsan_acquire(object);
#endif
}
inline void released([[maybe_unused]] void* object) {
#ifdef TASKPOOL_TSAN
  __tsan_release(object);
#endif
}

}  // namespace direct

/// A mutex in a buffer that survives its owner's death: the kernel lets the next one in and tells him. Works with
/// std::lock_guard and std::unique_lock.
class DirectMutex {
 public:
  enum class Locked : std::uint8_t {
    no,  ///< The time is over, or somebody else has it.
    yes,
    owner_died,  ///< It is ours, and what it protects may be half done: its last owner died with it.
  };

  /// Makes one at `offset`, a multiple of 64 in a buffer of zeros, where nobody else makes one. `recursive`: its owner
  /// may lock it again. Errors: `out_of_range`, `bad_argument`, `system`.
  static Result<DirectMutex> create(std::span<std::byte> buffer, std::size_t offset, bool recursive = false) {
    const auto at = direct::place(buffer, offset, direct::kPrimitiveBytes, direct::kPrimitiveBytes);
    if (!at) return at.error();
    pthread_mutexattr_t attributes;
    ::pthread_mutexattr_init(&attributes);
    ::pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    ::pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    ::pthread_mutexattr_settype(&attributes, recursive ? PTHREAD_MUTEX_RECURSIVE : PTHREAD_MUTEX_NORMAL);
    DirectMutex made{*at};
    const int error = ::pthread_mutex_init(made.mutex_, &attributes);
    ::pthread_mutexattr_destroy(&attributes);
    if (error != 0) return errno_error("pthread_mutex_init", error);
    direct::publish(*at, recursive ? direct::Kind::recursive_mutex : direct::Kind::mutex);
    return made;
  }

  /// The one that somebody made, or is about to make within a second. Errors: `out_of_range`, `bad_argument`,
  /// `wrong_type`.
  static Result<DirectMutex> open(std::span<std::byte> buffer, std::size_t offset) {
    const auto at = direct::place(buffer, offset, direct::kPrimitiveBytes, direct::kPrimitiveBytes);
    if (!at) return at.error();
    const auto kind = direct::published(*at);
    if (kind != direct::Kind::mutex && kind != direct::Kind::recursive_mutex)
      return fail(Errc::wrong_type, "offset " + std::to_string(offset) + ": no mutex there");
    return DirectMutex{*at};
  }

  /// Waits until it is ours.
  Locked lock() { return took(::pthread_mutex_lock(mutex_)); }
  bool try_lock() { return try_lock_told() != Locked::no; }
  Locked try_lock_told() { return took(::pthread_mutex_trylock(mutex_)); }
  template <class Rep, class Period>
  bool try_lock_for(std::chrono::duration<Rep, Period> timeout) {
    return try_lock_for_told(timeout) != Locked::no;
  }
  Locked try_lock_for_told(std::chrono::nanoseconds timeout) {
    const auto deadline = direct::deadline_after(timeout);
#ifdef TASKPOOL_TSAN  // it does not know that function
    constexpr unsigned kTryLock = 1u << 4, kFailed = 1u << 5;
    __tsan_mutex_pre_lock(mutex_, kTryLock);
    const int error = ::pthread_mutex_clocklock(mutex_, CLOCK_MONOTONIC, &deadline);
    __tsan_mutex_post_lock(mutex_, error == 0 || error == EOWNERDEAD ? kTryLock : kTryLock | kFailed, 0);
#else
    const int error = ::pthread_mutex_clocklock(mutex_, CLOCK_MONOTONIC, &deadline);
#endif
    return took(error);
  }
  /// False: this thread does not have it, and nothing happened.
  bool unlock() {
    direct::released(mutex_);
    return ::pthread_mutex_unlock(mutex_) == 0;
  }

 private:
  explicit DirectMutex(std::byte* at) : mutex_{reinterpret_cast<pthread_mutex_t*>(at + direct::kObjectOffset)} {}

  Locked took(int error) {
    if (error != 0 && error != EOWNERDEAD) return Locked::no;
    direct::acquired(mutex_);
    if (error == 0) return Locked::yes;
    ::pthread_mutex_consistent(mutex_);  // or it would be of no use to anybody after our unlock
    return Locked::owner_died;
  }

  pthread_mutex_t* mutex_;
};

/// A semaphore in a buffer. What a process took dies with it, as with sem_post(3): whoever needs better uses a
/// DirectMutex, or the daemon's leased `bounded_semaphore`.
class DirectSemaphore {
 public:
  /// Makes one at `offset`, a multiple of 64 in a buffer of zeros, where nobody else makes one. Errors: `out_of_range`,
  /// `bad_argument`, `system`.
  static Result<DirectSemaphore> create(std::span<std::byte> buffer, std::size_t offset, unsigned value) {
    const auto at = direct::place(buffer, offset, direct::kPrimitiveBytes, direct::kPrimitiveBytes);
    if (!at) return at.error();
    DirectSemaphore made{*at};
    if (::sem_init(made.semaphore_, 1, value) != 0) return errno_error("sem_init");
    direct::publish(*at, direct::Kind::semaphore);
    return made;
  }

  /// The one that somebody made, or is about to make within a second. Errors: `out_of_range`, `bad_argument`,
  /// `wrong_type`.
  static Result<DirectSemaphore> open(std::span<std::byte> buffer, std::size_t offset) {
    const auto at = direct::place(buffer, offset, direct::kPrimitiveBytes, direct::kPrimitiveBytes);
    if (!at) return at.error();
    if (direct::published(*at) != direct::Kind::semaphore)
      return fail(Errc::wrong_type, "offset " + std::to_string(offset) + ": no semaphore there");
    return DirectSemaphore{*at};
  }

  /// Waits until there is a unit, and takes it.
  void acquire() {
    while (::sem_wait(semaphore_) != 0) {
    }
    direct::acquired(semaphore_);
  }
  bool try_acquire() {
    if (::sem_trywait(semaphore_) != 0) return false;
    direct::acquired(semaphore_);
    return true;
  }
  bool try_acquire_for(std::chrono::nanoseconds timeout) {
    const auto deadline = direct::deadline_after(timeout);
    while (::sem_clockwait(semaphore_, CLOCK_MONOTONIC, &deadline) != 0)
      if (errno != EINTR) return false;
    direct::acquired(semaphore_);
    return true;
  }
  /// False: its value cannot rise any further (SEM_VALUE_MAX).
  bool release() {
    direct::released(semaphore_);
    return ::sem_post(semaphore_) == 0;
  }
  /// A moment ago.
  int value() const {
    int value = 0;
    ::sem_getvalue(semaphore_, &value);
    return value;
  }

 private:
  explicit DirectSemaphore(std::byte* at) : semaphore_{reinterpret_cast<sem_t*>(at + direct::kObjectOffset)} {}

  sem_t* semaphore_;
};

/// Numbers in a buffer, each changed atomically: an array of them, or one. `T` is an integer or floating type of at
/// most 8 bytes.
template <class T>
class AtomicArray {
 public:
  static_assert(std::is_arithmetic_v<T> && !std::is_same_v<T, bool> && std::atomic_ref<T>::is_always_lock_free);

  /// `length` of them from `offset` on, a multiple of their size. A new buffer holds zeros. Errors: `out_of_range`,
  /// `bad_argument`.
  static Result<AtomicArray> open(std::span<std::byte> buffer, std::size_t offset, std::size_t length) {
    if (length > buffer.size() / sizeof(T))
      return fail(Errc::out_of_range,
                  std::to_string(length) + " elements: the buffer has " + std::to_string(buffer.size()) + " bytes");
    const auto at = direct::place(buffer, offset, length * sizeof(T), std::atomic_ref<T>::required_alignment);
    if (!at) return at.error();
    return AtomicArray{{reinterpret_cast<T*>(*at), length}};
  }

  std::size_t size() const { return cells_.size(); }
  /// `index` below size(), as with a vector.
  std::atomic_ref<T> operator[](std::size_t index) const { return std::atomic_ref<T>{cells_[index]}; }
  T get(std::size_t index) const { return (*this)[index].load(); }
  void set(std::size_t index, T value) const { (*this)[index].store(value); }
  /// Returns the value after it.
  T add(std::size_t index, T by) const { return static_cast<T>((*this)[index].fetch_add(by) + by); }
  /// True: it was `expected` and is `desired` now.
  bool compare_and_set(std::size_t index, T expected, T desired) const {
    return (*this)[index].compare_exchange_strong(expected, desired);
  }

 private:
  explicit AtomicArray(std::span<T> cells) : cells_{cells} {}
  std::span<T> cells_;
};

/// One number in a buffer, changed atomically.
template <class T>
class AtomicCell {
 public:
  /// Errors: as of AtomicArray.
  static Result<AtomicCell> open(std::span<std::byte> buffer, std::size_t offset) {
    auto one = AtomicArray<T>::open(buffer, offset, 1);
    if (!one) return one.error();
    return AtomicCell{*one};
  }
  T get() const { return cell_.get(0); }
  void set(T value) const { cell_.set(0, value); }
  T add(T by) const { return cell_.add(0, by); }
  bool compare_and_set(T expected, T desired) const { return cell_.compare_and_set(0, expected, desired); }

 private:
  explicit AtomicCell(AtomicArray<T> one) : cell_{one} {}
  AtomicArray<T> cell_;
};

}  // namespace taskpool

#undef TASKPOOL_TSAN
