#include <poll.h>

#include <cstdint>
#include <numeric>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "taskpool/client.hpp"
#include "taskpool/module.hpp"
#include "taskpool/objects.hpp"

// Functions that use the client library from inside of a task.

namespace {

/// The sum of the squares below `n`, each computed by a task of its own.
std::int64_t sum_of_squares(std::int64_t n) {
  auto client = taskpool::Client::connect();
  if (!client) throw std::runtime_error{client.error().detail};
  std::vector<std::int64_t> numbers(static_cast<std::size_t>(n));
  std::iota(numbers.begin(), numbers.end(), 0);
  const auto squares = client->pool().map<std::int64_t>("square", numbers, {.force_json = true});
  if (!squares) throw std::runtime_error{squares.error().detail};
  return std::accumulate(squares->begin(), squares->end(), std::int64_t{0});
}

using taskpool::Context;
using Json = nlohmann::json;

/// A new dict without a name, of which nothing but the result tells: the handle goes before the result is sent.
taskpool::ObjectRef make_dict(Context& context, std::int64_t number) {
  const auto made = context.client().dict<std::string, std::int64_t>("").value();
  made.set("number", number).value();
  return made.ref();
}

/// `count` of them, deep inside of a result of at least `bytes`.
Json make_dicts(Context& context, std::int64_t count, std::int64_t bytes) {
  auto made = Json::array();
  for (std::int64_t i = 0; i < count; ++i) made.push_back({{"at", make_dict(context, i)}});
  return {{"made", std::move(made)}, {"padding", std::string(static_cast<std::size_t>(bytes), 'x')}};
}

/// A dict that is named in bytes, which nobody else could know.
std::vector<std::byte> make_opaque(Context& context, std::int64_t number) {
  const auto id = make_dict(context, number).id;
  context.refer(id);
  const auto bytes = std::as_bytes(std::span{id});
  return {bytes.begin(), bytes.end()};
}

/// A dict that the task may still return, until it is killed.
std::string make_and_sleep(Context& context) {
  const auto id = make_dict(context, 0).id;
  ::poll(nullptr, 0, 60'000);
  return id;
}

/// A dict that no result names.
std::string make_nothing(Context& context) { return make_dict(context, 0).id; }

/// Takes a lock of the store, and keeps it beyond the task's end; or gives it back.
bool hold_lock(Context& context, const std::string& name, bool take) {
  auto lock = context.client().lock(name).value();
  if (!take) return lock.release().has_value();
  return lock.try_lock();
}

}  // namespace

TASKPOOL_MODULE(m, "nested") {
  m.def("hold_lock", &hold_lock);
  m.def("sum_of_squares", &sum_of_squares);
  m.def("make_dict", &make_dict);
  m.def("make_dicts", &make_dicts);
  m.def("make_opaque", &make_opaque);
  m.def("make_and_sleep", &make_and_sleep);
  m.def("make_nothing", &make_nothing);
}
