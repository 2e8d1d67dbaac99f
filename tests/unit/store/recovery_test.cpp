#include <boost/test/unit_test.hpp>
#include <functional>
#include <random>
#include <set>

#include "proto/store/words.hpp"
#include "tests/unit/store/segment_fixture.hpp"

using namespace taskpool;
using namespace taskpool::store;
using namespace taskpool::store::testing;

namespace {

struct Death {};

/// Ends the writer before one of its stores.
class Knife final : public MemoryHook {
 public:
  explicit Knife(std::size_t stores) : left_(stores) { memory_hook = this; }
  ~Knife() override { memory_hook = nullptr; }
  std::uint64_t load(const std::byte* place, std::memory_order order) override {
    auto* word = const_cast<std::uint64_t*>(reinterpret_cast<const std::uint64_t*>(place));
    return std::atomic_ref<std::uint64_t>{*word}.load(order);
  }
  void store(std::byte* place, std::uint64_t value, std::memory_order) override {
    if (is_dead_) return;  // what destructors would do
    if (left_-- == 0) {
      is_dead_ = true;
      throw Death{};
    }
    *reinterpret_cast<std::uint64_t*>(place) = value;
  }
  void fence(std::memory_order) override {}
  bool is_dead() const { return is_dead_; }

 private:
  std::size_t left_;
  bool is_dead_ = false;
};

/// Everything that a client can see, as text.
std::string picture(TestSegment& store) {
  std::string all;
  std::map<std::uint64_t, ObjectInfo> objects;
  store.writer->for_each_object([&](const ObjectInfo& info) { objects[static_cast<std::uint64_t>(info.id)] = info; });
  for (const auto& [number, info] : objects) {
    all += std::to_string(number) + " " + std::string{name(info.type)} + " " + std::to_string(info.count) + " " +
           std::to_string(info.aux[0]);
    if (shape_of(info.type) == Shape::dict || shape_of(info.type) == Shape::list)
      for (const auto& value : store.values(info)) all += " " + value;
    std::vector<std::byte> buffer(1000);
    const ObjectView view{info.offset, info.id, info.type};
    if (info.type == ObjectType::value)
      all += " " + TestSegment::answer(store.reader().value_get(view, buffer), buffer);
    std::vector<std::uint64_t> words(info.count);
    if (info.type == ObjectType::array && store.reader().array_get(view, 0, words) == ReadCode::found)
      for (const auto word : words) all += " " + std::to_string(word);
    all += "\n";
  }
  return all;
}

/// Objects of every shape; the same each time.
struct Scene : TestSegment {
  Scene() : TestSegment(32 * kUnitBytes) {
    for (const auto type : {ObjectType::dict, ObjectType::list, ObjectType::value, ObjectType::array})
      ids.push_back(create(type).id);
    for (int number = 0; number < 7; ++number)
      put(ids[0], text_key(std::to_string(number)), std::to_string(number)).value();
    auto tx = begin();
    std::vector<std::string> texts;
    for (int number = 0; number < 70; ++number) texts.push_back(std::to_string(number));
    const std::vector<EntryInput> items = [&] {
      std::vector<EntryInput> inputs;
      for (const auto& text : texts) inputs.push_back(input(text));
      return inputs;
    }();
    writer->insert(tx, ids[1], 0, items).value();
    writer->set_value(tx, ids[2], input("old")).value();
    writer->set_length(tx, ids[3], 3).value();
    tx.commit().value();
  }
  std::vector<ObjectId> ids;
};

using Change = std::function<void(Scene&, Transaction&)>;
struct NamedChange {
  const char* name;
  Change change;
};

const std::vector<NamedChange>& changes() {
  static const std::vector<NamedChange> all{
      {"overwrite",
       [](Scene& s, Transaction& tx) { s.writer->put(tx, s.ids[0], text_key("3"), input("new")).value(); }},
      {"insert and grow",
       [](Scene& s, Transaction& tx) { s.writer->put(tx, s.ids[0], text_key("x"), input("x")).value(); }},
      {"erase", [](Scene& s, Transaction& tx) { s.writer->erase(tx, s.ids[0], text_key("3")).value(); }},
      {"a new slab",
       [](Scene& s, Transaction& tx) {
         s.writer->put(tx, s.ids[0], text_key("3"), input(std::string(700, 'n'))).value();
       }},
      {"append",
       [](Scene& s, Transaction& tx) {
         const EntryInput one[] = {input("new")};
         s.writer->insert(tx, s.ids[1], 70, one).value();
       }},
      {"set item", [](Scene& s, Transaction& tx) { s.writer->set_item(tx, s.ids[1], 60, input("new")).value(); }},
      {"erase items", [](Scene& s, Transaction& tx) { s.writer->erase_items(tx, s.ids[1], 1, 60).value(); }},
      {"reverse", [](Scene& s, Transaction& tx) { s.writer->reverse(tx, s.ids[1]).value(); }},
      {"set value", [](Scene& s, Transaction& tx) { s.writer->set_value(tx, s.ids[2], input("new")).value(); }},
      {"set words",
       [](Scene& s, Transaction& tx) {
         const std::uint64_t words[] = {4, 5, 6};
         s.writer->set_words(tx, s.ids[3], 0, words).value();
       }},
      {"create and fill",
       [](Scene& s, Transaction& tx) {
         const auto made = s.writer->create_object(tx, {}).value();
         s.writer->put(tx, made.id, text_key("k"), input("v")).value();
       }},
      {"remove", [](Scene& s, Transaction& tx) { s.writer->remove(tx, s.ids[0]).value(); }},
      {"clear", [](Scene& s, Transaction& tx) { s.writer->clear(tx, s.ids[1]).value(); }},
      {"a batch over all",
       [](Scene& s, Transaction& tx) {
         for (int number = 0; number < 12; ++number)
           s.writer->put(tx, s.ids[0], text_key(std::to_string(number)), input("b")).value();
         s.writer->erase_items(tx, s.ids[1], 0, 5).value();
         s.writer->set_aux(tx, s.ids[2], 0, 9).value();
       }},
  };
  return all;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(store_recovery)

BOOST_AUTO_TEST_CASE(a_restart_finds_everything_and_goes_on) {
  Scene store;
  const std::string before = picture(store);
  const auto usage = store.writer->usage();
  BOOST_TEST(store.restart().empty());
  BOOST_TEST(picture(store) == before);
  BOOST_TEST(store.writer->usage().live_bytes == usage.live_bytes);
  BOOST_TEST(store.writer->usage().used_bytes == usage.used_bytes);
  for (const auto& [what, change] : changes()) {
    if (std::string_view{what} == "remove") continue;
    auto tx = store.begin();
    change(store, tx);
    BOOST_REQUIRE(tx.commit().has_value());
    const std::string after = picture(store);
    BOOST_TEST(store.restart().empty());
    BOOST_TEST(picture(store) == after);
    if (std::string_view{what} == "clear" || std::string_view{what} == "erase items") {
      std::vector<EntryInput> items(70 - store.info(store.ids[1]).count, input("i"));
      auto more = store.begin();
      store.writer->insert(more, store.ids[1], 0, items).value();
      more.commit().value();
    }
  }
}

BOOST_AUTO_TEST_CASE(a_death_at_any_store_leaves_all_or_nothing) {
  for (const auto& [what, change] : changes()) {
    BOOST_TEST_CONTEXT(what) {
      std::string before, after;
      {
        Scene store;
        before = picture(store);
        auto tx = store.begin();
        change(store, tx);
        tx.commit().value();
        after = picture(store);
      }
      BOOST_TEST(before != after);
      bool survived = false;
      std::set<std::string> seen;
      for (std::size_t stores = 0; !survived; ++stores) {
        Scene store;
        {
          Knife knife{stores};
          try {
            auto tx = store.begin();
            change(store, tx);
            tx.commit().value();
          } catch (const Death&) {
          }
          survived = !knife.is_dead();
          store.writer.reset();
        }
        // A second death, during the recovery, changes nothing either.
        for (std::size_t second = 0; second < 200; second += 1 + second / 4) {
          Knife knife{second};
          try {
            (void)recover(store.span(), store.extend());
          } catch (const Death&) {
          }
          if (!knife.is_dead()) break;
        }
        auto recovered = recover(store.span(), store.extend()).value();
        BOOST_REQUIRE(recovered.messages.empty());
        store.writer.emplace(std::move(recovered.writer));
        const std::string found = picture(store);
        BOOST_REQUIRE((found == before || found == after));
        // Once it is there, it stays.
        seen.insert(found);
        BOOST_REQUIRE((found == after || !seen.contains(after) || before == after));
        auto tx = store.begin();
        BOOST_REQUIRE(store.writer->put(tx, ObjectId::names, text_key("n"), input("n")).has_value());
        BOOST_REQUIRE(tx.commit().has_value());
      }
      BOOST_TEST(seen.size() == 2u);
    }
  }
}

BOOST_AUTO_TEST_CASE(what_is_no_segment_is_refused) {
  TestSegment store;
  store.writer.reset();
  const auto flipped = [&](std::size_t offset) {
    store.memory.get()[offset] ^= std::byte{1};
    const auto result = recover(store.span(), store.extend());
    store.memory.get()[offset] ^= std::byte{1};
    return !result && result.error().errc() == Errc::bad_segment;
  };
  for (const std::size_t field :
       {offsetof(SegmentHeader, magic), offsetof(SegmentHeader, format), offsetof(SegmentHeader, bound_bytes),
        offsetof(SegmentHeader, seed), offsetof(SegmentHeader, domain), offsetof(SegmentHeader, check),
        offsetof(SegmentHeader, state), offsetof(SegmentHeader, used_bytes)})
    BOOST_TEST(flipped(field));
  BOOST_TEST(recover(store.span().first(store.size / 2), store.extend()).error().errc() == Errc::bad_segment);
  BOOST_TEST(recover(store.span().first(100), store.extend()).error().errc() == Errc::bad_segment);
  BOOST_TEST(recover(store.span(), store.extend()).has_value());
}

BOOST_AUTO_TEST_CASE(damage_is_repaired_and_said) {
  // Every word in use, one after the other, with some of its bits flipped: whatever happens, a writer and a reader go
  // on.
  const Scene pristine;
  const std::vector<std::byte> image(pristine.memory.get(), pristine.memory.get() + pristine.size);
  Scene store;
  std::mt19937_64 random{3};
  std::size_t refused = 0, repaired = 0;
  for (std::size_t offset = 0; offset < pristine.extended; offset += 8) {
    std::uint64_t word;
    std::memcpy(&word, image.data() + offset, 8);
    const bool is_quiet = word == 0 && offset > 4096;
    if (is_quiet && random() % 61 != 0) continue;
    store.writer.reset();
    std::memcpy(store.memory.get(), image.data(), image.size());
    word ^= std::uint64_t{1} << random() % 64 | std::uint64_t{1} << random() % 64;
    std::memcpy(store.memory.get() + offset, &word, 8);
    const auto open = Segment::open(store.span(), [] { return std::uint64_t{1}; });
    if (open) {
      // A reader of the damaged segment.
      std::vector<std::byte> buffer(100);
      Page page;
      std::uint64_t version = 0;
      for (std::uint64_t place = first_slab_offset(store.size);
           place < first_slab_offset(store.size) + 5 * kObjectBytes; place += kObjectBytes)
        for (std::uint64_t id = 1; id < 6; ++id)
          if (const auto view = open->find(place, ObjectId{id})) {
            (void)open->get(*view, text_key("3"), buffer);
            (void)open->list_get(*view, 65, buffer);
            (void)open->value_get(*view, buffer);
            page.clear();
            (void)open->read_all(*view, page, version, 2);
          }
    }
    auto recovered = recover(store.span(), store.extend());
    if (!recovered) {
      ++refused;
      BOOST_REQUIRE(recovered.error().errc() == Errc::bad_segment);
      continue;
    }
    repaired += !recovered->messages.empty();
    store.writer.emplace(std::move(recovered->writer));
    // What is left works, and is sound.
    const std::string found = picture(store);
    auto tx = store.begin();
    if (store.writer->info(tx, store.ids[0])) (void)store.writer->put(tx, store.ids[0], text_key("after"), input("x"));
    BOOST_REQUIRE(tx.commit().has_value());
    const auto messages = store.restart();
    BOOST_REQUIRE_MESSAGE(messages.empty() || messages.front().starts_with("unit "),
                          offset << ": " << (messages.empty() ? "" : messages.front()));
  }
  BOOST_TEST(refused > 5u);
  BOOST_TEST(repaired > 100u);
}

BOOST_AUTO_TEST_CASE(a_broken_tree_keeps_its_items) {
  Scene store;
  auto list = store.info(store.ids[1]);
  const auto root = Reference{load_word(store.memory.get() + list.offset + offsetof(ObjectRecord, root))};
  // The count below its first child is wrong.
  store.memory.get()[root.offset() + sizeof(BlockHeader) + 8] ^= std::byte{1};
  const auto messages = store.restart();
  BOOST_REQUIRE(messages.size() == 1u);
  BOOST_TEST(messages[0].find("list") != std::string::npos);
  BOOST_TEST(store.info(store.ids[1]).count == 70u);
  BOOST_TEST(store.values(list).size() == 70u);
  BOOST_TEST(store.restart().empty());
}

BOOST_AUTO_TEST_CASE(a_cut_run_is_joined_again) {
  Scene store;
  const auto dict = store.info(store.ids[0]);
  const std::string before = picture(store);
  const auto root = Reference{load_word(store.memory.get() + dict.offset + offsetof(ObjectRecord, root))};
  const std::uint64_t slots = load_word(store.memory.get() + root.offset() + offsetof(BlockHeader, order));
  for (std::uint64_t slot = 0; slot < slots; ++slot) {
    std::byte* tag = store.memory.get() + root.offset() + kSlotsOffset + slot * sizeof(Slot);
    if (load_word(tag) != 0) store_word(tag, load_word(tag) ^ 0xff00ff);
  }
  BOOST_TEST(store.restart().size() == 1u);
  BOOST_TEST(picture(store) == before);
  BOOST_TEST(store.get(dict, text_key("5")) == "5");
}

BOOST_AUTO_TEST_SUITE_END()
