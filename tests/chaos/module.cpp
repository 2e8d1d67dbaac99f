#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <system_error>
#include <taskpool/client.hpp>
#include <taskpool/module.hpp>

#include "tests/chaos/mixed.hpp"

/// What the clients of the chaos test call: functions whose results can be checked, and one whose every run is on
/// record.
namespace {

using taskpool::Context;

/// A file that every run is noted in before anything else happens: one line, one write.
int effects() {
  static const int fd = [] {
    const char* path = std::getenv("CHAOS_EFFECTS");
    if (path == nullptr) throw std::runtime_error{"CHAOS_EFFECTS is not set"};
    const int opened = ::open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (opened < 0) throw std::system_error{errno, std::generic_category(), path};
    return opened;
  }();
  return fd;
}

/// Notes the run of `id` in this life of the daemon, works for so long, and returns mixed(id).
std::int64_t effect(Context& context, std::int64_t id, std::int64_t ms) {
  static const std::string life = std::getenv("CHAOS_LIFE") != nullptr ? std::getenv("CHAOS_LIFE") : "0";
  const auto line = life + ' ' + std::to_string(id) + '\n';
  if (::write(effects(), line.data(), line.size()) != static_cast<ssize_t>(line.size()))
    throw std::system_error{errno, std::generic_category(), "CHAOS_EFFECTS"};
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds{ms};
  while (!context.cancelled()) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
    if (left.count() <= 0) break;
    pollfd interrupt{context.interrupt_fd(), POLLIN, 0};
    ::poll(&interrupt, 1, static_cast<int>(left.count()));
  }
  context.throw_if_cancelled();
  return taskpool::chaos::mixed(id);
}

/// The same through a task of its own, which this one waits for.
std::int64_t nested(Context& context, std::int64_t id, std::int64_t ms) {
  const auto result = context.client().pool().apply<std::int64_t>("effect", id, ms);
  if (!result) throw std::runtime_error{"inner: " + result.error().code.message() + ": " + result.error().detail};
  return *result;
}

}  // namespace

TASKPOOL_MODULE(m, "chaos") {
  m.def<&taskpool::chaos::mixed>("mixed", "A number that only the one given leads to.", {"x"});
  m.def("effect", &effect, "Notes that it ran, works, and returns mixed(id).", {"id", "ms"});
  m.def("nested", &nested, "effect() through a task of its own.", {"id", "ms"});
}
