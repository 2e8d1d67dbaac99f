#include <boost/test/unit_test.hpp>
#include <map>
#include <random>

#include "tests/unit/store/segment_fixture.hpp"

using namespace taskpool;
using namespace taskpool::store;
using namespace taskpool::store::testing;

namespace {

Key key(std::uint64_t number) {
  KeyBuffer buffer;
  buffer.set_unsigned(number);
  return parse_key(buffer).value();
}

}  // namespace

BOOST_AUTO_TEST_SUITE(store_dict)

BOOST_AUTO_TEST_CASE(a_key_is_put_found_overwritten_and_erased) {
  TestSegment store;
  const auto dict = store.create(ObjectType::dict);
  BOOST_TEST(store.get(dict, text_key("a")) == kAbsent);
  BOOST_TEST(store.put(dict.id, text_key("a"), "one").has_value());
  BOOST_TEST(store.get(dict, text_key("a")) == "one");
  BOOST_TEST(store.put(dict.id, text_key("a"), "a longer value than before").has_value());
  BOOST_TEST(store.get(dict, text_key("a")) == "a longer value than before");
  BOOST_TEST(store.put(dict.id, text_key("b"), "").has_value());
  BOOST_TEST(store.get(dict, text_key("b")) == "");
  BOOST_TEST(store.info(dict.id).count == 2);
  BOOST_TEST(store.erase(dict.id, text_key("a")).has_value());
  BOOST_TEST(store.get(dict, text_key("a")) == kAbsent);
  BOOST_TEST(store.get(dict, text_key("b")) == "");
  BOOST_TEST(store.info(dict.id).count == 1);
}

BOOST_AUTO_TEST_CASE(what_was_put_says_who_and_how) {
  TestSegment store;
  const auto dict = store.create(ObjectType::dict);
  const ObjectId refs[] = {ObjectId{5}, ObjectId{9}};
  auto tx = store.begin();
  BOOST_TEST(store.writer
                 ->put(tx, dict.id, text_key("a"),
                       {.value = bytes_of("x"), .encoding = 3, .writer_uid = 77, .expires_ns = 99, .refs = refs})
                 .value());
  tx.commit().value();
  auto next = store.begin();
  const auto entry = store.writer->find(next, dict.id, text_key("a")).value();
  BOOST_REQUIRE(entry.has_value());
  BOOST_TEST(text_of(entry->value) == "x");
  BOOST_TEST(entry->encoding == 3);
  BOOST_TEST(entry->writer_uid == 77u);
  BOOST_TEST(entry->expires_ns == 99u);
  BOOST_REQUIRE(entry->refs.size() == 2);
  BOOST_TEST((entry->refs[1] == ObjectId{9}));
  std::byte buffer[8];
  const auto segment = store.reader();
  const Read read = segment.get(store.view(dict), text_key("a"), buffer);
  BOOST_TEST(read.encoding == 3);
  BOOST_TEST(read.version == entry->version);
  BOOST_TEST(read.writer_uid == 77u);
  // A buffer that is too small gets nothing, but the size.
  const Read small = segment.get(store.view(dict), text_key("a"), {});
  BOOST_TEST((small.code == ReadCode::found && small.bytes == 1));
}

BOOST_AUTO_TEST_CASE(expired_entries_are_absent) {
  TestSegment store;
  const auto dict = store.create(ObjectType::dict);
  test_now = 10;
  EntryInput entry = input("x");
  entry.expires_ns = 20;
  auto tx = store.begin();
  BOOST_TEST(store.writer->put(tx, dict.id, text_key("a"), entry).value());
  tx.commit().value();
  BOOST_TEST(store.get(dict, text_key("a")) == "x");
  test_now = 20;
  BOOST_TEST(store.get(dict, text_key("a")) == kAbsent);
  BOOST_TEST(store.values(dict).empty());
  auto late = store.begin();
  BOOST_TEST(!store.writer->find(late, dict.id, text_key("a")).value());
  BOOST_TEST(store.writer->put(late, dict.id, text_key("a"), input("y")).value());
  late.commit().value();
  BOOST_TEST(store.get(dict, text_key("a")) == "y");
  BOOST_TEST(store.info(dict.id).count == 1);
  test_now = 1;
}

BOOST_AUTO_TEST_CASE(a_batch_is_one_change_and_sees_itself) {
  TestSegment store;
  const auto dict = store.create(ObjectType::dict);
  const std::uint64_t before = store.info(dict.id).version;
  auto tx = store.begin();
  for (int number = 0; number < 300; ++number)
    BOOST_TEST(store.writer->put(tx, dict.id, key(static_cast<std::uint64_t>(number)), input("v")).value());
  BOOST_TEST(!store.writer->put(tx, dict.id, key(7), input("w")).value());
  BOOST_TEST(text_of(store.writer->find(tx, dict.id, key(7)).value()->value) == "w");
  BOOST_TEST(store.writer->erase(tx, dict.id, key(8)).value());
  BOOST_TEST(!store.writer->erase(tx, dict.id, key(8)).value());
  BOOST_TEST(store.get(dict, key(7)) == kAbsent);
  tx.commit().value();
  BOOST_TEST(store.get(dict, key(7)) == "w");
  BOOST_TEST(store.get(dict, key(8)) == kAbsent);
  BOOST_TEST(store.info(dict.id).count == 299);
  BOOST_TEST(store.info(dict.id).version == before + 2);
}

BOOST_AUTO_TEST_CASE(an_abandoned_batch_leaves_nothing) {
  TestSegment store;
  const auto dict = store.create(ObjectType::dict);
  store.put(dict.id, key(1), "old").value();
  const auto info = store.info(dict.id);
  const auto usage = store.writer->usage();
  {
    auto tx = store.begin();
    for (std::uint64_t number = 0; number < 100; ++number)
      store.writer->put(tx, dict.id, key(number), input("new")).value();
    store.writer->create_object(tx, {}).value();
  }
  BOOST_TEST(store.get(dict, key(1)) == "old");
  BOOST_TEST(store.get(dict, key(2)) == kAbsent);
  BOOST_TEST(store.info(dict.id).version == info.version);
  BOOST_TEST(store.info(dict.id).bytes == info.bytes);
  BOOST_TEST(store.writer->usage().live_bytes == usage.live_bytes);
  BOOST_TEST(store.writer->usage().objects == usage.objects);
}

BOOST_AUTO_TEST_CASE(a_batch_beyond_the_record_changes_nothing) {
  TestSegment store;
  const auto dict = store.create(ObjectType::dict);
  for (std::uint64_t number = 0; number < 5000; ++number) store.put(dict.id, key(number), "old").value();
  auto tx = store.begin();
  Result<void> failed;
  for (std::uint64_t number = 0; number < 5000 && failed; ++number)
    if (auto put = store.writer->put(tx, dict.id, key(number), input("new")); !put) failed = put.error();
  BOOST_REQUIRE(!failed);
  BOOST_TEST(failed.error().errc() == Errc::limit_reached);
  tx.abort();
  BOOST_TEST(store.get(dict, key(0)) == "old");
}

BOOST_AUTO_TEST_CASE(random_changes_agree_with_a_map) {
  TestSegment store{256 * kUnitBytes};
  const auto dict = store.create(ObjectType::dict);
  std::map<std::uint64_t, std::string> model;
  std::mt19937 random{1};
  for (int step = 0; step < 40000; ++step) {
    const std::uint64_t number = random() % 3000;
    if (random() % 3 != 0) {
      const std::string value(random() % 100, static_cast<char>('a' + random() % 26));
      store.put(dict.id, key(number), value).value();
      model[number] = value;
    } else {
      store.erase(dict.id, key(number)).value();
      model.erase(number);
    }
  }
  BOOST_TEST(store.info(dict.id).count == model.size());
  for (std::uint64_t number = 0; number < 3000; ++number) {
    const auto found = model.find(number);
    BOOST_TEST(store.get(dict, key(number)) == (found == model.end() ? kAbsent : found->second));
  }
  auto sum = store.info(dict.id).bytes + store.info(ObjectId::names).bytes;
  BOOST_TEST(store.writer->usage().live_bytes == sum);
}

BOOST_AUTO_TEST_CASE(a_large_table_grows_in_slices) {
  TestSegment store{512 * kUnitBytes};
  const auto dict = store.create(ObjectType::dict);
  bool was_busy = false;
  for (std::uint64_t number = 0; number < 60000; ++number) {
    auto tx = store.begin();
    auto put = store.writer->put(tx, dict.id, key(number), input("v"));
    if (put) {
      tx.commit().value();
      continue;
    }
    BOOST_REQUIRE(put.error().errc() == Errc::busy);
    was_busy = true;
    tx.abort();
    // Until it is done, changes wait and readers do not.
    std::size_t slices = 0;
    for (;; ++slices) {
      if (store.writer->work(dict.id, 500).value()) break;
      auto other = store.begin();
      BOOST_TEST(store.writer->erase(other, dict.id, key(0)).error().errc() == Errc::busy);
      BOOST_TEST(store.get(dict, key(number / 2)) == "v");
    }
    BOOST_TEST(slices > 10);
    --number;
  }
  BOOST_TEST(was_busy);
  for (std::uint64_t number = 0; number < 60000; number += 7) BOOST_TEST(store.get(dict, key(number)) == "v");
}

BOOST_AUTO_TEST_CASE(reading_all_keeps_the_order_of_insertion) {
  TestSegment store;
  const auto dict = store.create(ObjectType::dict);
  for (const char* name : {"z", "b", "m", "a"}) store.put(dict.id, text_key(name), name).value();
  store.put(dict.id, text_key("b"), "B").value();
  store.erase(dict.id, text_key("z")).value();
  store.put(dict.id, text_key("z"), "z").value();
  BOOST_TEST(store.values(dict) == (std::vector<std::string>{"B", "m", "a", "z"}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(a_scan_meets_every_key_while_the_table_is_replaced) {
  TestSegment store;
  const auto dict = store.create(ObjectType::dict);
  for (std::uint64_t number = 0; number < 100; ++number) store.put(dict.id, key(number), "v").value();
  const auto segment = store.reader();
  Cursor cursor;
  Page page;
  std::map<std::string, int> seen;
  std::uint64_t added = 100;
  while (segment.scan(store.view(dict), cursor, 10, SIZE_MAX, page) == ReadCode::found) {
    for (const auto& entry : page.entries) ++seen[text_of(page.key(entry))];
    page.clear();
    if (added < 400)
      for (int each = 0; each < 50; ++each) store.put(dict.id, key(added++), "v").value();
  }
  for (std::uint64_t number = 0; number < 100; ++number) BOOST_TEST(seen.count(text_of(key(number).view())) == 1);
}

BOOST_AUTO_TEST_CASE(newest_goes_backwards) {
  TestSegment store{512 * kUnitBytes};
  const auto dict = store.create(ObjectType::dict);
  const auto pop = [&] {
    std::string popped;
    store
        .change(dict.id,
                [&](Transaction& tx) -> Result<void> {
                  const auto entry = store.writer->newest(tx, dict.id);
                  if (!entry) return entry.error();
                  if (!*entry) return {};
                  popped = text_of((*entry)->value);
                  const Key found = parse_key((*entry)->key).value();
                  return store.writer->erase(tx, dict.id, found).value() ? Result<void>{} : fail(Errc::internal, "");
                })
        .value();
    return popped;
  };
  BOOST_TEST(pop() == "");
  for (const char* name : {"a", "b", "c"}) store.put(dict.id, text_key(name), name).value();
  BOOST_TEST(pop() == "c");
  store.put(dict.id, text_key("d"), "d").value();
  store.put(dict.id, text_key("a"), "A").value();
  {
    auto tx = store.begin();
    BOOST_TEST(text_of(store.writer->newest(tx, dict.id).value()->value) == "d");
    store.writer->erase(tx, dict.id, text_key("d")).value();
    BOOST_TEST(text_of(store.writer->newest(tx, dict.id).value()->value) == "b");
  }
  BOOST_TEST(pop() == "d");
  BOOST_TEST(pop() == "b");
  BOOST_TEST(pop() == "A");
  BOOST_TEST(pop() == "");
  // A large one is sorted a part at a time.
  for (std::uint64_t number = 0; number < 20000; ++number)
    store.put(dict.id, key(number), std::to_string(number)).value();
  for (std::uint64_t number = 20000; number-- > 17000;) BOOST_REQUIRE(pop() == std::to_string(number));
}

BOOST_AUTO_TEST_CASE(wrong_uses_are_said) {
  TestSegment store;
  const auto dict = store.create(ObjectType::dict);
  const auto list = store.create(ObjectType::list);
  auto tx = store.begin();
  BOOST_TEST(store.writer->put(tx, ObjectId{99}, key(1), input("")).error().errc() == Errc::unknown_object);
  BOOST_TEST(store.writer->put(tx, list.id, key(1), input("")).error().errc() == Errc::wrong_type);
  BOOST_TEST(store.writer->put(tx, dict.id, bytes_of(""), input("")).error().errc() == Errc::bad_argument);
  const std::string large(kMaxStoreValueBytes + 1, 'x');
  BOOST_TEST(store.writer->put(tx, dict.id, key(1), input(large)).error().errc() == Errc::body_too_large);
  tx.abort();
  BOOST_TEST((store.reader().get(store.view(list), key(1), {}).code == ReadCode::wrong_type));
  BOOST_TEST(store.reader().find(dict.offset, list.id).error().errc() == Errc::unknown_object);
  BOOST_TEST(store.reader().find(dict.offset + 1, dict.id).error().errc() == Errc::unknown_object);
  BOOST_TEST(store.reader().find(SIZE_MAX - 7, dict.id).error().errc() == Errc::unknown_object);
}

BOOST_AUTO_TEST_CASE(a_full_store_changes_nothing_and_goes_on) {
  TestSegment store{24 * kUnitBytes};
  const auto dict = store.create(ObjectType::dict);
  const std::string value(3000, 'x');
  std::uint64_t number = 0;
  Result<void> put;
  while ((put = store.put(dict.id, key(number), value))) ++number;
  BOOST_TEST(put.error().errc() == Errc::store_full);
  BOOST_TEST(store.info(dict.id).count == number);
  store.erase(dict.id, key(0)).value();
  BOOST_TEST(store.put(dict.id, key(1), std::string(3000, 'y')).has_value());
  BOOST_TEST(store.get(dict, key(1)) == std::string(3000, 'y'));
  // A removed object's memory can be used again, at once or in slices.
  auto tx = store.begin();
  store.writer->remove(tx, dict.id).value();
  tx.commit().value();
  BOOST_TEST(store.get(dict, key(1)) == kGone);
  const auto other = store.create(ObjectType::dict);
  BOOST_TEST(store.put(other.id, key(1), value).has_value());
  while (!store.writer->reclaim(10)) {
  }
  for (std::uint64_t each = 1; each + 1 < number; ++each)
    BOOST_REQUIRE(store.put(other.id, key(each), value).has_value());
  store.limit = 0;
  BOOST_TEST((store.create(ObjectType::value).id != ObjectId::none));
  auto none = store.begin();
  const std::string larger(40'000, 'z');  // than any block, tables included
  BOOST_TEST(store.writer->put(none, other.id, key(1), input(larger)).error().errc() == Errc::store_full);
}

BOOST_AUTO_TEST_CASE(a_large_tables_memory_is_made_in_slices) {
  TestSegment store{512 * kUnitBytes};
  const auto dict = store.create(ObjectType::dict);
  std::size_t most = 0;
  int slices = 0;
  for (std::uint64_t number = 0; number < 60'000; ++number)
    for (;;) {
      auto tx = store.begin();
      const auto put = store.writer->put(tx, dict.id, key(number), input("value"));
      if (put) {
        BOOST_REQUIRE(tx.commit().has_value());
        break;
      }
      tx.abort();
      BOOST_REQUIRE((put.error().errc() == Errc::busy));
      for (bool is_done = false; !is_done;) {
        const auto before = store.extended;
        is_done = store.writer->work(dict.id, 250).value();
        if (store.extended <= before) continue;
        most = std::max(most, store.extended - before);
        ++slices;
      }
    }
  BOOST_TEST(most <= kUnitBytes);
  BOOST_TEST(slices > 10);
  BOOST_TEST(store.info(dict.id).count == 60'000u);
  BOOST_TEST(store.restart().empty());
}

BOOST_AUTO_TEST_CASE(a_full_store_gives_larger_blocks_to_what_is_smaller) {
  TestSegment store{24 * kUnitBytes};
  const auto large = store.create(ObjectType::dict);
  const std::string value(3000, 'x');
  std::uint64_t count = 0;
  while (store.put(large.id, key(count), value)) ++count;
  const auto remove = [&](ObjectId id) {
    auto tx = store.begin();
    store.writer->remove(tx, id).value();
    tx.commit().value();
    while (!store.writer->reclaim(1000)) {
    }
  };
  const auto live = [&] { return store.writer->usage().live_bytes; };
  remove(large.id);
  const auto empty = live();

  const auto dict = store.create(ObjectType::dict);
  for (std::uint64_t each = 0; each < count / 2; ++each)
    BOOST_REQUIRE(store.put(dict.id, key(each), "small" + std::to_string(each)).has_value());
  const auto list = store.create(ObjectType::list);
  const auto array = store.create(ObjectType::array);
  const auto single = store.create(ObjectType::value);
  auto tx = store.begin();
  const std::vector<EntryInput> items(100, input("item"));
  store.writer->insert(tx, list.id, 0, items).value();
  store.writer->set_length(tx, array.id, 10).value();
  store.writer->set_value(tx, single.id, input("value")).value();
  tx.commit().value();
  const auto check = [&] {
    for (std::uint64_t each = 0; each < count / 2; ++each)
      BOOST_REQUIRE(store.get(dict, key(each)) == "small" + std::to_string(each));
    BOOST_TEST(store.values(list) == std::vector<std::string>(100, "item"), boost::test_tools::per_element());
    BOOST_TEST(store.info(array.id).count == 10);
  };
  check();
  const auto bytes = [&] {
    std::uint64_t all = 0;
    for (const auto& info : {dict, list, array, single}) all += store.info(info.id).bytes;
    return all;
  };
  BOOST_TEST(live() == empty + bytes());

  // The next daemon takes them for what they are.
  const auto before = live();
  BOOST_TEST(store.restart().empty());
  check();
  BOOST_TEST(live() == before);
  BOOST_TEST(live() == empty + bytes());

  // They are large again when they are free again.
  for (const auto& info : {dict, list, array, single}) remove(info.id);
  BOOST_TEST(live() == empty);
  const auto again = store.create(ObjectType::dict);
  for (std::uint64_t each = 0; each < count; ++each) BOOST_REQUIRE(store.put(again.id, key(each), value).has_value());
}

BOOST_AUTO_TEST_SUITE_END()
