#include <cctype>
#include <cstdint>
#include <fstream>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <taskpool/direct.hpp>
#include <taskpool/module.hpp>
#include <taskpool/objects.hpp>

/// What tasks can do together with the objects of the shared store: an example to read, which `./dev demo` shows.
namespace {

using taskpool::Context;

/// The classic: read, add, write. Only the lock makes it right.
std::int64_t add_with_lock(Context& context, const std::string& name, std::int64_t times) {
  const auto total = context.client().value<std::int64_t>(name).value();
  auto lock = context.client().lock(name + ".lock").value();
  for (std::int64_t i = 0; i < times; ++i) {
    context.throw_if_cancelled();
    const std::lock_guard guard{lock};
    total.set(total.get().value() + 1).value();
  }
  return times;
}

/// The same in one operation of the daemon's, which nothing can come between.
std::int64_t add_with_incr(Context& context, const std::string& name, std::int64_t times) {
  const auto total = context.client().value<std::int64_t>(name).value();
  for (std::int64_t i = 0; i < times; ++i) {
    context.throw_if_cancelled();
    total.incr().value();
  }
  return times;
}

/// A number in shared memory, which is there as long as a worker has it open: they keep it.
taskpool::AtomicCell<std::int64_t> cell(Context& context, const std::string& name) {
  static std::map<std::string, taskpool::Buffer> buffers;
  auto& buffer = buffers[name];
  if (!buffer.valid()) buffer = context.client().buffer(name, 4096).value();
  return taskpool::AtomicCell<std::int64_t>::open(buffer.data(), 0).value();
}

/// The same without the daemon: an atomic addition in memory.
std::int64_t add_direct(Context& context, const std::string& name, std::int64_t times) {
  const auto total = cell(context, name);
  for (std::int64_t i = 0; i < times; ++i) total.add(1);
  return times;
}

std::int64_t read_direct(Context& context, const std::string& name) { return cell(context, name).get(); }

/// Adds the words of a file to the dict `words`, all of them or none, and the file's name to the list `files`.
std::uint64_t tally(Context& context, const std::string& path) {
  std::ifstream file{path};
  if (!file) throw std::runtime_error{path + ": cannot be read"};
  std::map<std::string, std::int64_t> counts;
  std::uint64_t all = 0;
  for (std::string word; file >> word;) {
    std::string plain;
    for (const char c : word)
      if (std::isalpha(static_cast<unsigned char>(c)) != 0)
        plain += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    if (plain.empty() || plain.size() > 40) continue;
    ++counts[plain];
    ++all;
  }
  const auto words = context.client().dict<std::string, std::int64_t>("words").value();
  const auto files = context.client().list<std::string>("files").value();
  auto batch = context.client().batch();
  for (const auto& [word, count] : counts) {
    if (batch.is_full()) batch.commit().value();  // more than fit one: those are several steps then
    batch.incr(words, word, count);
  }
  if (batch.is_full()) batch.commit().value();
  batch.append(files, path).commit().value();
  return all;
}

}  // namespace

TASKPOOL_MODULE(m, "shared") {
  m.def("add_with_lock", &add_with_lock, "Adds 1 to a shared value so many times, each time with a lock.",
        {"name", "times"});
  m.def("add_with_incr", &add_with_incr, "Adds 1 to a shared value so many times, without one.", {"name", "times"});
  m.def("add_direct", &add_direct, "Adds 1 to a number in shared memory so many times.", {"name", "times"});
  m.def("read_direct", &read_direct, "That number.", {"name"});
  m.def("tally", &tally, "Counts the words of a file into the dict words.", {"path"});
}
