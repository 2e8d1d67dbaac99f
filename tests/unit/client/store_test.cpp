#include <sys/wait.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <mutex>

#include "fake_store.hpp"
#include "taskpool/objects.hpp"

using namespace taskpool;
using namespace taskpool::test;
using namespace std::chrono_literals;
using store::Code;
using store::ObjectType;

namespace {

/// A client and the daemon that a test plays.
struct Playing : Connected {
  FakeSegment segment;
  store::ObjectInfo object;

  /// Runs `open` with a client whose object is a new one of that type.
  template <class F>
  auto open(ObjectType type, const F& call) {
    object = segment.make(type);
    decltype(call(client)) handle = fail(Errc::internal, "");
    {
      const Background opening{[&] { handle = call(client); }};
      segment.open(*peer, object);
    }
    return handle.value();
  }
  Dict<std::string, int> dict() {
    return open(ObjectType::dict, [](const Client& c) { return c.dict<std::string, int>("d"); });
  }
};

void impatient(ClientOptions& options) { options.reconnect_timeout = 100ms; }

std::string text_key(std::string_view text) { return "\x03" + std::string{text}; }

}  // namespace

BOOST_FIXTURE_TEST_SUITE(store_client, Playing)

BOOST_AUTO_TEST_CASE(a_dict_is_read_without_the_daemon) {
  const auto d = dict();
  segment.put(object, "ada", "42");
  segment.put(object, "bob", "7");
  BOOST_TEST(d.get("ada").value().value() == 42);
  BOOST_TEST(!d.get("eve").value());
  BOOST_TEST((d.at("eve").error().errc() == Errc::unknown_key));
  BOOST_TEST(d.contains("bob").value());
  BOOST_TEST(!d.contains("eve").value());
  BOOST_TEST(d.size().value() == 2u);
  BOOST_TEST((d.keys().value() == std::vector<std::string>{"ada", "bob"}));
  BOOST_TEST((d.values().value() == std::vector<int>{42, 7}));
  BOOST_TEST(d.items().value().at(1).first == "bob");
  std::size_t met = 0;
  BOOST_TEST(d.scan([&](const std::string&, int) { return ++met > 0; }).has_value());
  BOOST_TEST(met == 2u);
  std::array<std::byte, 8> into;
  BOOST_TEST(d.get_into("ada", into).value().value() == 2u);
  BOOST_TEST((d.get_into("ada", std::span{into}.first(1)).error().errc() == Errc::body_too_large));
  segment.put(object, "ada", "\"text\"");
  BOOST_TEST((d.get("ada").error().errc() == Errc::bad_message));
  BOOST_TEST(d.created());
  BOOST_TEST(d.id() == "u0-" + std::to_string(static_cast<std::uint64_t>(object.id)));
}

BOOST_AUTO_TEST_CASE(values_of_any_size_are_read) {
  const auto d = open(ObjectType::dict, [](const Client& c) { return c.dict<std::string, std::string>("d"); });
  for (const std::size_t size : {std::size_t{0}, std::size_t{1020}, std::size_t{5000}, std::size_t{1} << 20}) {
    segment.put(object, "k", '"' + std::string(size, 'x') + '"');
    BOOST_TEST(d.get("k").value().value().size() == size);
  }
}

BOOST_AUTO_TEST_CASE(a_removed_object_is_unknown) {
  const auto d = dict();
  segment.change([&](store::Transaction& transaction) { return segment.writer().remove(transaction, object.id); });
  BOOST_TEST((d.get("ada").error().errc() == Errc::unknown_object));
  BOOST_TEST((d.size().error().errc() == Errc::unknown_object));
  BOOST_TEST((d.items().error().errc() == Errc::unknown_object));
  BOOST_TEST((Dict<std::string, int>{}.size().error().errc() == Errc::unknown_object));
  BOOST_TEST((Dict<std::string, int>{}.get("a").error().errc() == Errc::unknown_object));
  BOOST_TEST((Dict<std::string, int>{}.set("a", 1).error().errc() == Errc::unknown_object));
}

BOOST_AUTO_TEST_CASE(opening_says_what_is_wanted_and_what_was_refused) {
  {
    const Background opening{[&] {
      expect(client.queue<int>("q", 3, {.group = "staff", .create = ObjectOptions::Create::exclusive}).error().errc() ==
             Errc::object_exists);
    }};
    const auto frame = peer->next(Op::object_open);
    BOOST_TEST(frame.fields() ==
               nlohmann::json::parse(
                   R"({"name": "q", "type": "queue", "group": "staff", "create": "exclusive", "maxsize": 3})"));
    peer->error(frame, "object_exists", "queue q");
  }
  {
    const Background opening{[&] { expect(client.value<int>("v", 5).has_value()); }};
    object = segment.make(ObjectType::value);
    BOOST_TEST(segment.open(*peer, object).text() == "5");
  }
  BOOST_TEST((client.lock(std::string(200, 'x')).error().errc() == Errc::bad_argument));
}

BOOST_AUTO_TEST_CASE(a_set_is_one_frame) {
  const auto d = dict();
  const Background setting{[&] {
    expect(d.set("ada", 42).has_value());
    expect(d.set("ada", 42, 5ms).has_value());
    expect(d.incr("ada", 2).value() == 44);
    expect(!d.erase("ada").value());
    expect(d.compare_and_set("ada", std::nullopt, 1).value());
    expect(!d.compare_and_set("ada", 1, 2).value());
    expect(d.set("ada", 1).error().errc() == Errc::store_full);
  }};
  Frame frame;
  auto operation = next_operation(*peer, &frame);
  BOOST_TEST((operation.code == Code::set));
  BOOST_TEST(operation.values.at(0).bytes == text_key("ada"));
  BOOST_TEST(operation.values.at(1).bytes == "42");
  BOOST_TEST(operation.values.size() == 2u);
  reply_to(*peer, frame);
  const auto first = frame.prefix.request;
  BOOST_TEST(next_operation(*peer, &frame).integer(2) == 5);
  BOOST_TEST(frame.prefix.request > first);
  reply_to(*peer, frame);
  BOOST_TEST((next_operation(*peer, &frame).code == Code::incr));
  reply_to(*peer, frame, {{"44"}});
  BOOST_TEST((next_operation(*peer, &frame).code == Code::erase));
  peer->error(frame, "unknown_key", "key: \"ada\"");
  operation = next_operation(*peer, &frame);
  BOOST_TEST(operation.values.at(1).encoding == 0);  // none: not there
  reply_to(*peer, frame);
  BOOST_TEST(next_operation(*peer, &frame).values.at(1).bytes == "1");
  peer->error(frame, "changed", "");
  (void)next_operation(*peer, &frame);
  peer->error(frame, "store_full", "no room");
}

BOOST_AUTO_TEST_CASE(keys_have_one_form) {
  const auto encoded = [](const auto& value) {
    EncodedKey key;
    BOOST_TEST(key.encode(value).has_value());
    return std::string{as_text(key.view())};
  };
  BOOST_TEST(encoded(1) == encoded(1.0));
  BOOST_TEST(encoded(1) == encoded(true));
  BOOST_TEST(encoded(1) == encoded(std::uint8_t{1}));
  BOOST_TEST(encoded(1) == encoded(nlohmann::json(1)));
  BOOST_TEST(encoded(1) != encoded("1"));
  BOOST_TEST(encoded("a") == text_key("a"));
  BOOST_TEST(encoded(std::tuple{1, "a"}) == encoded(nlohmann::json{1, "a"}));
  BOOST_TEST(encoded(std::pair{-7, 2.5}) == encoded(nlohmann::json{-7, 2.5}));
  BOOST_TEST(encoded(Bytes(3)) == std::string("\x04\0\0\0", 4));
  EncodedKey key;
  BOOST_TEST((key.encode(nlohmann::json{{"a", 1}}).error().errc() == Errc::bad_key));
  BOOST_TEST((key.encode(std::string(2000, 'x')).error().errc() == Errc::bad_key));

  const auto decoded = [&]<class K>(const K& value) {
    EncodedKey made;
    BOOST_TEST(made.encode(value).has_value());
    return decode_key<K>(made.view()).value();
  };
  BOOST_TEST(decoded(std::int64_t{-5}) == -5);
  BOOST_TEST(decoded(std::string{"grün"}) == "grün");
  BOOST_TEST(decoded(2.5) == 2.5);
  BOOST_TEST((decoded(std::tuple{1, std::string{"a"}}) == std::tuple{1, std::string{"a"}}));
  BOOST_TEST((decoded(Bytes(3)) == Bytes(3)));
  BOOST_TEST((decode_key<int>(as_bytes(text_key("1"))).error().errc() == Errc::bad_message));
}

BOOST_AUTO_TEST_CASE(a_value_names_the_objects_that_it_refers_to) {
  const auto d = dict();
  const auto list = open(ObjectType::list, [](const Client& c) { return c.list<nlohmann::json>(""); });
  const Background appending{[&] {
    expect(list.append(d.ref()).has_value());
    expect(list.append({{"all", {d.ref(), 1}}}).has_value());
    expect(list.append({{"$ref", "nonsense"}}).error().errc() == Errc::bad_argument);
  }};
  Frame frame;
  auto operation = next_operation(*peer, &frame);
  BOOST_TEST(operation.values.at(0).bytes == R"({"$ref":")" + d.id() + "\"}");
  BOOST_TEST(operation.values.at(0).refs == std::vector<std::uint64_t>{std::stoull(d.id().substr(3))});
  reply_to(*peer, frame);
  BOOST_TEST(next_operation(*peer, &frame).values.at(0).refs.size() == 1u);
  reply_to(*peer, frame);
}

BOOST_AUTO_TEST_CASE(pipelined_sets_go_out_together_in_order) {
  const auto d = dict();
  std::vector<Future<void>> futures;
  for (int i = 0; i < 100; ++i) futures.push_back(d.set_async("k", i));
  BOOST_TEST(!peer->try_next());
  BOOST_TEST(client.flush().has_value());
  std::uint64_t last = 0;
  for (int i = 0; i < 100; ++i) {
    Frame frame;
    BOOST_TEST(next_operation(*peer, &frame).values.at(1).bytes == std::to_string(i));
    BOOST_REQUIRE(frame.prefix.request > last);
    last = frame.prefix.request;
    if (i == 50)
      peer->error(frame, "store_full", "");
    else
      reply_to(*peer, frame);
  }
  for (std::size_t i = 0; i < 100; ++i) BOOST_TEST(futures[i].get().has_value() == (i != 50));
}

BOOST_AUTO_TEST_CASE(a_batch_is_one_request) {
  const auto d = dict();
  const Background committing{[&] {
    auto batch = client.batch();
    batch.expect(d, 8).set(d, "ada", 1).incr(d, "bob", 2);
    auto results = batch.commit();
    expect(results.value().get<int>(2).value() == 5);
    expect(batch.empty());
    batch.set(d, "ada", 1).erase(d, "bob");
    const auto refused = batch.commit();
    expect(refused.error().errc() == Errc::unknown_key);
    expect(refused.error().detail == "operation 2: no bob");
    batch.set(d, std::string(2000, 'x'), 1).set(d, "ada", 1);
    expect(batch.commit().error().errc() == Errc::bad_key);  // nothing is sent
    expect(!d.replace_if(3, std::map<std::string, int>{{"a", 1}}).value());
  }};
  auto frame = peer->next(Op::store);
  auto operations = operations_of(frame);
  BOOST_TEST(operations.size() == 3u);
  BOOST_TEST(operations[0].integer(0) == 8);
  BOOST_TEST((operations[2].code == Code::incr));
  BOOST_TEST(operations[2].target == operations[0].target);
  reply_to(*peer, frame, {{}, {}, {"5"}});
  frame = peer->next(Op::store);
  Prefix prefix;
  prefix.op = Op::error;
  prefix.request = frame.prefix.request;
  peer->send(prefix, R"({"code":"unknown_key","detail":"no bob","index":1})");
  frame = peer->next(Op::store);
  operations = operations_of(frame);
  BOOST_TEST((operations.at(1).code == Code::clear));
  peer->error(frame, "changed", "");
}

BOOST_AUTO_TEST_CASE(an_update_of_any_size_is_cut) {
  const auto d = dict();
  std::vector<std::pair<std::string, int>> entries;
  for (int i = 0; i < 2500; ++i) entries.emplace_back(std::to_string(i), i);
  const Background updating{[&] { expect(d.update(entries).has_value()); }};
  for (const std::size_t want : {1024u, 1024u, 452u}) {
    const auto frame = peer->next(Op::store);
    BOOST_TEST(operations_of(frame).size() == want);
    reply_to(*peer, frame, std::vector<std::vector<std::string>>(want));
  }
}

BOOST_AUTO_TEST_CASE(large_values_go_through_the_arena) {
  const auto d = open(ObjectType::dict, [](const Client& c) { return c.dict<std::string, std::string>("d"); });
  const std::string large(100'000, 'x');
  const Background setting{[&] {
    expect(d.set("k", large).has_value());
    expect(d.set("k", std::string((8u << 20) + 1, 'x')).error().errc() == Errc::body_too_large);
    auto batch = client.batch();
    expect(batch.set(d, "k", large).commit().error().errc() == Errc::body_too_large);
  }};
  const auto arena = make_segment(8u << 20);
  const int fd = arena.get();
  peer->ok(peer->next(Op::arena_open), R"({"segment": 1, "bytes": 8388608})", {&fd, 1});
  Frame frame;
  const auto operation = next_operation(*peer, &frame);
  BOOST_TEST(operation.values.at(1).encoding == (store::kArgumentInArena | static_cast<int>(Encoding::json)));
  const auto ref = load<ArenaRef>(as_bytes(operation.values.at(1).bytes).data());
  BOOST_TEST(ref.bytes == large.size() + 2);
  BOOST_TEST(as_text(map_segment(arena, 8u << 20).subspan(ref.offset, ref.bytes)) == '"' + large + '"');
  reply_to(*peer, frame);
}

BOOST_AUTO_TEST_CASE(lists_are_read_from_both_ends) {
  const auto list = open(ObjectType::list, [](const Client& c) { return c.list<int>("l"); });
  for (int i = 0; i < 200; ++i) segment.append(object, std::to_string(i));
  BOOST_TEST(list.get(0).value() == 0);
  BOOST_TEST(list.get(199).value() == 199);
  BOOST_TEST(list.get(-1).value() == 199);
  BOOST_TEST(list.get(-200).value() == 0);
  BOOST_TEST((list.get(200).error().errc() == Errc::out_of_range));
  BOOST_TEST((list.get(-201).error().errc() == Errc::out_of_range));
  BOOST_TEST(list.items().value().size() == 200u);
}

BOOST_AUTO_TEST_CASE(a_list_is_changed_by_its_own_order_until_nobody_was_in_between) {
  const auto list = open(ObjectType::list, [](const Client& c) { return c.list<int>("l"); });
  for (const char* item : {"3", "1", "2"}) segment.append(object, item);
  const Background sorting{
      [&] { expect(list.modify([](std::vector<int>& all) { std::sort(all.begin(), all.end()); }).has_value()); }};
  auto frame = peer->next(Op::store);
  segment.append(object, "0");
  peer->error(frame, "changed", "");
  frame = peer->next(Op::store);
  const auto operations = operations_of(frame);
  BOOST_TEST(operations.at(0).integer(0) == static_cast<std::int64_t>(segment.version(object)));
  BOOST_TEST((operations.at(1).code == Code::list_replace));
  store::ArgumentReader items{as_bytes(operations[1].values.at(0).bytes)};
  BOOST_TEST(as_text(items.next()->bytes) == "0");
  reply_to(*peer, frame, {{}, {}});
}

BOOST_AUTO_TEST_CASE(an_object_that_keeps_changing_is_held) {
  const auto d = dict();
  segment.put(object, "ada", "1");
  const auto version = segment.version(object);
  segment.set_version(object, version + 1);  // in the middle of a change
  const Background reading{[&] { expect(d.items().value().size() == 1); }};
  Frame frame;
  BOOST_TEST((next_operation(*peer, &frame).code == Code::hold));
  segment.set_version(object, version + 2);
  reply_integers(*peer, frame, {static_cast<std::int64_t>(version + 2)});
  frame = peer->next(Op::store);
  BOOST_TEST((operations_of(frame).at(0).code == Code::unhold));
  BOOST_TEST(frame.prefix.flags == kQuiet);
}

BOOST_AUTO_TEST_CASE(a_lock_is_a_standard_one) {
  auto lock = open(ObjectType::lock, [](const Client& c) { return c.lock("l"); });
  const Background locking{[&] {
    { const std::lock_guard guard{lock}; }
    expect(lock.owner_died());
    expect(!lock.try_lock());
    const std::unique_lock timed{lock, 20ms};
    expect(!timed.owns_lock());
    expect(lock.release().error().errc() == Errc::not_owner);
    bool thrown = false;
    try {
      lock.lock();
    } catch (const std::system_error&) {
      thrown = true;
    }
    expect(thrown);
  }};
  Frame frame;
  auto operation = next_operation(*peer, &frame);
  BOOST_TEST((operation.code == Code::acquire));
  BOOST_TEST(operation.integer(1) == -1);
  const auto thread = operation.integer(0);
  reply_integers(*peer, frame, {1});
  frame = peer->next(Op::store);
  operation = operations_of(frame).at(0);
  BOOST_TEST((operation.code == Code::release));
  BOOST_TEST(operation.integer(0) == thread);
  BOOST_TEST(frame.prefix.flags == kQuiet);
  BOOST_TEST(next_operation(*peer, &frame).integer(1) == 0);
  peer->error(frame, "timed_out", "");
  BOOST_TEST(next_operation(*peer, &frame).integer(1) == 20);
  peer->error(frame, "timed_out", "");
  (void)next_operation(*peer, &frame);
  peer->error(frame, "not_owner", "");
  (void)next_operation(*peer, &frame);
  peer->error(frame, "unknown_object", "");
}

BOOST_AUTO_TEST_CASE(queues_tell_nothing_from_an_item) {
  const auto queue = open(ObjectType::queue, [](const Client& c) { return c.queue<int>("q", 1); });
  const Background using_it{[&] {
    expect(queue.put(1).has_value());
    expect(!queue.try_put(2).value());
    expect(queue.get().value() == 1);
    expect(!queue.get_for(5ms).value());
    expect(queue.full().value());
  }};
  Frame frame;
  BOOST_TEST(next_operation(*peer, &frame).integer(1) == -1);
  reply_to(*peer, frame);
  BOOST_TEST(next_operation(*peer, &frame).integer(1) == 0);
  peer->error(frame, "timed_out", "");
  BOOST_TEST(next_operation(*peer, &frame).integer(0) == -1);
  reply_to(*peer, frame, {{"1"}});
  BOOST_TEST(next_operation(*peer, &frame).integer(0) == 5);
  peer->error(frame, "timed_out", "");
  (void)next_operation(*peer, &frame);
  reply_integers(*peer, frame, {1, 1, 0});
}

BOOST_AUTO_TEST_CASE(a_barrier_runs_its_action_once) {
  const auto barrier = open(ObjectType::barrier, [](const Client& c) { return c.barrier("b", 2, true); });
  int ran = 0;
  const Background waiting{[&] {
    expect(barrier.wait({}, [&] { ++ran; }).value() == 0u);
    expect(barrier.wait({}, [&] { ++ran; }).value() == 1u);
    bool thrown = false;
    try {
      (void)barrier.wait({}, [] { throw 1; });
    } catch (int) {
      thrown = true;
    }
    expect(thrown);
    expect(barrier.wait().error().errc() == Errc::broken);
  }};
  Frame frame;
  (void)next_operation(*peer, &frame);
  reply_integers(*peer, frame, {0, 1});
  auto operation = next_operation(*peer, &frame);
  BOOST_TEST((operation.code == Code::barrier_acted));
  BOOST_TEST(operation.integer(0) == 1);
  reply_to(*peer, frame);
  (void)next_operation(*peer, &frame);
  reply_integers(*peer, frame, {1, 0});
  (void)next_operation(*peer, &frame);
  reply_integers(*peer, frame, {0, 1});
  BOOST_TEST(next_operation(*peer, &frame).integer(0) == 0);
  reply_to(*peer, frame);
  (void)next_operation(*peer, &frame);
  peer->error(frame, "broken", "");
}

BOOST_AUTO_TEST_CASE(a_watch_tells_of_changes_and_that_it_missed_some) {
  const auto d = dict();
  std::optional<Watch> watch;
  Frame frame;
  {
    const Background starting{[&] { watch = d.watch("ada").value(); }};
    frame = peer->next(Op::watch);
    BOOST_TEST(frame.text() == text_key("ada"));
    peer->ok(frame);
  }
  BOOST_TEST(!watch->next_for(1ms).value());
  const auto tell = [&](std::uint32_t kind, std::uint64_t version, std::string_view key) {
    Bytes body(sizeof version);
    store_le(body.data(), version);
    for (const char each : key) body.push_back(static_cast<std::byte>(each));
    Prefix prefix;
    prefix.op = Op::changed;
    prefix.request = frame.prefix.request;
    prefix.target = kind;
    prefix.count = key.empty() ? 0 : 1;
    peer->send(prefix, {}, body);
  };
  tell(1, 14, text_key("ada"));
  const auto change = watch->next().value();
  BOOST_TEST((change.kind == Change::Kind::set));
  BOOST_TEST(change.version == 14u);
  BOOST_TEST(decode_key<std::string>(*change.key).value() == "ada");
  {  // whoever waits for something else reads them, and keeps some
    const Background telling{[&] {
      for (int i = 0; i < 5000; ++i) tell(1, 16, text_key("ada"));
      tell(5, 20, "");
      Frame setting;
      (void)next_operation(*peer, &setting);
      reply_to(*peer, setting);
    }};
    BOOST_TEST(d.set("b", 1).has_value());
  }
  std::size_t lagged = 0;
  for (;;) {
    const auto next = watch->next().value();
    lagged += next.kind == Change::Kind::lagged;
    if (next.kind == Change::Kind::removed) break;
  }
  BOOST_TEST(lagged == 1u);
  BOOST_TEST((watch->next().error().errc() == Errc::unknown_object));
}

BOOST_AUTO_TEST_CASE(the_last_handle_closes_the_object) {
  {
    const auto d = dict();
    const auto copy = d;
  }
  BOOST_TEST(peer->next(Op::object_close).prefix.target == 1u);
}

BOOST_AUTO_TEST_CASE(another_daemon_gets_what_was_not_answered_if_it_knows_the_session) {
  const auto d = dict();
  const auto dict_object = object;
  auto lock = open(ObjectType::lock, [](const Client& c) { return c.lock("l"); });
  const auto lock_object = object;
  auto first = d.set_async("a", 1);
  auto second = d.incr_async("a", 2);
  lock.unlock();
  auto third = d.set_async("a", 3);
  BOOST_TEST(client.flush().has_value());
  std::vector<std::uint64_t> requests;
  for (int i = 0; i < 4; ++i) requests.push_back(peer->next(Op::store).prefix.request);
  peer->close();
  const Background serving{[&] {
    auto again = server.accept_raw();
    expect(again.greet({}, true).fields().at("resume") == "t");
    auto frame = again.next(Op::object_open);
    expect(frame.prefix.target == 1);
    segment.answer_open(again, frame, dict_object);
    frame = again.next(Op::object_open);
    expect(frame.prefix.target == 2 && frame.fields().at("name") == "l");
    segment.answer_open(again, frame, lock_object, false);
    for (std::size_t i = 0; i < 4; ++i) {
      frame = again.next(Op::store);
      expect(frame.prefix.request == requests[i]);
      if (i == 1)
        again.error(frame, "outcome_unknown", "");
      else if (i != 2)
        reply_to(again, frame);
    }
  }};
  BOOST_TEST(third.get().has_value());
  BOOST_TEST((second.get().error().errc() == Errc::outcome_unknown));
  BOOST_TEST(first.get().has_value());
}

BOOST_AUTO_TEST_CASE(another_session_gets_only_what_was_never_sent) {
  const auto d = dict();
  auto first = d.set_async("a", 1);
  BOOST_TEST(client.flush().has_value());
  (void)peer->next(Op::store);
  peer->close();
  auto second = d.set_async("a", 2);
  const Background serving{[&] {
    auto again = server.accept();
    segment.open(again, object);
    Frame frame;
    expect(next_operation(again, &frame).values.at(1).bytes == "2");
    reply_to(again, frame);
  }};
  BOOST_TEST(second.get().has_value());
  BOOST_TEST((first.get().error().errc() == Errc::outcome_unknown));
}

BOOST_AUTO_TEST_CASE(a_lock_that_was_waited_for_is_waited_for_again) {
  auto lock = open(ObjectType::lock, [](const Client& c) { return c.lock("l"); });
  const Background serving{[&] {
    const auto waiting = peer->next(Op::store);
    peer->close();
    auto again = server.accept_raw();
    again.greet({}, true);
    segment.open(again, object);
    const auto frame = again.next(Op::store);
    expect(frame.prefix.request == waiting.prefix.request);
    expect(frame.body == waiting.body);
    reply_integers(again, frame, {0});
  }};
  BOOST_TEST(lock.acquire().value().held);
}

BOOST_AUTO_TEST_CASE(reading_goes_on_without_a_daemon) {
  Playing other;
  const auto d = dict();
  segment.put(object, "ada", "1");
  server.stop();
  peer->close();
  BOOST_TEST(d.get("ada").value().value() == 1);
  segment.put(object, "ada", "2");
  BOOST_TEST(d.get("ada").value().value() == 2);
}

BOOST_AUTO_TEST_CASE(no_daemon_ends_what_waits) {
  Connected c{{}, impatient};
  FakeSegment its;
  const auto info = its.make(ObjectType::lock);
  Result<Lock> lock = fail(Errc::internal, "");
  {
    const Background opening{[&] { lock = c.client.lock("l"); }};
    its.open(*c.peer, info);
  }
  const Background serving{[&] {
    (void)c.peer->next(Op::store);
    c.server.stop();
    c.peer->close();
  }};
  BOOST_TEST((lock->acquire().error().errc() == Errc::outcome_unknown));
  BOOST_TEST((lock->acquire().error().errc() == Errc::no_daemon));
}

BOOST_AUTO_TEST_CASE(a_forked_child_reads_on_and_opens_for_itself) {
  const auto d = dict();
  segment.put(object, "ada", "1");
  const pid_t child = ::fork();
  if (child == 0) {
    if (d.get("ada").value() != 1) ::_exit(1);
    ::_exit(d.set("ada", 2).has_value() ? 0 : 2);
  }
  auto its = server.accept();
  segment.open(its, object);
  Frame frame;
  BOOST_TEST(next_operation(its, &frame).values.at(1).bytes == "2");
  reply_to(its, frame);
  int status = 0;
  ::waitpid(child, &status, 0);
  BOOST_TEST(status == 0);
  BOOST_TEST(!peer->try_next());
}

BOOST_AUTO_TEST_CASE(a_daemon_that_sends_nonsense_is_left) {
  const auto d = dict();
  const auto reply = [&](std::span<const std::byte> body, std::uint32_t count) {
    Prefix prefix;
    prefix.op = Op::store_reply;
    prefix.request = peer->next(Op::store).prefix.request;
    prefix.count = count;
    peer->send(prefix, {}, body);
  };
  {
    const Background setting{[&] { expect(d.set("a", 1).error().errc() == Errc::outcome_unknown); }};
    reply(Bytes(3), 1);
    server.stop();
  }
}

BOOST_AUTO_TEST_SUITE_END()
