#include <pthread.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fcntl.h>
#include <array>
#include <atomic>
#include <csignal>
#include <deque>
#include <mutex>
#include <stdexcept>
#include <thread>

#include "taskpool/direct.hpp"
#include "taskpool/objects.hpp"
#include "tests/bench/daemon.hpp"
#include "tests/bench/figures.hpp"
#include "tests/bench/ping_pong.hpp"

/// What the store's objects cost where the daemon has a part in it.
namespace taskpool::bench {
namespace {

constexpr std::size_t kKeys = 100'000;
constexpr std::size_t kRoundTrips = 20'000;
constexpr std::size_t kItems = 1'000'000;
constexpr std::size_t kListRounds = 5'000;

using Numbers = Dict<std::string, std::int64_t>;

std::string key_of(std::size_t i) { return "key-" + std::to_string(i); }

void need(const Result<void>& done) {
  if (!done) throw std::runtime_error(done.error().detail);
}

Numbers filled(const Client& client, std::size_t keys = kKeys) {
  const auto dict = bench::need(client.dict<std::string, std::int64_t>("bench"));
  std::vector<std::pair<std::string, std::int64_t>> entries;
  for (std::size_t i = 0; i < keys; ++i) entries.emplace_back(key_of(i), 0);
  need(dict.update(entries));
  return dict;
}

/// Microseconds of each run.
std::vector<double> times_of(std::size_t count, const std::function<void(std::size_t)>& run) {
  std::vector<double> times;
  times.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    const auto begun = Clock::now();
    run(i);
    times.push_back(seconds_since(begun) * 1e6);
  }
  return times;
}

double set_p50(const Numbers& dict, std::size_t count = kRoundTrips) {
  return median(
      times_of(count, [&](std::size_t i) { need(dict.set(key_of(i % kKeys), static_cast<std::int64_t>(i))); }));
}

/// Sets per second in batches, with one of them under way while the next is made.
double in_batches(const Client& client, const Numbers& dict, std::size_t sets, std::size_t size) {
  std::deque<Future<void>> under_way;
  const auto begun = Clock::now();
  for (std::size_t at = 0; at < sets; at += size) {
    auto batch = client.batch();
    for (std::size_t i = at; i < at + size; ++i) batch.set(dict, key_of(i % kKeys), static_cast<std::int64_t>(i));
    under_way.push_back(batch.commit_async());
    need(client.flush());
    if (under_way.size() < 4) continue;
    need(under_way.front().get());
    under_way.pop_front();
  }
  for (auto& each : under_way) need(each.get());
  return static_cast<double>(sets) / seconds_since(begun);
}

/// Sets per second with `depth` of them under way.
double pipelined(const Numbers& dict, std::size_t sets, std::size_t depth) {
  std::deque<Future<void>> under_way;
  const auto begun = Clock::now();
  for (std::size_t sent = 0; sent < sets || !under_way.empty();) {
    for (; sent < sets && under_way.size() < depth; ++sent)
      under_way.push_back(dict.set_async(key_of(sent % kKeys), static_cast<std::int64_t>(sent)));
    do {
      need(under_way.front().get());
      under_way.pop_front();
    } while (!under_way.empty() && under_way.front().ready());
  }
  return static_cast<double>(sets) / seconds_since(begun);
}

/// Synchronous sets per second of so many processes together.
double by_processes(const Daemon& daemon, std::size_t processes) {
  constexpr double kSeconds = 1.0;
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("pipe failed");
  const os::UniqueFd from{ends[0]};
  os::UniqueFd to{ends[1]};
  std::vector<pid_t> children;
  for (std::size_t p = 0; p < processes; ++p) {
    const pid_t pid = ::fork();
    if (pid == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      std::uint64_t sets = 0;
      try {
        const auto client = daemon.connect();
        const auto dict = bench::need(client.dict<std::string, std::int64_t>("bench"));
        const auto begun = Clock::now();
        for (; seconds_since(begun) < kSeconds; ++sets)
          need(dict.set(key_of((p * kKeys / processes + sets) % kKeys), static_cast<std::int64_t>(sets)));
      } catch (const std::exception&) {
        sets = 0;
      }
      (void)!::write(to.get(), &sets, sizeof sets);
      ::_exit(0);
    }
    children.push_back(pid);
  }
  to.reset();
  std::uint64_t all = 0;
  std::size_t reports = 0;
  for (std::uint64_t sets = 0; ::read(from.get(), &sets, sizeof sets) == sizeof sets; all += sets) reports += sets > 0;
  for (const pid_t pid : children) ::waitpid(pid, nullptr, 0);
  if (reports != processes) throw std::runtime_error("a client failed");
  return static_cast<double>(all) / kSeconds;
}

/// A robust mutex of the C library in memory of one's own: what a direct one is made of.
class RawMutex {
 public:
  RawMutex() {
    pthread_mutexattr_t attributes;
    ::pthread_mutexattr_init(&attributes);
    ::pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    ::pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    ::pthread_mutex_init(&mutex_, &attributes);
    ::pthread_mutexattr_destroy(&attributes);
  }
  ~RawMutex() { ::pthread_mutex_destroy(&mutex_); }
  RawMutex(const RawMutex&) = delete;
  RawMutex& operator=(const RawMutex&) = delete;
  void lock() { ::pthread_mutex_lock(&mutex_); }
  void unlock() { ::pthread_mutex_unlock(&mutex_); }

 private:
  pthread_mutex_t mutex_;
};

template <class Mutex>
double nanoseconds_of(Mutex& mutex) {
  constexpr std::size_t kLocks = 5'000'000;
  const auto begun = Clock::now();
  for (std::size_t i = 0; i < kLocks; ++i) {
    mutex.lock();
    mutex.unlock();
  }
  return seconds_since(begun) * 1e9 / kLocks;
}

/// The 99th percentile of single applies, in microseconds, while `meanwhile` says that it goes on.
double apply_p99(const Daemon& daemon, const std::function<bool(std::size_t)>& goes_on) {
  const auto call = daemon.connect().pool().prepare("bench_noop");
  const std::array<std::byte, 64> body{};
  std::vector<double> times;
  while (goes_on(times.size())) {
    const auto begun = Clock::now();
    if (!call.apply(body)) throw std::runtime_error("an apply failed");
    times.push_back(seconds_since(begun) * 1e6);
  }
  return percentile(std::move(times), 0.99);
}

}  // namespace

void dict_set(Report& report) {
  {
    const Placed placed{Placement::same};
    const Daemon daemon{{.workers = 1}};
    const auto client = daemon.connect();
    const auto dict = filled(client);
    const auto [ours, floor] =
        measure_in_turns([&] { return set_p50(dict); }, [] { return median(ping_pong_round_trips(kRoundTrips)); });
    report.add({"dict_set_same_p50", ours, "us", "bare socket ping-pong", floor, at_most_times(1.6)});
  }
  const Placed placed{Placement::free};
  const Daemon daemon{{.workers = 1}};
  const auto client = daemon.connect();
  const auto dict = filled(client);
  in_batches(client, dict, 100'000, 100);
  report.add({"dict_set_batches_of_100", measure([&] { return in_batches(client, dict, 1'000'000, 100); }), "sets/s",
              "", 0, at_least(1'000'000)});
  pipelined(dict, 100'000, 256);
  report.add({"dict_set_pipelined_256", measure([&] { return pipelined(dict, 1'000'000, 256); }), "sets/s", "", 0,
              at_least(1'000'000)});
  const auto [four, one] =
      measure_in_turns([&] { return by_processes(daemon, 4); }, [&] { return by_processes(daemon, 1); });
  report.add({"dict_set_4_clients", four, "sets/s", "one client", one, at_least_times(2)});
}

void locks(Report& report) {
  const Placed placed{Placement::same};
  const Daemon daemon{{.workers = 1}};
  const auto client = daemon.connect();
  auto lock = bench::need(client.lock("bench"));
  const auto once = [&](std::size_t) { const std::lock_guard guard{lock}; };
  times_of(kRoundTrips / 4, once);
  const auto [ours, floor] = measure_in_turns([&] { return median(times_of(kRoundTrips, once)); },
                                              [] { return median(ping_pong_round_trips(kRoundTrips)); });
  report.add({"lock_same_p50", ours, "us", "bare socket ping-pong", floor, at_most_times(2)});

  const auto buffer = bench::need(client.buffer("", 4096));
  auto direct = bench::need(DirectMutex::create(buffer.data(), 0));
  RawMutex raw;
  const auto [in_buffer, plain] =
      measure_in_turns([&] { return nanoseconds_of(direct); }, [&] { return nanoseconds_of(raw); });
  report.add({"direct_mutex", in_buffer, "ns", "raw robust mutex", plain, at_most_times(2)});
}

void list_at_1M(Report& report) {
  const Placed placed{Placement::same};
  const Daemon daemon{{.workers = 1}};
  const auto client = daemon.connect();
  const auto dict = filled(client);
  const auto list = bench::need(client.list<std::int64_t>("bench-list"));
  for (std::size_t at = 0; at < kItems; at += 10'000) need(list.extend(std::vector<std::int64_t>(10'000, 7)));
  const auto compare = [&](const char* figure, const std::function<void(std::size_t)>& run) {
    times_of(kListRounds / 10, run);
    const auto [ours, set] = measure_in_turns([&] { return median(times_of(kListRounds, run)); },
                                              [&] { return set_p50(dict, kListRounds); });
    report.add({figure, ours, "us", "dict.set", set, at_most_times(2)});
  };
  compare("list_append_at_1M", [&](std::size_t) { need(list.append(1)); });
  compare("list_pop_at_1M", [&](std::size_t) { (void)bench::need(list.pop()); });
  compare("list_set_at_1M",
          [&](std::size_t i) { need(list.set(static_cast<std::int64_t>(i * 7919 % kItems / 2), 2)); });
  compare("list_insert_at_1M", [&](std::size_t) { need(list.insert(kItems / 2, 3)); });
}

void apply_while_a_dict_grows(Report& report) {
  constexpr std::size_t kEntries = 2'000'000;
  constexpr std::size_t kApplies = 20'000;
  const Placed placed{Placement::free};
  std::vector<double> growing;
  std::vector<double> quiet;
  for (int round = 0; round < kRounds; ++round) {
    const Daemon daemon{{.extra = "store_max_bytes = \"2GiB\"\n"}};
    quiet.push_back(apply_p99(daemon, [](std::size_t done) { return done < kApplies; }));
    std::atomic<bool> grown = false;
    std::atomic<bool> failed = false;
    // One synchronous batch after another, and a pause as long: growth shall be seen, not a full CPU.
    std::thread grower{[&] {
      try {
        const auto client = daemon.connect();
        const auto dict = bench::need(client.dict<std::int64_t, std::int64_t>("growing"));
        for (std::size_t at = 0; at < kEntries; at += 100) {
          auto batch = client.batch();
          for (std::size_t i = at; i < at + 100; ++i) batch.set(dict, static_cast<std::int64_t>(i), std::int64_t{1});
          const auto begun = Clock::now();
          (void)bench::need(batch.commit());
          std::this_thread::sleep_for(Clock::now() - begun);
        }
      } catch (const std::exception&) {
        failed = true;
      }
      grown = true;
    }};
    double p99 = 0;
    try {
      p99 = apply_p99(daemon, [&](std::size_t) { return !grown; });
    } catch (const std::exception&) {
      failed = true;
    }
    grower.join();
    if (failed) throw std::runtime_error("the dict did not grow, or an apply failed");
    growing.push_back(p99);
  }
  report.add({"apply_p99_growing_dict", median(growing), "us", "quiet", median(quiet), at_most_times(2)});
}

}  // namespace taskpool::bench
