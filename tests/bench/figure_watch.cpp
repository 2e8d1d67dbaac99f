#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fstream>
#include <optional>
#include <thread>

#include "tests/bench/daemon.hpp"
#include "tests/bench/figures.hpp"

/// What it costs to look at a daemon, and to have many clients that do nothing.
namespace taskpool::bench {
namespace {

constexpr std::size_t kSessions = 1'000;

/// Descriptors for so many clients, here and in the daemon, which inherits the limit.
void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) throw std::runtime_error("getrlimit failed");
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_cur < 6 * kSessions) throw std::runtime_error("RLIMIT_NOFILE is too low for so many sessions");
}

/// Sessions that have each called something once, with arguments of so many bytes: what a used session keeps is kept.
std::vector<Client> connect_many(const Daemon& daemon, std::size_t bytes = 64) {
  std::vector<Client> sessions;
  const std::vector<std::byte> body(bytes);
  for (std::size_t i = 0; i < kSessions; ++i) {
    sessions.push_back(daemon.connect());
    need(sessions.back().pool().prepare("bench_noop").apply(body));
  }
  return sessions;
}

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

std::uint16_t free_port() {
  const os::UniqueFd socket{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  auto address = loopback(0);
  socklen_t size = sizeof address;
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0 ||
      ::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0)
    throw std::runtime_error("no port is free");
  return ntohs(address.sin_port);
}

std::size_t scrape(std::uint16_t port) {
  const os::UniqueFd socket{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  const auto address = loopback(port);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    throw std::runtime_error("nobody serves metrics");
  constexpr std::string_view kRequest = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
  if (::write(socket.get(), kRequest.data(), kRequest.size()) != static_cast<ssize_t>(kRequest.size()))
    throw std::runtime_error("write failed");
  std::string page;
  std::vector<char> piece(1 << 16);
  for (ssize_t got = 0; (got = ::read(socket.get(), piece.data(), piece.size())) > 0;)
    page.append(piece.data(), static_cast<std::size_t>(got));
  if (!page.starts_with("HTTP/1.1 200")) throw std::runtime_error("a scrape failed");
  return page.size();
}

/// What the process has had of a CPU so far, in milliseconds.
double cpu_ms(pid_t pid) {
  std::ifstream schedstat{"/proc/" + std::to_string(pid) + "/schedstat"};
  double ns = 0;
  if (!(schedstat >> ns)) throw std::runtime_error("no schedstat");
  return ns / 1e6;
}

/// Milliseconds of the event loop, which does nothing else meanwhile, for one scrape: everything from the connection to
/// its end.
double loop_ms_per_scrape(const Daemon& daemon, std::uint16_t port) {
  constexpr int kScrapes = 40;
  constexpr std::chrono::milliseconds kApart{30};  // below the daemon's limit of connections a second
  const auto before = cpu_ms(daemon.pid());
  for (int i = 0; i < kScrapes; ++i) {
    scrape(port);
    std::this_thread::sleep_for(kApart);
  }
  return (cpu_ms(daemon.pid()) - before) / kScrapes;
}

DaemonOptions watched(std::uint16_t port, unsigned pools, unsigned workers) {
  DaemonOptions options{.workers = workers, .extra = "metrics_listen = \"127.0.0.1:" + std::to_string(port) + "\"\n"};
  for (unsigned pool = 1; pool < pools; ++pool)
    options.pools += "[[pool]]\nname = \"pool-" + std::to_string(pool) +
                     "\"\nmodules = [\"demo\"]\nworkers = " + std::to_string(workers) + "\n";
  return options;
}

/// What the daemon's resident size grows by for each session that was used once and is idle since.
double kb_of_a_session(std::size_t bytes) {
  const Daemon daemon{{.workers = 1}};
  const std::vector<std::byte> body(bytes);
  need(daemon.connect().pool().prepare("bench_noop").apply(body));
  const auto before = memory_of(daemon.pid(), "status", "VmRSS");
  const auto sessions = connect_many(daemon, bytes);
  return static_cast<double>(memory_of(daemon.pid(), "status", "VmRSS") - before) / kSessions / 1000;
}

double apply_p50_us(const PreparedCall& call) {
  constexpr std::size_t kRoundTrips = 10'000;
  const std::byte body[64]{};
  std::vector<double> times;
  for (std::size_t i = 0; i < kRoundTrips; ++i) {
    const auto begun = Clock::now();
    need(call.apply(body));
    times.push_back(seconds_since(begun) * 1e6);
  }
  return percentile(std::move(times), 0.5);
}

}  // namespace

void metrics_scrape(Report& report) {
  constexpr unsigned kPools = 64;
  constexpr unsigned kWorkers = 8;  // in each
  const Placed placed{Placement::free};
  raise_descriptor_limit();
  const auto small_port = free_port();
  const Daemon small{watched(small_port, 1, 2)};
  const auto session = small.connect();
  const auto large_port = free_port();
  const Daemon large{watched(large_port, kPools, kWorkers)};
  const auto sessions = connect_many(large);
  const auto [many, few] = measure_in_turns([&] { return loop_ms_per_scrape(large, large_port); },
                                            [&] { return loop_ms_per_scrape(small, small_port); });
  report.add({"metrics_scrape", many, "ms", "1 pool, 2 workers", few, at_most(1)});
  report.add({"metrics_scrape_page", static_cast<double>(scrape(large_port)) / 1024, "kB", "1 pool, 2 workers",
              static_cast<double>(scrape(small_port)) / 1024, at_most(1024)});
}

void idle_sessions(Report& report) {
  const Placed placed{Placement::same};
  raise_descriptor_limit();
  report.add({"idle_session_memory", measure([] { return kb_of_a_session(64); }), "kB", "", 0, at_most(20)});
  report.add({"idle_after_60kB_memory", measure([] { return kb_of_a_session(60'000); }), "kB", "", 0, at_most(20)});

  const Daemon daemon{{.workers = 1}};
  const auto client = daemon.connect();
  const auto call = client.pool().prepare("bench_noop");
  apply_p50_us(call);
  const auto beside = [&] {
    const auto sessions = connect_many(daemon);
    return apply_p50_us(call);
  };
  const auto [with, without] = measure_in_turns(beside, [&] { return apply_p50_us(call); });
  report.add({"apply_beside_idle_p50", with, "us", "no other session", without, at_most_times(1.1)});
}

}  // namespace taskpool::bench
