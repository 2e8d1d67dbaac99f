#include <boost/test/unit_test.hpp>

#include "tests/unit/store/segment_fixture.hpp"

using namespace taskpool;
using namespace taskpool::store;
using namespace taskpool::store::testing;

BOOST_AUTO_TEST_SUITE(store_value)

BOOST_AUTO_TEST_CASE(a_value_is_set_and_read) {
  TestSegment store;
  const auto value = store.create(ObjectType::value);
  const auto segment = store.reader();
  std::vector<std::byte> buffer(100);
  BOOST_TEST((segment.value_get(store.view(value), buffer).code == ReadCode::absent));
  for (const char* text : {"one", "another", ""}) {
    auto tx = store.begin();
    store.writer->set_value(tx, value.id, input(text)).value();
    BOOST_TEST(text_of(store.writer->value(tx, value.id).value()->value) == text);
    tx.commit().value();
    BOOST_TEST(TestSegment::answer(segment.value_get(store.view(value), buffer), buffer) == text);
  }
  BOOST_TEST((segment.list_get(store.view(value), 0, buffer).code == ReadCode::wrong_type));
}

BOOST_AUTO_TEST_CASE(an_array_has_words) {
  TestSegment store;
  const auto array = store.create(ObjectType::array);
  const auto segment = store.reader();
  const auto view = store.view(array);
  std::vector<std::uint64_t> words(5, 99);
  BOOST_TEST((segment.array_get(view, 0, words) == ReadCode::absent));
  auto tx = store.begin();
  store.writer->set_length(tx, array.id, 5000).value();
  const std::uint64_t some[] = {1, 2, 3};
  store.writer->set_words(tx, array.id, 4997, some).value();
  BOOST_TEST(store.writer->set_words(tx, array.id, 4998, some).error().errc() == Errc::out_of_range);
  tx.commit().value();
  BOOST_TEST((segment.array_get(view, 4995, words) == ReadCode::found));
  BOOST_TEST(words == (std::vector<std::uint64_t>{0, 0, 1, 2, 3}), boost::test_tools::per_element());
  BOOST_TEST((segment.array_get(view, 4996, words) == ReadCode::absent));
  // In place, and many at once.
  auto more = store.begin();
  store.writer->set_words(more, array.id, 0, some).value();
  BOOST_TEST(store.writer->word(more, array.id, 2).value() == 3u);
  const std::vector<std::uint64_t> many(3000, 7);
  store.writer->set_words(more, array.id, 2, many).value();
  more.commit().value();
  BOOST_TEST((segment.array_get(view, 0, words) == ReadCode::found));
  BOOST_TEST(words == (std::vector<std::uint64_t>{1, 2, 7, 7, 7}), boost::test_tools::per_element());
  auto last = store.begin();
  BOOST_TEST(store.writer->word(last, array.id, 5000).error().errc() == Errc::out_of_range);
  BOOST_TEST(store.writer->set_length(last, array.id, kMaxArrayWords + 1).error().errc() == Errc::limit_reached);
  store.writer->clear(last, array.id).value();
  last.commit().value();
  BOOST_TEST(store.info(array.id).count == 5000u);
  BOOST_TEST((segment.array_get(view, 0, words) == ReadCode::found));
  BOOST_TEST(words[0] == 0u);
}

BOOST_AUTO_TEST_CASE(words_of_a_type_are_kept_and_read_together) {
  TestSegment store;
  const auto lock = store.create(ObjectType::lock);
  auto tx = store.begin();
  store.writer->set_aux(tx, lock.id, 0, 5).value();
  store.writer->set_aux(tx, lock.id, 3, 6).value();
  tx.commit().value();
  ObjectStat stat;
  BOOST_TEST((store.reader().stat(store.view(lock), stat) == ReadCode::found));
  BOOST_TEST(stat.aux[0] == 5u);
  BOOST_TEST(stat.aux[3] == 6u);
  BOOST_TEST(stat.owner_uid == 1000u);
  BOOST_TEST(stat.created == 7u);
  BOOST_TEST((stat.type == ObjectType::lock));
  BOOST_TEST(stat.version == store.info(lock.id).version);
}

BOOST_AUTO_TEST_CASE(an_object_is_gone_for_good) {
  TestSegment store;
  const auto first = store.create(ObjectType::dict);
  const auto view = store.view(first);
  store.put(first.id, text_key("a"), "x").value();
  auto tx = store.begin();
  store.writer->remove(tx, first.id).value();
  BOOST_TEST(store.writer->info(tx, first.id).error().errc() == Errc::unknown_object);
  tx.commit().value();
  BOOST_TEST((store.reader().get(view, text_key("a"), {}).code == ReadCode::gone));
  // Its place is used again, its number is not.
  const auto second = store.create(ObjectType::dict);
  BOOST_TEST((second.id != first.id));
  store.put(second.id, text_key("a"), "y").value();
  BOOST_TEST((store.reader().get(view, text_key("a"), {}).code == ReadCode::gone));
  ObjectStat stat;
  BOOST_TEST((store.reader().stat(view, stat) == ReadCode::gone));
}

BOOST_AUTO_TEST_CASE(every_entry_can_be_visited) {
  TestSegment store;
  const auto dict = store.create(ObjectType::dict);
  const auto list = store.create(ObjectType::list);
  const ObjectId refs[] = {dict.id};
  for (int number = 0; number < 200; ++number) {
    const std::string text = std::to_string(number);
    EntryInput entry = input(text);
    entry.refs = refs;
    auto tx = store.begin();
    store.writer->put(tx, dict.id, text_key(text), entry).value();
    store.writer->insert(tx, list.id, 0, {&entry, 1}).value();
    tx.commit().value();
  }
  for (const ObjectId id : {dict.id, list.id}) {
    std::uint64_t position = 0;
    std::size_t seen = 0;
    while (store.writer->visit_entries(id, position, 7, [&](const EntryView& entry) {
      ++seen;
      BOOST_REQUIRE((entry.refs.size() == 1 && entry.refs[0] == dict.id));
    })) {
    }
    BOOST_TEST(seen == 200u);
  }
  std::size_t objects = 0;
  store.writer->for_each_object([&](const ObjectInfo&) { ++objects; });
  BOOST_TEST(objects == 3u);  // with the names
}

BOOST_AUTO_TEST_CASE(a_superseded_segment_is_gone) {
  TestSegment store;
  const auto dict = store.create(ObjectType::dict);
  const auto segment = store.reader();
  const auto view = store.view(dict);
  store.writer->supersede();
  BOOST_TEST(segment.is_superseded());
  BOOST_TEST((segment.get(view, text_key("a"), {}).code == ReadCode::gone));
  BOOST_TEST(segment.domain() == "uid:1000");
}

BOOST_AUTO_TEST_SUITE_END()
