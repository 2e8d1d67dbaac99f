#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <random>

#include "tests/unit/store/segment_fixture.hpp"

using namespace taskpool;
using namespace taskpool::store;
using namespace taskpool::store::testing;

namespace {

struct List : TestSegment {
  explicit List(std::size_t bytes = 256 * kUnitBytes) : TestSegment(bytes), info(create(ObjectType::list)) {}
  void insert(std::uint64_t index, const std::vector<std::string>& texts) {
    std::vector<EntryInput> inputs;
    for (const auto& text : texts) inputs.push_back(input(text));
    change(info.id, [&](Transaction& tx) { return writer->insert(tx, info.id, index, inputs); }).value();
  }
  void set(std::uint64_t index, const std::string& text) {
    change(info.id, [&](Transaction& tx) { return writer->set_item(tx, info.id, index, input(text)); }).value();
  }
  void remove(std::uint64_t first, std::uint64_t count) {
    change(info.id, [&](Transaction& tx) { return writer->erase_items(tx, info.id, first, count); }).value();
  }
  std::string at(std::uint64_t index) {
    std::vector<std::byte> buffer(4096);
    const auto segment = reader();
    return answer(segment.list_get({info.offset, info.id, info.type}, index, buffer), buffer);
  }
  void check(const std::vector<std::string>& model) {
    BOOST_TEST(this->TestSegment::info(info.id).count == model.size());
    BOOST_REQUIRE(values(info) == model);
    for (std::size_t index = 0; index < model.size(); index += 1 + model.size() / 50)
      BOOST_REQUIRE(at(index) == model[index]);
    BOOST_TEST(at(model.size()) == kAbsent);
  }
  void reclaim_all() {
    while (!writer->reclaim(100)) {
    }
  }
  ObjectInfo info;
};

}  // namespace

BOOST_AUTO_TEST_SUITE(store_list)

BOOST_AUTO_TEST_CASE(items_are_appended_replaced_and_taken) {
  List list;
  list.check({});
  list.insert(0, {"b"});
  list.insert(1, {"c", "d"});
  list.insert(0, {"a"});
  list.check({"a", "b", "c", "d"});
  list.set(2, "C");
  list.remove(0, 1);
  list.remove(2, 1);
  list.check({"b", "C"});
  list.remove(0, 2);
  list.check({});
  list.reclaim_all();
  BOOST_TEST(list.TestSegment::info(list.info.id).bytes == kObjectBytes);
}

BOOST_AUTO_TEST_CASE(indices_beyond_the_end_are_refused) {
  List list;
  list.insert(0, {"a"});
  auto tx = list.begin();
  const EntryInput one[] = {input("x")};
  BOOST_TEST(list.writer->insert(tx, list.info.id, 2, one).error().errc() == Errc::out_of_range);
  BOOST_TEST(list.writer->item(tx, list.info.id, 1).error().errc() == Errc::out_of_range);
  BOOST_TEST(list.writer->set_item(tx, list.info.id, 1, one[0]).error().errc() == Errc::out_of_range);
  BOOST_TEST(list.writer->erase_items(tx, list.info.id, 0, 2).error().errc() == Errc::out_of_range);
  BOOST_TEST(list.writer->erase_items(tx, list.info.id, 1, UINT64_MAX).error().errc() == Errc::out_of_range);
}

BOOST_AUTO_TEST_CASE(random_changes_agree_with_a_vector) {
  List list;
  std::vector<std::string> model;
  std::mt19937 random{2};
  const auto place = [&](std::size_t index) { return model.begin() + static_cast<std::ptrdiff_t>(index); };
  for (int step = 0; step < 6000; ++step) {
    const std::string text = std::to_string(step);
    switch (random() % 8) {
      case 0:
      case 1: {
        const std::size_t index = random() % (model.size() + 1);
        list.insert(index, {text});
        model.insert(place(index), text);
        break;
      }
      case 2:
        list.insert(model.size(), {text});
        model.push_back(text);
        break;
      case 3: {
        std::vector<std::string> texts(random() % 200, text);
        const std::size_t index = random() % (model.size() + 1);
        list.insert(index, texts);
        model.insert(place(index), texts.begin(), texts.end());
        break;
      }
      case 4:
      case 5:
        if (!model.empty()) {
          const std::size_t index = random() % model.size();
          list.set(index, text);
          model[index] = text;
        }
        break;
      case 6:
        if (!model.empty()) {
          const std::size_t index = random() % model.size();
          list.remove(index, 1);
          model.erase(place(index));
        }
        break;
      default:
        if (!model.empty()) {
          const std::size_t index = random() % model.size();
          const std::size_t count = random() % std::min<std::size_t>(model.size() - index + 1, 300);
          list.remove(index, count);
          model.erase(place(index), place(index + count));
        }
    }
    if (step % 50 == 0) list.check(model);
    if (step % 500 == 0) list.reclaim_all();
  }
  list.check(model);
  list.reclaim_all();
  const auto bytes = list.TestSegment::info(list.info.id).bytes + list.TestSegment::info(ObjectId::names).bytes;
  BOOST_TEST(list.writer->usage().live_bytes == bytes);
}

BOOST_AUTO_TEST_CASE(a_batch_is_one_change_and_sees_itself) {
  List list;
  std::vector<std::string> model;
  {
    auto tx = list.begin();
    for (int number = 0; number < 500; ++number) {
      const std::string text = std::to_string(number);
      const EntryInput one[] = {input(text)};
      list.writer->insert(tx, list.info.id, model.size(), one).value();
      model.push_back(text);
    }
    list.writer->set_item(tx, list.info.id, 250, input("changed")).value();
    model[250] = "changed";
    list.writer->erase_items(tx, list.info.id, 0, 100).value();
    model.erase(model.begin(), model.begin() + 100);
    BOOST_TEST(text_of(list.writer->item(tx, list.info.id, 150).value().value) == "changed");
    BOOST_TEST(list.values(list.info).empty());
    tx.commit().value();
  }
  list.check(model);
  {
    auto tx = list.begin();
    list.writer->set_item(tx, list.info.id, 3, input("x")).value();
    list.writer->reverse(tx, list.info.id).value();
    list.writer->set_item(tx, list.info.id, 3, input("y")).value();
    list.writer->clear(tx, list.info.id).value();
  }
  list.check(model);
  const auto usage = list.writer->usage().live_bytes;
  list.reclaim_all();
  BOOST_TEST(list.writer->usage().live_bytes <= usage);
}

BOOST_AUTO_TEST_CASE(reversing_keeps_the_items) {
  List list{1024 * kUnitBytes};
  std::vector<std::string> model;
  for (int number = 0; number < 40000; ++number) model.push_back(std::to_string(number));
  for (const std::size_t size : {1u, 2u, 1000u, 40000u}) {
    list.change(list.info.id, [&](Transaction& tx) { return list.writer->clear(tx, list.info.id); }).value();
    std::vector<std::string> part(model.begin(), model.begin() + static_cast<std::ptrdiff_t>(size));
    list.insert(0, part);
    list.change(list.info.id, [&](Transaction& tx) { return list.writer->reverse(tx, list.info.id); }).value();
    std::reverse(part.begin(), part.end());
    list.check(part);
    list.change(list.info.id, [&](Transaction& tx) { return list.writer->reverse(tx, list.info.id); }).value();
    std::reverse(part.begin(), part.end());
    list.set(0, "first");
    part[0] = "first";
    list.check(part);
  }
  list.reclaim_all();
  const auto bytes = list.TestSegment::info(list.info.id).bytes + list.TestSegment::info(ObjectId::names).bytes;
  BOOST_TEST(list.writer->usage().live_bytes == bytes);
}

BOOST_AUTO_TEST_CASE(a_queue_that_runs_for_long_needs_no_more_memory) {
  List list;
  for (int number = 0; number < 1000; ++number)
    list.insert(static_cast<std::uint64_t>(number), {std::to_string(number)});
  for (int number = 1000; number < 5000; ++number) {
    list.insert(1000, {std::to_string(number)});
    list.remove(0, 1);
  }
  const auto used = list.writer->usage().used_bytes;
  for (int number = 5000; number < 30000; ++number) {
    list.insert(1000, {std::to_string(number)});
    list.remove(0, 1);
  }
  BOOST_TEST(list.writer->usage().used_bytes == used);
  BOOST_TEST(list.at(0) == "29000");
}

BOOST_AUTO_TEST_SUITE_END()
