#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

/// Access to a segment's words. Everything that may be written while another process reads goes through here, as atomic
/// words, so that a reader that comes too late reads old or new bytes and never makes the program undefined.
namespace taskpool::store {

#ifdef TASKPOOL_STORE_HOOK
/// Tests stand here between the store's code and a segment: they see every access and answer it.
class MemoryHook {
 public:
  virtual ~MemoryHook() = default;
  virtual std::uint64_t load(const std::byte* place, std::memory_order order) = 0;
  virtual void store(std::byte* place, std::uint64_t value, std::memory_order order) = 0;
  virtual void fence(std::memory_order order) = 0;
};
extern MemoryHook* memory_hook;  ///< nullptr: as without.
#endif

inline std::uint64_t load_word(const std::byte* place, std::memory_order order = std::memory_order_relaxed) {
#ifdef TASKPOOL_STORE_HOOK
  if (memory_hook) return memory_hook->load(place, order);
#endif
  // atomic_ref of a const type is C++26; a load writes nothing.
  auto* word = const_cast<std::uint64_t*>(reinterpret_cast<const std::uint64_t*>(place));
  return std::atomic_ref<std::uint64_t>{*word}.load(order);
}

inline void store_word(std::byte* place, std::uint64_t value, std::memory_order order = std::memory_order_relaxed) {
#ifdef TASKPOOL_STORE_HOOK
  if (memory_hook) return memory_hook->store(place, value, order);
#endif
  std::atomic_ref<std::uint64_t>{*reinterpret_cast<std::uint64_t*>(place)}.store(value, order);
}

/// Orders what a reader copied before what it checks next.
inline void acquire_fence() {
#ifdef TASKPOOL_STORE_HOOK
  if (memory_hook) return memory_hook->fence(std::memory_order_acquire);
#endif
  std::atomic_thread_fence(std::memory_order_acquire);
}
/// Orders what a writer made known before what it overwrites next.
inline void release_fence() {
#ifdef TASKPOOL_STORE_HOOK
  if (memory_hook) return memory_hook->fence(std::memory_order_release);
#endif
  std::atomic_thread_fence(std::memory_order_release);
}

inline constexpr std::size_t kLineBytes = 64;

/// Whether memcpy() copies what may change meanwhile. The language calls that a race; this machine reads some bytes
/// from before and some from after, as with words, and the reader's checks do not care. Word by word a core looks less
/// far ahead: with 1 KB values a look-up takes half as long again. The thread sanitizer, and tests that answer each
/// load, see words.
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__) && !defined(TASKPOOL_STORE_HOOK)
inline constexpr bool kCopiesWhole = true;
#else
inline constexpr bool kCopiesWhole = false;
#endif

/// Copies `into.size()` bytes from the whole words at `from`.
inline void copy_out(const std::byte* from, std::span<std::byte> into) {
  std::byte* to = into.data();
  std::size_t left = into.size();
  if constexpr (kCopiesWhole) {
    if (left >= kLineBytes) {
      std::memcpy(to, from, left);
      return;
    }
  }
  for (; left >= sizeof(std::uint64_t); left -= sizeof(std::uint64_t)) {
    const std::uint64_t word = load_word(from);
    std::memcpy(to, &word, sizeof word);
    from += sizeof word;
    to += sizeof word;
  }
  if (left != 0) {
    const std::uint64_t word = load_word(from);
    std::memcpy(to, &word, left);
  }
}

/// The reverse; the last word is padded with zeros. Returns the place behind it.
inline std::byte* copy_in(std::span<const std::byte> from, std::byte* to) {
  const std::byte* source = from.data();
  std::size_t left = from.size();
  for (; left >= sizeof(std::uint64_t); left -= sizeof(std::uint64_t)) {
    std::uint64_t word;
    std::memcpy(&word, source, sizeof word);
    store_word(to, word);
    source += sizeof word;
    to += sizeof word;
  }
  if (left == 0) return to;
  std::uint64_t word = 0;
  std::memcpy(&word, source, left);
  store_word(to, word);
  return to + sizeof word;
}

/// Bytes of whole words that hold `bytes`.
constexpr std::size_t padded(std::size_t bytes) {
  return (bytes + sizeof(std::uint64_t) - 1) / sizeof(std::uint64_t) * sizeof(std::uint64_t);
}

}  // namespace taskpool::store
