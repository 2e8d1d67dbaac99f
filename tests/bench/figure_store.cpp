#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <random>
#include <stdexcept>
#include <thread>
#include <unordered_map>

#include "proto/store/reader.hpp"
#include "proto/store/recovery.hpp"
#include "proto/store/writer.hpp"
#include "tests/bench/figures.hpp"

/// What the shared store costs without a daemon: the library that readers use, beside a private hash map.
namespace taskpool::bench {
namespace {

using namespace taskpool::store;

constexpr std::size_t kKeys = 100'000;
constexpr std::size_t kMany = 1'000'000;
constexpr double kWindowSeconds = 0.3;  ///< Of each measurement of a rate.
/// Microseconds. With a round trip of 3 us, a change of a list is then at most twice a change of a dict.
constexpr double kListGoal = 3;
constexpr std::size_t kLookUps = 1024;  ///< Between two looks at the clock.

std::uint64_t no_clock() { return 0; }

void check(bool good, const char* what) {
  if (!good) throw std::runtime_error(what);
}

constexpr std::size_t kLargePage = std::size_t{2} << 20;
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25  // until glibc 2.37
#endif

/// A segment in a memfd, mapped twice as it is between processes: written here, read-only there.
class Memory {
 public:
  explicit Memory(std::size_t bytes) : bytes_{bytes}, fd_{::memfd_create("bench", MFD_CLOEXEC)} {
    check(fd_ >= 0 && ::ftruncate(fd_, static_cast<off_t>(bytes)) == 0, "no memory");
    written_ = map(PROT_READ | PROT_WRITE);
    read_ = map(PROT_READ);
  }
  ~Memory() {
    ::munmap(written_, bytes_);
    ::munmap(read_, bytes_);
    ::close(fd_);
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  std::span<std::byte> written() const { return {static_cast<std::byte*>(written_), bytes_}; }
  std::span<const std::byte> read() const { return {static_cast<const std::byte*>(read_), bytes_}; }
  static Result<void> extend(std::size_t) { return {}; }
  /// Puts what is in use into large pages, as far as the kernel likes to. False: it does not.
  bool use_large_pages(std::size_t used) const {
    return ::madvise(written_, used / kLargePage * kLargePage, MADV_COLLAPSE) == 0;
  }

 private:
  void* map(int protection) const {
    // At a multiple of a large page's size, so that the kernel may use large pages.
    void* room = ::mmap(nullptr, bytes_ + kLargePage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check(room != MAP_FAILED, "cannot map");
    const auto begin = (reinterpret_cast<std::uintptr_t>(room) + kLargePage - 1) / kLargePage * kLargePage;
    void* place = ::mmap(reinterpret_cast<void*>(begin), bytes_, protection, MAP_SHARED | MAP_FIXED, fd_, 0);
    check(place != MAP_FAILED, "cannot map");
    return place;
  }
  std::size_t bytes_;
  int fd_;
  void* written_ = nullptr;
  void* read_ = nullptr;
};

/// A writer, one object, and whatever work it asks for.
class Bed {
 public:
  Bed(std::size_t bytes, ObjectType type)
      : memory_{bytes},
        writer_{Writer::create(memory_.written(), &Memory::extend, {.domain = "bench", .seed = 42}).value()} {
    auto tx = writer_.begin(0);
    object_ = writer_.create_object(tx, {.type = type}).value();
    check(tx.commit().has_value(), "no object");
  }
  template <class F>
  void change(F&& operation) {
    for (;;) {
      auto tx = writer_.begin(0);
      const auto done = operation(tx);
      if (done) {
        check(tx.commit().has_value(), "commit");
        return;
      }
      tx.abort();
      check(done.error().errc() == Errc::busy, done.error().detail.c_str());
      while (!writer_.work(object_.id, 10'000).value()) {
      }
    }
  }
  void put(std::string_view key, std::string_view value) {
    KeyBuffer buffer;
    check(buffer.set_text(key), "key");
    const EntryInput entry{.value = std::as_bytes(std::span{value})};
    change([&](Transaction& tx) { return writer_.put(tx, object_.id, buffer, entry); });
  }
  Writer& writer() { return writer_; }
  const Memory& memory() const { return memory_; }
  const ObjectInfo& object() const { return object_; }
  Segment reader() const { return Segment::open(memory_.read(), &no_clock).value(); }
  ObjectView view() const { return {object_.offset, object_.id, object_.type}; }

 private:
  Memory memory_;
  Writer writer_;
  ObjectInfo object_;
};

std::vector<std::string> make_keys(std::size_t count) {
  std::vector<std::string> keys;
  for (std::size_t number = 0; number < count; ++number) keys.push_back("key:" + std::to_string(10'000'000 + number));
  std::shuffle(keys.begin(), keys.end(), std::mt19937{7});
  return keys;
}

void pin(std::size_t cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu % std::thread::hardware_concurrency(), &set);
  ::pthread_setaffinity_np(::pthread_self(), sizeof set, &set);
}

/// CPU time of this thread. A look-up never waits, so this is what it costs, also where other programs want the CPU.
double cpu_seconds() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

/// Look-ups a second of one thread on that CPU: `look_up` gets a random key and copies its value into a buffer.
template <class F>
double rate(std::size_t cpu, const std::vector<std::string>& keys, F&& look_up) {
  double result = 0;
  std::thread thread{[&] {
    pin(cpu);
    std::uint64_t state = 88172645463325252 + cpu;
    std::vector<std::byte> buffer(2048);
    std::size_t done = 0, found = 0;
    const double begun = cpu_seconds();
    do {
      for (std::size_t each = 0; each < kLookUps; ++each) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        found += look_up(keys[state % keys.size()], std::span{buffer});
      }
      done += kLookUps;
    } while (cpu_seconds() - begun < kWindowSeconds);
    result = static_cast<double>(done) / (cpu_seconds() - begun);
    check(found == done, "a key was not found");
  }};
  thread.join();
  return result;
}

template <class F>
double rate_of_store(const Bed& bed, std::size_t cpu, F&& keys) {
  const Segment segment = bed.reader();
  const ObjectView view = bed.view();
  return rate(cpu, keys, [&](const std::string& key, std::span<std::byte> buffer) {
    KeyBuffer canonical;
    if (!canonical.set_text(key)) return false;
    return static_cast<bool>(segment.get(view, canonical, buffer));
  });
}

void get_of_size(Report& report, std::size_t value_bytes, const std::string& size) {
  const auto keys = make_keys(kKeys);
  const std::string value(value_bytes, 'v');
  Bed bed{std::size_t{512} << 20, ObjectType::dict};
  std::unordered_map<std::string, std::string> map;
  for (const auto& key : keys) {
    bed.put(key, value);
    map.emplace(key, value);
  }
  const auto ours = [&] { return rate_of_store(bed, 1, keys) / 1e6; };
  const auto private_map = [&] {
    return rate(1, keys,
                [&](const std::string& key, std::span<std::byte> buffer) {
                  const auto found = map.find(key);
                  if (found == map.end()) return false;
                  std::memcpy(buffer.data(), found->second.data(), found->second.size());
                  return true;
                }) /
           1e6;
  };
  const auto quiet = measure_in_turns(ours, private_map);
  const std::string beside = "unordered_map, private";
  report.add({"store_get_" + size, quiet.ours, "M/s", beside, quiet.reference, at_least_times(1.0)});

  // Beside a writer that does nothing else, on the other CPU.
  double written = 0;
  const auto busy = measure_in_turns(
      [&] {
        std::atomic<bool> stop{false};
        std::thread writer{[&] {
          pin(0);
          const double begun = cpu_seconds();
          std::size_t number = 0;
          while (!stop.load(std::memory_order_relaxed)) {
            bed.put(keys[number++ * 7919 % keys.size()], value);
          }
          written = static_cast<double>(number) / (cpu_seconds() - begun) / 1e6;
        }};
        const double result = ours();
        stop = true;
        writer.join();
        return result;
      },
      ours);
  report.add({"store_get_" + size + "_beside_writer", busy.ours, "M/s", "quiet", busy.reference, at_least_times(0.85)});
  report.add({"store_put_" + size + "_in_process", written, "M/s", "", 0, at_least(1)});

  const auto two = measure_in_turns(
      [&] {
        double other = 0;
        std::thread second{[&] { other = rate_of_store(bed, 0, keys) / 1e6; }};
        const double first = ours();
        second.join();
        return std::min(first, other);
      },
      ours);
  report.add({"store_get_" + size + "_two_readers", two.ours, "M/s", "one", two.reference, at_least_times(0.9)});

  if (!bed.memory().use_large_pages(bed.writer().usage().used_bytes)) return;
  const auto large = measure_in_turns(ours, private_map);
  report.add({"store_get_" + size + "_large_pages", large.ours, "M/s", beside, large.reference, at_least_times(1.0)});
}

/// Microseconds of one operation, each its own transaction.
template <class F>
double cost(Bed& bed, F&& operation) {
  constexpr std::size_t kOperations = 20'000;
  std::uint64_t state = 88172645463325252;
  const double begun = cpu_seconds();
  for (std::size_t each = 0; each < kOperations; ++each) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    bed.change([&](Transaction& tx) { return operation(tx, state); });
  }
  return (cpu_seconds() - begun) / kOperations * 1e6;
}

}  // namespace

void store_get(Report& report) {
  get_of_size(report, 16, "16B");
  get_of_size(report, 1024, "1KB");
}

void store_list(Report& report) {
  Placed placed{Placement::same};
  const std::string text(16, 'v');
  const EntryInput one[] = {{.value = std::as_bytes(std::span{text})}};
  Bed dict{std::size_t{512} << 20, ObjectType::dict};
  const auto keys = make_keys(kKeys);
  for (const auto& key : keys) dict.put(key, text);
  Bed list{std::size_t{1024} << 20, ObjectType::list};
  const ObjectId id = list.object().id;
  Writer& writer = list.writer();
  for (std::size_t done = 0; done < kMany; done += 1000) {
    const std::vector<EntryInput> items(1000, one[0]);
    list.change([&](Transaction& tx) { return writer.insert(tx, id, done, items); });
  }
  const double set = measure([&] {
    std::size_t number = 0;
    return cost(dict, [&](Transaction& tx, std::uint64_t) {
      KeyBuffer key;
      check(key.set_text(keys[number++ % keys.size()]), "key");
      return dict.writer().put(tx, dict.object().id, key, one[0]);
    });
  });
  const auto add = [&](const char* name, const std::function<Result<void>(Transaction&, std::uint64_t)>& operation) {
    report.add({name, measure([&] { return cost(list, operation); }), "us", "dict put", set, at_most(kListGoal)});
  };
  std::uint64_t count = kMany;
  add("store_list_append", [&](Transaction& tx, std::uint64_t) { return writer.insert(tx, id, count++, one); });
  add("store_list_pop", [&](Transaction& tx, std::uint64_t) { return writer.erase_items(tx, id, --count, 1); });
  add("store_list_pop_front",
      [&](Transaction& tx, std::uint64_t) { return writer.erase_items(tx, id, (--count, 0), 1); });
  add("store_list_set",
      [&](Transaction& tx, std::uint64_t random) { return writer.set_item(tx, id, random % count, one[0]); });
  add("store_list_insert_middle",
      [&](Transaction& tx, std::uint64_t) { return writer.insert(tx, id, count++ / 2, one); });
  const Segment segment = list.reader();
  std::byte buffer[64];
  report.add({"store_list_get", measure([&] {
                std::uint64_t state = 88172645463325252;
                const double begun = cpu_seconds();
                for (int each = 0; each < 200'000; ++each) {
                  state ^= state << 13;
                  state ^= state >> 7;
                  state ^= state << 17;
                  check(static_cast<bool>(segment.list_get(list.view(), state % count, buffer)), "item");
                }
                return (cpu_seconds() - begun) / 200'000 * 1e6;
              }),
              "us", "", 0, at_most(1)});
}

void store_recovery(Report& report) {
  const std::string text(16, 'v');
  const auto keys = make_keys(kMany);
  Bed bed{std::size_t{1024} << 20, ObjectType::dict};
  for (const auto& key : keys) bed.put(key, text);
  auto tx = bed.writer().begin(0);
  const auto info = bed.writer().info(tx, bed.object().id).value();
  tx.abort();
  const double overhead =
      static_cast<double>(info.bytes) / kMany - static_cast<double>(text.size() + keys[0].size() + 1);
  report.add({"store_bytes_per_entry", overhead, "bytes", "", 0, at_most(96)});
  const double used = static_cast<double>(bed.writer().usage().used_bytes) / kMany;
  report.add({"store_bytes_used_per_entry", used - static_cast<double>(text.size() + keys[0].size() + 1), "bytes", "",
              0, at_most(160)});
  report.add({"store_recovery", measure([&] {
                const auto begun = Clock::now();
                const auto recovered = recover(bed.memory().written(), &Memory::extend);
                check(recovered && recovered->messages.empty(), "recovery");
                return seconds_since(begun);
              }),
              "s", "", 0, at_most(1)});
}

}  // namespace taskpool::bench
