#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <boost/test/unit_test.hpp>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "taskpool/direct.hpp"
#include "taskpool/objects.hpp"
#include "tests/support/private_daemon.hpp"

// Objects of the shared store in C++, with the real daemon.

using namespace taskpool;
using namespace std::chrono_literals;
using taskpool::test::Daemon;

namespace {

/// What has to come about sooner or later.
template <class F>
bool eventually(const F& holds) {
  const auto end = std::chrono::steady_clock::now() + 60s;
  while (!holds()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(2ms);
  }
  return true;
}

/// Runs `work` in so many threads, each with its number; what it throws is counted.
template <class F>
int in_threads(int count, const F& work) {
  std::atomic<int> failed{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i)
    threads.emplace_back([&, i] {
      try {
        work(i);
      } catch (const std::exception&) {
        ++failed;
      }
    });
  for (auto& thread : threads) thread.join();
  return failed;
}

/// Runs `work` in a forked child, which ends with what it returns.
template <class F>
pid_t in_child(const F& work) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    int code = 99;
    try {
      code = work();
    } catch (const std::exception&) {
    }
    ::_exit(code);
  }
  return pid;
}

int exit_code_of(pid_t pid) {
  int status = 0;
  ::waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

BOOST_FIXTURE_TEST_SUITE(objects, Daemon)

BOOST_AUTO_TEST_CASE(a_dict_does_what_a_dict_does) {
  const auto d = client.dict<std::string, int>("d").value();
  BOOST_TEST(d.created());
  BOOST_TEST((!client.dict<std::string, int>("d").value().created()));
  BOOST_TEST(d.set("ada", 1).has_value());
  BOOST_TEST(d.get("ada").value().value() == 1);
  BOOST_TEST(d.incr("ada", 41).value() == 42);
  BOOST_TEST(d.at("ada").value() == 42);
  BOOST_TEST(d.get_or_set("bob", 7).value() == 7);
  BOOST_TEST(d.get_or_set("bob", 8).value() == 7);
  BOOST_TEST(d.compare_and_set("bob", 7, 9).value());
  BOOST_TEST(!d.compare_and_set("bob", 7, 10).value());
  BOOST_TEST(d.compare_and_set("eve", std::nullopt, 3).value());
  BOOST_TEST(d.size().value() == 3u);
  BOOST_TEST((d.keys().value() == std::vector<std::string>{"ada", "bob", "eve"}));
  BOOST_TEST(d.pop("bob").value().value() == 9);
  BOOST_TEST(!d.pop("bob").value());
  BOOST_TEST(d.erase("eve").value());
  BOOST_TEST(!d.erase("eve").value());
  const auto last = d.pop_item().value();
  BOOST_TEST(last->first == "ada");
  BOOST_TEST(last->second == 42);
  BOOST_TEST(!d.pop_item().value());
  std::map<std::string, int> many;
  for (int i = 0; i < 5000; ++i) many[std::to_string(i)] = i;
  BOOST_TEST(d.update(many).has_value());
  BOOST_TEST(d.size().value() == 5000u);
  std::set<std::string> met;
  BOOST_TEST(d.scan([&](const std::string& key, int) { return met.insert(key).second || true; }).has_value());
  BOOST_TEST(met.size() == 5000u);
  const auto version = d.version().value();
  BOOST_TEST(d.replace_if(version, std::map<std::string, int>{{"only", 1}}).value());
  BOOST_TEST(!d.replace_if(version, std::map<std::string, int>{}).value());
  BOOST_TEST(d.items().value().size() == 1u);
  BOOST_TEST(d.clear().has_value());
  BOOST_TEST(d.size().value() == 0u);
  BOOST_TEST(d.remove().has_value());
  BOOST_TEST((d.get("ada").error().errc() == Errc::unknown_object));
  BOOST_TEST((d.set("ada", 1).error().errc() == Errc::unknown_object));
}

BOOST_AUTO_TEST_CASE(keys_and_values_have_many_types) {
  const auto d = client.dict<nlohmann::json, nlohmann::json>("d").value();
  BOOST_TEST(d.set(1, "integer").has_value());
  BOOST_TEST(d.set("1", "text").has_value());
  BOOST_TEST(d.set({1, "a"}, {{"deep", {1, 2}}}).has_value());
  BOOST_TEST(d.set(nullptr, nullptr).has_value());
  BOOST_TEST(d.get(1.0).value().value() == "integer");
  BOOST_TEST(d.get("1").value().value() == "text");
  BOOST_TEST(d.get({1, "a"}).value().value()["deep"][1] == 2);
  BOOST_TEST(d.get(nullptr).value().value().is_null());
  BOOST_TEST((d.set({{"an", "object"}}, 1).error().errc() == Errc::bad_key));
  BOOST_TEST((d.set(std::string(2000, 'x'), 1).error().errc() == Errc::bad_key));
  BOOST_TEST((client.dict<std::string, int>("d").value().incr("1").error().errc() == Errc::wrong_type));
  BOOST_TEST((client.list<int>("d").error().errc() == Errc::wrong_type));

  const auto bytes = client.dict<std::tuple<int, std::string>, Bytes>("bytes").value();
  for (const std::size_t size : {0u, 100u, 70'000u, 1u << 20, 8u << 20}) {
    const Bytes value(size, std::byte{7});
    BOOST_TEST(bytes.set({1, "a"}, value).has_value());
    BOOST_TEST((bytes.get({1, "a"}).value().value() == value));
  }
  BOOST_TEST((bytes.set({1, "a"}, Bytes((8u << 20) + 1)).error().errc() == Errc::body_too_large));
  BOOST_TEST(bytes.pop({1, "a"}).value()->size() == (8u << 20));
}

BOOST_AUTO_TEST_CASE(a_list_does_what_a_list_does) {
  const auto l = client.list<int>("l").value();
  BOOST_TEST(l.append(3).has_value());
  BOOST_TEST(l.extend(std::vector{1, 2}).has_value());
  BOOST_TEST(l.insert(0, 9).has_value());
  BOOST_TEST((l.items().value() == std::vector{9, 3, 1, 2}));
  BOOST_TEST(l.get(-1).value() == 2);
  BOOST_TEST(l.set(-1, 5).has_value());
  BOOST_TEST(l.pop(0).value() == 9);
  BOOST_TEST(l.pop().value() == 5);
  BOOST_TEST((l.pop(7).error().errc() == Errc::out_of_range));
  BOOST_TEST(l.reverse().has_value());
  BOOST_TEST((l.items().value() == std::vector{1, 3}));
  BOOST_TEST(l.assign(std::vector{5, 3, 4}).has_value());
  BOOST_TEST(l.modify([](std::vector<int>& all) { std::sort(all.begin(), all.end()); }).has_value());
  BOOST_TEST((l.items().value() == std::vector{3, 4, 5}));
  BOOST_TEST(l.erase(1).has_value());
  BOOST_TEST(l.erase(0, 1).has_value());
  BOOST_TEST(l.size().value() == 1u);
  BOOST_TEST(l.clear().has_value());
  BOOST_TEST((l.get(0).error().errc() == Errc::out_of_range));
}

BOOST_AUTO_TEST_CASE(values_arrays_and_namespaces) {
  const auto v = client.value<int>("v", 5).value();
  BOOST_TEST(v.get().value() == 5);
  BOOST_TEST(v.incr(2).value() == 7);
  BOOST_TEST(v.compare_and_set(7, 8).value());
  BOOST_TEST(!v.compare_and_set(7, 9).value());
  BOOST_TEST(client.value<int>("v", 1).value().get().value() == 8);

  const auto a = client.array<double>("a", 10).value();
  BOOST_TEST(a.get(3).value() == 0.0);
  BOOST_TEST(a.set(3, 2.5).has_value());
  BOOST_TEST(a.incr(3, 1.0).value() == 3.5);
  BOOST_TEST(a.set_slice(8, std::vector{1.0, -1.0}).has_value());
  BOOST_TEST((a.slice(7).value() == std::vector{0.0, 1.0, -1.0}));
  BOOST_TEST(a.get(-1).value() == -1.0);
  BOOST_TEST((a.get(10).error().errc() == Errc::out_of_range));
  BOOST_TEST((a.get(-11).error().errc() == Errc::out_of_range));
  BOOST_TEST((a.set(10, 1.0).error().errc() == Errc::out_of_range));
  BOOST_TEST((client.array<int>("a", 10).error().errc() == Errc::wrong_type));
  BOOST_TEST((client.array<double>("a", 11).error().errc() == Errc::wrong_type));
  const auto check = [&]<class T>(T low, T high) {
    const auto own = client.array<T>("", 2).value();
    BOOST_TEST(own.set(0, low).has_value());
    BOOST_TEST(own.set(1, high).has_value());
    BOOST_TEST((own.slice().value() == std::vector<T>{low, high}));
    BOOST_TEST(own.compare_and_set(0, low, high).value());
    BOOST_TEST(own.get(0).value() == high);
  };
  check(std::int8_t{-128}, std::int8_t{127});
  check(std::uint16_t{0}, std::uint16_t{65535});
  check(std::numeric_limits<std::int64_t>::min(), std::numeric_limits<std::int64_t>::max());
  check(std::uint64_t{0}, std::numeric_limits<std::uint64_t>::max());
  check(-1.5f, 1e30f);

  const auto n = client.name_space("n").value();
  BOOST_TEST(n.set("x", 1).has_value());
  BOOST_TEST(n.set("y", "text").has_value());
  BOOST_TEST(n.get<int>("x").value() == 1);
  BOOST_TEST(n.get<std::string>("y").value() == "text");
  BOOST_TEST((n.get<int>("z").error().errc() == Errc::unknown_key));
  BOOST_TEST((n.attributes().value() == std::vector<std::string>{"x", "y"}));
  BOOST_TEST(n.erase("x").value());
}

BOOST_AUTO_TEST_CASE(queues_wait_for_items_and_for_room) {
  const auto q = client.queue<std::string>("q", 2).value();
  BOOST_TEST(!q.try_get().value());
  BOOST_TEST(!q.get_for(20ms).value());
  BOOST_TEST(q.put("a").has_value());
  BOOST_TEST(q.put("b").has_value());
  BOOST_TEST(!q.try_put("c").value());
  BOOST_TEST(q.full().value());
  BOOST_TEST(q.size().value() == 2u);
  const auto other = Client::connect().value().queue<std::string>("q").value();
  BOOST_TEST(in_threads(2, [&](int i) {
               if (i == 0)
                 q.put("c").value();
               else if (other.get().value() != "a")
                 throw std::runtime_error{"order"};
             }) == 0);
  BOOST_TEST(q.get().value() == "b");
  BOOST_TEST(q.get().value() == "c");

  const auto j = client.joinable_queue<int>("j").value();
  BOOST_TEST(j.join_for(1s).value());
  BOOST_TEST(j.put(1).has_value());
  BOOST_TEST(!j.join_for(10ms).value());
  BOOST_TEST(j.get().value() == 1);
  BOOST_TEST(j.task_done().has_value());
  BOOST_TEST(j.join().has_value());
  BOOST_TEST((j.task_done().error().errc() == Errc::out_of_range));
}

BOOST_AUTO_TEST_CASE(what_several_add_up_is_exact) {
  constexpr int kThreads = 4;
  constexpr int kTimes = 200;
  const auto total = client.value<int>("total", 0).value();
  BOOST_TEST(in_threads(kThreads, [&](int) {
               const auto own = Client::connect().value();
               auto lock = own.lock("total.lock").value();
               const auto sum = own.value<int>("total").value();
               for (int i = 0; i < kTimes; ++i) {
                 const std::lock_guard guard{lock};
                 sum.set(sum.get().value() + 1).value();
               }
             }) == 0);
  BOOST_TEST(total.get().value() == kThreads * kTimes);
  // Threads that share a client have locks and waits of their own.
  BOOST_TEST(in_threads(kThreads, [&](int) {
               for (int i = 0; i < kTimes; ++i) {
                 auto lock = client.lock("total.lock").value();
                 const std::lock_guard guard{lock};
                 total.set(total.get().value() + 1).value();
               }
             }) == 0);
  BOOST_TEST(total.get().value() == 2 * kThreads * kTimes);
  BOOST_TEST(in_threads(kThreads, [&](int) {
               for (int i = 0; i < kTimes; ++i) total.incr().value();
             }) == 0);
  BOOST_TEST(total.get().value() == 3 * kThreads * kTimes);
}

BOOST_AUTO_TEST_CASE(tasks_share_objects_with_whoever_started_them) {
  PoolOptions options;
  options.workers = 3;
  options.modules = {SHARED_MODULE};
  const auto its_pool = client.open_pool(options).value();
  for (const char* way : {"add_with_lock", "add_with_incr"}) {
    const auto name = std::string{way} + ".total";
    const auto total = client.value<std::int64_t>(name, 0).value();
    const std::vector<std::tuple<std::string, int>> inputs(6, {name, 100});
    BOOST_TEST(its_pool.starmap<std::int64_t>(way, inputs, {.chunk = 1}).has_value());
    BOOST_TEST(total.get().value() == 600);
  }
  const std::vector<std::tuple<std::string, int>> inputs(6, {"cell", 100'000});
  BOOST_TEST(its_pool.starmap<std::int64_t>("add_direct", inputs, {.chunk = 1}).has_value());
  BOOST_TEST(its_pool.apply<std::int64_t>("read_direct", "cell").value() == 600'000);
}

BOOST_AUTO_TEST_CASE(a_result_keeps_the_objects_that_it_names) {
  using Made = Dict<std::string, std::int64_t>;
  PoolOptions options;
  options.workers = 2;
  options.modules = {NESTED_MODULE};
  const auto its_pool = client.open_pool(options).value();
  const auto number = [&](const ObjectRef& ref) {
    return client.open<Made>(ref).value().get("number").value().value_or(0);
  };

  auto body = its_pool.apply<Body>("make_dict", 1).value();
  auto future = its_pool.apply_async<ObjectRef>("make_dict", 2);
  BOOST_TEST(future.wait_for(60s));
  auto map = its_pool.map_async<ObjectRef>("make_dict", std::vector<int>{3, 4});
  BOOST_TEST(map.wait_for(60s));
  auto stream = its_pool.imap<ObjectRef>("make_dict", std::vector<int>{5});
  const auto first = stream.next();
  const auto task = its_pool.submit("make_dict", 6).value();
  BOOST_TEST(client.wait(task).has_value());
  const auto opened = client.open<Made>(its_pool.apply<ObjectRef>("make_dict", 7).value()).value();

  const auto let_go = its_pool.apply<ObjectRef>("make_dict", 8).value();
  BOOST_TEST(eventually([&] {
    const auto rows = client.objects().value()["objects"];
    return std::none_of(rows.begin(), rows.end(), [&](const auto& row) { return row["object"] == let_go.id; });
  }));
  BOOST_TEST(number(nlohmann::json::parse(body.text()).get<ObjectRef>()) == 1);
  BOOST_TEST(number(future.get().value()) == 2);
  const auto both = map.get().value();
  BOOST_TEST(number(both[0]) == 3);
  BOOST_TEST(number(both[1]) == 4);
  BOOST_TEST(first.has_value());
  BOOST_TEST(number(client.fetch<ObjectRef>(task).value()) == 6);
  BOOST_TEST(opened.get("number").value().value() == 7);
}

BOOST_AUTO_TEST_CASE(the_next_owner_learns_that_the_last_one_died) {
  auto lock = client.lock("l").value();
  int ready[2];
  BOOST_REQUIRE(::pipe(ready) == 0);
  const pid_t child = in_child([&] {
    lock.lock();  // a session of its own: handles go on after a fork
    (void)!::write(ready[1], "x", 1);
    for (;;) ::pause();
    return 0;
  });
  char byte = 0;
  BOOST_REQUIRE(::read(ready[0], &byte, 1) == 1);
  BOOST_TEST(!lock.try_lock());
  const auto held = client.locks("l").value()["locks"];
  BOOST_TEST(held.at(0)["holders"].size() == 1u);
  ::kill(child, SIGKILL);
  const auto acquired = lock.acquire(Patience::up_to(60s)).value();
  BOOST_TEST(acquired.held);
  BOOST_TEST(acquired.owner_died);
  BOOST_TEST(lock.release().has_value());
  BOOST_TEST((lock.release().error().errc() == Errc::not_owner));
  BOOST_TEST(exit_code_of(child) == 128 + SIGKILL);
  ::close(ready[0]);
  ::close(ready[1]);
}

BOOST_AUTO_TEST_CASE(an_rlock_counts_and_a_semaphore_too) {
  auto lock = client.rlock("r").value();
  lock.lock();
  BOOST_TEST(lock.try_lock());
  BOOST_TEST(in_threads(1, [&](int) {
               if (lock.acquire(Patience::none()).value().held) throw std::runtime_error{"held"};
               if (lock.release().has_value()) throw std::runtime_error{"released"};
             }) == 0);
  BOOST_TEST(lock.release().has_value());
  BOOST_TEST(lock.release().has_value());
  BOOST_TEST((lock.release().error().errc() == Errc::not_owner));

  const auto semaphore = client.bounded_semaphore("s", 2).value();
  BOOST_TEST(semaphore.acquire().value().held);
  BOOST_TEST(semaphore.try_acquire().value());
  BOOST_TEST(!semaphore.try_acquire_for(10ms).value());
  BOOST_TEST(semaphore.value().value() == 0u);
  BOOST_TEST(semaphore.release(2).has_value());
  BOOST_TEST((semaphore.release().error().errc() == Errc::out_of_range));
}

BOOST_AUTO_TEST_CASE(events_conditions_and_barriers_bring_threads_together) {
  const auto event = client.event("e").value();
  BOOST_TEST(!event.wait_for(10ms).value());
  BOOST_TEST(in_threads(3, [&](int i) {
               if (i == 0)
                 event.set().value();
               else
                 event.wait().value();
             }) == 0);
  BOOST_TEST(event.is_set().value());
  BOOST_TEST(event.clear().has_value());
  BOOST_TEST(!event.is_set().value());

  const auto value = client.value<int>("turn", 0).value();
  BOOST_TEST(in_threads(3, [&](int i) {
               auto condition = client.condition("c").value();
               std::unique_lock lock{condition};
               const auto my_turn = [&] { return value.get().value() == i; };
               if (!condition.wait_until_true(my_turn, Patience::up_to(60s)).value()) throw std::runtime_error{"late"};
               value.set(i + 1).value();
               condition.notify_all().value();
             }) == 0);
  BOOST_TEST(value.get().value() == 3);
  BOOST_TEST((client.condition("c").value().notify().error().errc() == Errc::not_owner));

  std::atomic<int> acted{0};
  std::atomic<unsigned> places{0};
  BOOST_TEST(in_threads(4, [&](int) {
               const auto barrier = client.barrier("b", 4, true).value();
               for (int round = 0; round < 3; ++round)
                 places += 1u << (8 * barrier.wait(Patience::up_to(60s), [&] { ++acted; }).value());
             }) == 0);
  BOOST_TEST(acted == 3);
  BOOST_TEST(places == 0x03030303u);
  const auto barrier = client.barrier("b", 4).value();
  BOOST_TEST((barrier.wait(Patience::up_to(10ms)).error().errc() == Errc::broken || barrier.state().value().broken));
  BOOST_TEST(barrier.reset().has_value());
  BOOST_TEST(!barrier.state().value().broken);
  BOOST_TEST(barrier.state().value().parties == 4u);
}

BOOST_AUTO_TEST_CASE(whole_objects_are_of_one_moment) {
  const auto d = client.dict<int, int>("pairs").value();
  BOOST_TEST(d.update(std::map<int, int>{{0, 50}, {1, 50}}).has_value());
  std::atomic<bool> stop{false};
  std::atomic<int> failed{0};
  std::thread writer{[&] {
    const auto own = Client::connect().value();
    const auto its = own.dict<int, int>("pairs").value();
    for (int i = 0; !stop; ++i) {
      auto batch = own.batch();
      const int by = i % 2 == 0 ? 7 : -7;
      failed += !batch.incr(its, 0, by).incr(its, 1, -by).commit().has_value();
    }
  }};
  for (int i = 0; i < 2000; ++i) {
    const auto values = d.values();
    if (!values || values->size() != 2 || (*values)[0] + (*values)[1] != 100) ++failed;
  }
  stop = true;
  writer.join();
  BOOST_TEST(failed == 0);
}

BOOST_AUTO_TEST_CASE(a_batch_is_all_or_nothing) {
  const auto d = client.dict<std::string, int>("d").value();
  const auto l = client.list<int>("l").value();
  auto batch = client.batch();
  batch.set(d, "a", 1).append(l, 1).erase(d, "none");
  const auto failed = batch.commit();
  BOOST_TEST((failed.error().errc() == Errc::unknown_key));
  BOOST_TEST(failed.error().detail.starts_with("operation 3: "));
  BOOST_TEST(d.size().value() == 0u);
  BOOST_TEST(l.size().value() == 0u);
  batch.set(d, "a", 1).append(l, 1).incr(d, "a", 5).pop(d, "a");
  auto results = batch.commit().value();
  BOOST_TEST(results.get<int>(2).value() == 6);
  BOOST_TEST(results.get<int>(3).value() == 6);
  BOOST_TEST(l.size().value() == 1u);
}

BOOST_AUTO_TEST_CASE(objects_refer_to_objects) {
  const auto all = client.list<ObjectRef>("all").value();
  std::string id;
  {
    const auto inner = client.dict<std::string, int>("").value();
    BOOST_TEST(inner.set("x", 1).has_value());
    BOOST_TEST(all.append(inner.ref()).has_value());
    id = inner.id();
  }
  {
    const auto again = client.open<Dict<std::string, int>>(all.get(0).value()).value();
    BOOST_TEST(again.id() == id);
    BOOST_TEST(again.at("x").value() == 1);
  }
  BOOST_TEST(all.clear().has_value());
  const auto is_listed = [&] {  // to open it would keep it
    const auto rows = client.objects().value()["objects"];
    return std::any_of(rows.begin(), rows.end(), [&](const auto& row) { return row["object"] == id; });
  };
  BOOST_TEST(eventually([&] { return !is_listed(); }));
  BOOST_TEST((client.open<Dict<std::string, int>>(ObjectRef{id}).error().errc() == Errc::unknown_object));
}

BOOST_AUTO_TEST_CASE(a_watch_tells_what_others_do) {
  const auto d = client.dict<std::string, int>("d").value();
  auto watch = d.watch("a").value();
  const auto other = Client::connect().value().dict<std::string, int>("d").value();
  BOOST_TEST(other.set("b", 1).has_value());
  BOOST_TEST(other.set("a", 1).has_value());
  BOOST_TEST(other.erase("a").has_value());
  BOOST_TEST(other.set("a", 2, 20ms).has_value());
  BOOST_TEST((watch.next().value().kind == Change::Kind::set));
  BOOST_TEST((watch.next().value().kind == Change::Kind::erased));
  BOOST_TEST((watch.next().value().kind == Change::Kind::set));
  BOOST_TEST((watch.next().value().kind == Change::Kind::expired));
  BOOST_TEST(!d.get("a").value());
  BOOST_TEST(other.remove().has_value());
  BOOST_TEST((watch.next().value().kind == Change::Kind::removed));
}

BOOST_AUTO_TEST_CASE(a_daemon_that_was_killed_loses_nothing) {
  const auto d = client.dict<std::string, int>("d").value();
  auto lock = client.lock("l").value();
  lock.lock();
  const auto anonymous = client.list<int>("").value();
  BOOST_TEST(anonymous.append(1).has_value());
  for (int round = 0; round < 3; ++round) {
    std::vector<Future<void>> sets;
    for (int i = 0; i < 500; ++i) sets.push_back(d.set_async(std::to_string(i), round));
    (void)client.flush();  // fails if the end of the last daemon shows only now
    ::kill(static_cast<pid_t>(client.server().pid), SIGKILL);
    for (auto& each : sets) {
      const auto done = each.get();
      BOOST_TEST(done.has_value(), (done ? "" : done.error().detail));
    }
    for (int i = 0; i < 500; ++i) BOOST_REQUIRE(d.at(std::to_string(i)).value() == round);
  }
  BOOST_TEST(anonymous.append(2).has_value());
  BOOST_TEST((anonymous.items().value() == std::vector{1, 2}));
  BOOST_TEST(!Client::connect().value().lock("l").value().try_lock());
  BOOST_TEST(lock.release().has_value());
}

BOOST_AUTO_TEST_CASE(a_forked_child_goes_on_by_itself) {
  const auto d = client.dict<std::string, int>("d").value();
  BOOST_TEST(d.set("a", 1).has_value());
  BOOST_TEST(exit_code_of(in_child([&] {
               if (d.at("a").value() != 1) return 1;
               if (!d.set("a", 2)) return 2;
               return d.at("a").value() == 2 ? 0 : 3;
             })) == 0);
  BOOST_TEST(d.at("a").value() == 2);
  BOOST_TEST(d.incr("a").value() == 3);
}

BOOST_AUTO_TEST_CASE(a_buffer_is_memory_that_others_see) {
  const auto buffer = client.buffer("b", 1 << 20).value();
  BOOST_TEST(buffer.created());
  BOOST_TEST(buffer.size() == 1u << 20);
  {
    const auto other = Client::connect().value().buffer("b", 1 << 20).value();
    BOOST_TEST(!other.created());
    buffer.data()[4096] = std::byte{7};
    BOOST_TEST((other.data()[4096] == std::byte{7}));
  }
  auto mutex = DirectMutex::create(buffer.data(), 0).value();
  const auto cell = AtomicCell<std::int64_t>::open(buffer.data(), 128).value();
  std::vector<pid_t> children;
  for (int c = 0; c < 3; ++c)
    children.push_back(in_child([&] {
      auto own = DirectMutex::open(buffer.data(), 0).value();
      for (int i = 0; i < 1000; ++i) {
        const std::lock_guard guard{own};
        cell.set(cell.get() + 1);
      }
      return 0;
    }));
  for (const auto child : children) BOOST_TEST(exit_code_of(child) == 0);
  BOOST_TEST(cell.get() == 3000);
  BOOST_TEST(mutex.try_lock());
  mutex.unlock();
  BOOST_TEST(
      (client.buffer("none", 1, {.create = ObjectOptions::Create::never}).error().errc() == Errc::unknown_object));
}

BOOST_AUTO_TEST_CASE(objects_are_listed) {
  const auto d = client.dict<std::string, int>("listed").value();
  BOOST_TEST(d.set("a", 1).has_value());
  const auto rows = client.objects({.name = "listed"}).value()["objects"];
  BOOST_REQUIRE(rows.size() == 1u);
  BOOST_TEST(rows[0]["type"] == "dict");
  BOOST_TEST(rows[0]["entries"] == 1);
  BOOST_TEST(rows[0]["object"] == d.id());
}

BOOST_AUTO_TEST_SUITE_END()
