// A module for the benchmarks, against the C ABI: functions that cost nothing beside what is measured.
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "proto/module_abi.h"

namespace {

std::uint64_t argument_of(const taskpool_call* call) {
  const std::string text{static_cast<const char*>(call->input), static_cast<std::size_t>(call->input_bytes)};
  return std::strtoull(text.c_str(), nullptr, 10);
}

/// Returns its argument.
int noop(const taskpool_call* call, void*) {
  return call->host->result(call, call->encoding, call->input, call->input_bytes) == 0 ? 0 : 1;
}

/// Computes for as many microseconds as its argument says.
int spin(const taskpool_call* call, void*) {
  const auto want = static_cast<std::int64_t>(argument_of(call)) * 1000;
  const auto now_ns = [] {
    timespec time{};
    ::clock_gettime(CLOCK_MONOTONIC, &time);
    return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
  };
  const auto begun = now_ns();
  while (now_ns() - begun < want) {
  }
  return call->host->result(call, TASKPOOL_JSON, "0", 1) == 0 ? 0 : 1;
}

/// Fills as many MiB as its argument says, then waits to be killed.
int hold(const taskpool_call* call, void*) {
  const auto bytes = static_cast<std::size_t>(argument_of(call)) << 20;
  const std::unique_ptr<char[]> memory{new char[bytes]};
  std::memset(memory.get(), 1, bytes);
  call->host->progress(call, 1, 1, nullptr);  // tells the caller that the memory is there
  for (;;) ::pause();
}

constexpr taskpool_function function(const char* name, int (*call)(const taskpool_call*, void*)) {
  return {name, "(any) -> any", "For benchmarks.", call, nullptr, nullptr, 0, 0, {}};
}

constexpr taskpool_function kFunctions[] = {function("bench_noop", &noop), function("bench_spin", &spin),
                                            function("bench_hold", &hold)};
constexpr taskpool_module kModule{TASKPOOL_ABI_VERSION, 3, "bench", nullptr, kFunctions};

}  // namespace

extern "C" [[gnu::visibility("default")]] const taskpool_module* taskpool_get_module() { return &kModule; }
