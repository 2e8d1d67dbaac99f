#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>
#include <string>
#include <taskpool/client.hpp>
#include <taskpool/objects.hpp>
#include <thread>
#include <vector>

#include "tests/chaos/mixed.hpp"

/// A program as users write it, which notes each call and what became of it: `chaos_client JOURNAL NUMBER SEED`, until
/// SIGTERM. The journal is what tests/chaos/journal.py reads; NUMBER makes its ids unlike all others.
namespace {

using nlohmann::json;
using taskpool::Errc;
using taskpool::Error;
using taskpool::Result;
using namespace std::chrono_literals;

std::atomic<bool> stopping = false;

class Journal {
 public:
  Journal(const char* path, std::int64_t number)
      : fd_{::open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600)}, number_{number} {}

  /// An id of this client's, followed by `room` - 1 free ones.
  std::int64_t new_id(std::int64_t room = 1) { return (number_ << 40) + next_.fetch_add(room); }
  std::int64_t begin(const char* kind, json fields = json::object()) {
    const auto call = new_id();
    fields["e"] = "begin";
    fields["call"] = call;
    fields["kind"] = kind;
    write(std::move(fields));
    return call;
  }
  void end(std::int64_t call, json fields) {
    fields["e"] = "end";
    fields["call"] = call;
    write(std::move(fields));
  }
  void end(std::int64_t call, const Error& error) { end(call, of(error)); }
  template <class T>
  void end(std::int64_t call, const Result<T>& result) {
    if (result)
      end(call, json{{"code", "ok"}});
    else
      end(call, result.error());
  }
  static json of(const Error& error) { return {{"code", error.code.message()}, {"detail", error.detail}}; }

 private:
  void write(json fields) {
    fields["t"] = std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
    const auto line = fields.dump(-1, ' ', false, json::error_handler_t::replace) + '\n';
    if (::write(fd_, line.data(), line.size()) != static_cast<ssize_t>(line.size())) std::_Exit(70);
  }

  int fd_;
  std::int64_t number_;
  std::atomic<std::int64_t> next_ = 1;
};

/// What the threads share: the session, the journal, and luck.
struct Client {
  taskpool::Client session;
  Journal& journal;
  std::mt19937_64 luck;

  std::int64_t below(std::int64_t bound) {
    return std::uniform_int_distribution<std::int64_t>{0, std::max<std::int64_t>(bound, 1) - 1}(luck);
  }
  void pause(int most_ms) { std::this_thread::sleep_for(std::chrono::milliseconds{below(most_ms)}); }
};

/// The outcomes of a map whose items are effects with consecutive ids, as the journal has them.
class Outcomes {
 public:
  explicit Outcomes(std::int64_t base) : base_{base} {}
  void add(std::uint64_t index, const Result<std::int64_t>& value) {
    ++count_;
    if (!value)
      failed_[value.error().code.message()].push_back(index);
    else if (*value != taskpool::chaos::mixed(base_ + static_cast<std::int64_t>(index)))
      wrong_.push_back(index);
  }
  json fields() const { return {{"code", "ok"}, {"outcomes", count_}, {"failed", failed_}, {"wrong", wrong_}}; }

 private:
  std::int64_t base_;
  std::uint64_t count_ = 0;
  std::map<std::string, std::vector<std::uint64_t>> failed_;
  std::vector<std::uint64_t> wrong_;
};

json each_of(std::int64_t base, const Result<std::vector<Result<std::int64_t>>>& results) {
  if (!results) return Journal::of(results.error());
  Outcomes outcomes{base};
  std::uint64_t index = 0;
  for (const auto& each : *results) outcomes.add(index++, each);
  return outcomes.fields();
}

json single(std::int64_t id, const Result<std::int64_t>& result) {
  if (!result) return Journal::of(result.error());
  json fields{{"code", "ok"}};
  if (*result != taskpool::chaos::mixed(id)) fields["wrong"] = json::array({0});
  return fields;
}

// Calls

void apply(Client& client) {
  const auto id = client.journal.new_id();
  const auto call = client.journal.begin("apply", {{"effects", {id, 1}}});
  client.journal.end(call, single(id, client.session.pool().apply<std::int64_t>("effect", id, client.below(20))));
}

void apply_repeated(Client& client) {
  const auto id = client.journal.new_id();
  const auto call = client.journal.begin("apply", {{"effects", {id, 1}}, {"repeats", true}});
  client.journal.end(
      call,
      single(id, client.session.pool().with({.lost_retries = 5}).apply<std::int64_t>("effect", id, client.below(20))));
}

void nested(Client& client) {
  const auto id = client.journal.new_id();
  const auto call = client.journal.begin("nested", {{"effects", {id, 1}}, {"inner", true}});
  client.journal.end(call, single(id, client.session.pool().apply<std::int64_t>("nested", id, client.below(10))));
}

void keyed(Client& client) {
  const auto id = client.journal.new_id();
  const auto key = "chaos-" + std::to_string(id);
  const auto call = client.journal.begin("apply", {{"effects", {id, 1}}, {"key", key}});
  const auto pool = client.session.pool().with({.idempotency_key = key});
  client.journal.end(call, single(id, pool.apply<std::int64_t>("effect", id, client.below(40))));
}

void burst(Client& client) {
  struct Started {
    std::int64_t id;
    std::int64_t call;
    taskpool::Future<std::int64_t> future;
  };
  std::vector<Started> started;
  for (int i = 0; i < 40; ++i) {
    const auto id = client.journal.new_id();
    const auto call = client.journal.begin("apply", {{"effects", {id, 1}}});
    started.push_back({id, call, client.session.pool().apply_async<std::int64_t>("effect", id, 0)});
  }
  for (auto& each : started) client.journal.end(each.call, single(each.id, each.future.get()));
}

void timed(Client& client) {
  const auto id = client.journal.new_id();
  const auto call = client.journal.begin("apply", {{"effects", {id, 1}}, {"ends", "timed_out"}});
  const auto pool = client.session.pool().with({.timeout = 50ms});
  client.journal.end(call, single(id, pool.apply<std::int64_t>("effect", id, 60'000)));
}

void cancelled(Client& client) {
  const auto id = client.journal.new_id();
  const auto call = client.journal.begin("apply", {{"effects", {id, 1}}, {"ends", "cancelled"}});
  auto future = client.session.pool().apply_async<std::int64_t>("effect", id, 60'000);
  (void)future.wait_for(std::chrono::milliseconds{client.below(20)});
  // A call that never reached this daemon's predecessor is sent to the next one: there it has to be cancelled again.
  for (int tries = 0; tries < 50 && !future.ready(); ++tries) {
    (void)future.cancel(client.below(2) == 0 ? taskpool::CancelMode::kill : taskpool::CancelMode::ask);
    (void)future.wait_for(200ms);
  }
  client.journal.end(call, single(id, future.get()));
}

void large(Client& client) {
  const auto call = client.journal.begin("apply");
  std::vector<std::byte> bytes(static_cast<std::size_t>(100'000 + client.below(400'000)));
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 7 + bytes.size());
  const auto back = client.session.pool().apply<taskpool::Bytes>("echo", bytes);
  json fields = back ? json{{"code", "ok"}} : Journal::of(back.error());
  if (back && !std::ranges::equal(*back, bytes)) fields["wrong"] = json::array({0});
  client.journal.end(call, std::move(fields));
}

void map_numbers(Client& client) {
  const auto size = 1 + client.below(1'200);
  std::vector<std::int64_t> numbers(static_cast<std::size_t>(size));
  std::iota(numbers.begin(), numbers.end(), client.below(1'000'000));
  const auto call = client.journal.begin("map", {{"items", size}});
  client.journal.end(call, each_of(numbers.front(), client.session.pool().map_each<std::int64_t>("mixed", numbers)));
}

std::vector<json> effect_items(Client& client, std::int64_t base, std::int64_t size) {
  std::vector<json> items;
  for (std::int64_t i = 0; i < size; ++i) items.push_back(json::array({base + i, client.below(4)}));
  return items;
}

void map_effects(Client& client, bool with_key) {
  const auto size = 1 + client.below(40);
  const auto base = client.journal.new_id(size);
  json fields{{"effects", {base, size}}, {"items", size}};
  taskpool::CallOptions options;
  if (with_key) fields["key"] = options.idempotency_key = "chaos-" + std::to_string(base);
  const auto items = effect_items(client, base, size);
  const auto call = client.journal.begin("map", std::move(fields));
  client.journal.end(call, each_of(base, client.session.pool().with(options).map_each<std::int64_t>("effect", items)));
}

void imap(Client& client) {
  const auto size = 1 + client.below(40);
  const auto base = client.journal.new_id(size);
  const auto call = client.journal.begin("imap", {{"effects", {base, size}}, {"items", size}});
  const auto items = effect_items(client, base, size);
  Outcomes outcomes{base};
  auto stream = client.session.pool().imap_unordered<std::int64_t>("effect", items, {.window = 8});
  while (const auto output = stream.next()) outcomes.add(output->index, output->value);
  auto fields = outcomes.fields();
  // What an imap that failed as a whole never pulled has no outcome of its own.
  if (const auto done = stream.done(); !done) fields["job"] = done.error().code.message();
  client.journal.end(call, std::move(fields));
}

void detached(Client& client) {
  const auto id = client.journal.new_id();
  taskpool::CallOptions options;
  json fields{{"effects", {id, 1}}, {"detached", true}};
  if (client.below(2) == 0) fields["key"] = options.idempotency_key = "chaos-" + std::to_string(id);
  const auto call = client.journal.begin("apply", std::move(fields));
  const auto task = client.session.pool().with(options).submit("effect", id, client.below(30));
  if (!task) return client.journal.end(call, task.error());
  client.journal.end(call, json{{"code", "ok"}, {"task", *task}});  // whoever ends the test fetches what we do not
  if (client.below(2) == 0) return;
  const auto fetching = client.journal.begin("fetch", {{"task", *task}, {"of", id}});
  const auto row = client.session.wait(*task, 20s);
  if (!row) return client.journal.end(fetching, row.error());
  client.journal.end(fetching, single(id, client.session.fetch<std::int64_t>(*task)));
}

void run_calls(Client client) {
  while (!stopping) {
    switch (client.below(14)) {
      case 0:
      case 1: apply(client); break;
      case 2: apply_repeated(client); break;
      case 3:
      case 4: keyed(client); break;
      case 5: burst(client); break;
      case 6: timed(client); break;
      case 7: cancelled(client); break;
      case 8: large(client); break;
      case 9: map_numbers(client); break;
      case 10: map_effects(client, client.below(2) == 0); break;
      case 11: imap(client); break;
      case 12: detached(client); break;
      default: nested(client); break;
    }
    client.pause(30);
  }
}

// Shared objects

struct Objects {
  taskpool::Dict<std::string, std::int64_t> counters;
  taskpool::List<std::int64_t> list;
  taskpool::Queue<std::int64_t> queue;
  taskpool::Lock lock;
  taskpool::Value<std::int64_t> guarded;
};

void increment(Client& client, const Objects& objects, const std::string& own) {
  const auto call = client.journal.begin("incr", {{"key", own}});
  client.journal.end(call, objects.counters.incr(own, 1));
}

void append(Client& client, const Objects& objects) {
  const auto token = client.journal.new_id();
  const auto call = client.journal.begin("append", {{"token", token}});
  client.journal.end(call, objects.list.append(token));
}

void put(Client& client, const Objects& objects) {
  const auto token = client.journal.new_id();
  const auto call = client.journal.begin("put", {{"token", token}});
  const auto put = objects.queue.put_for(token, 300ms);
  client.journal.end(call, put ? json{{"code", *put ? "ok" : "full"}} : Journal::of(put.error()));
}

void get(Client& client, const Objects& objects) {
  const auto call = client.journal.begin("get");
  const auto token = objects.queue.get_for(300ms);
  if (!token) return client.journal.end(call, token.error());
  client.journal.end(call, *token ? json{{"code", "ok"}, {"token", **token}} : json{{"code", "empty"}});
}

/// Read, add, write: only the lock makes it right. A section that was broken off anywhere counts as unknown.
void section(Client& client, const Objects& objects) {
  const auto call = client.journal.begin("section");
  const auto acquired = objects.lock.acquire(taskpool::Patience::up_to(10s));
  if (!acquired) return client.journal.end(call, acquired.error());
  if (!acquired->held) return client.journal.end(call, json{{"code", "not_held"}});
  const auto before = objects.guarded.get();
  client.pause(3);
  const auto written = before ? objects.guarded.set(*before + 1) : Result<void>{before.error()};
  const auto after = objects.guarded.get();
  json fields = written ? json{{"code", "ok"}} : Journal::of(written.error());
  if (written && after && *after != *before + 1) fields["wrong"] = json::array({*before, *after});
  if (const auto released = objects.lock.release(); !released) fields["release"] = released.error().code.message();
  client.journal.end(call, std::move(fields));
}

void run_objects(Client client, const Objects& objects, const std::string& own) {
  while (!stopping) {
    switch (client.below(6)) {
      case 0: append(client, objects); break;
      case 1:
      case 2: section(client, objects); break;
      case 3: put(client, objects); break;
      case 4: get(client, objects); break;
      default: increment(client, objects, own); break;
    }
    client.pause(20);
  }
}

Result<Objects> open_objects(const taskpool::Client& client) {
  auto counters = client.dict<std::string, std::int64_t>("chaos.counters");
  if (!counters) return counters.error();
  auto list = client.list<std::int64_t>("chaos.list");
  if (!list) return list.error();
  auto queue = client.queue<std::int64_t>("chaos.queue", 100);
  if (!queue) return queue.error();
  auto lock = client.lock("chaos.lock");
  if (!lock) return lock.error();
  auto guarded = client.value<std::int64_t>("chaos.guarded");
  if (!guarded) return guarded.error();
  return Objects{*counters, *list, *queue, *lock, *guarded};
}

/// Tries until the daemon is there and has room: it may be restarting, or out of descriptors.
template <class Try>
auto until_there(const Try& attempt) {
  for (;;) {
    auto result = attempt();
    if (result) return std::move(*result);
    std::fprintf(stderr, "%s: %s\n", result.error().code.message().c_str(), result.error().detail.c_str());
    if (stopping) std::_Exit(0);
    std::this_thread::sleep_for(100ms);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  ::signal(SIGTERM, [](int) { stopping = true; });
  Journal journal{argv[1], std::atoll(argv[2])};
  const auto seed = static_cast<std::uint64_t>(std::atoll(argv[3]));
  const auto session = until_there([] { return taskpool::Client::connect({.name = "chaos", .autostart = false}); });
  const auto objects = until_there([&] { return open_objects(session); });
  std::vector<std::thread> threads;
  for (std::uint64_t i = 0; i < 2; ++i)
    threads.emplace_back([&, i] { run_calls(Client{session, journal, std::mt19937_64{seed + i}}); });
  threads.emplace_back([&] { run_objects(Client{session, journal, std::mt19937_64{seed + 2}}, objects, argv[2]); });
  for (auto& thread : threads) thread.join();
  return 0;
}
