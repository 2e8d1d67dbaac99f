#include <boost/test/unit_test.hpp>

#include "proto/store/words.hpp"
#include "tests/store/dump.hpp"
#include "tests/store/scenes.hpp"

/// A whole change happens between two loads of a reader, for each load of each kind of read.
namespace taskpool::store::testing {
namespace {

/// Performs `change` before the load of that number, while it lives.
class Interrupter final : public MemoryHook {
 public:
  Interrupter(std::size_t loads, std::function<void()> change) : left_(loads), change_(std::move(change)) {
    memory_hook = this;
  }
  ~Interrupter() override { memory_hook = nullptr; }
  Interrupter(const Interrupter&) = delete;
  Interrupter& operator=(const Interrupter&) = delete;

  std::uint64_t load(const std::byte* place, std::memory_order) override {
    if (left_-- == 0) {
      memory_hook = nullptr;
      change_();
      memory_hook = this;
      is_done = true;
    }
    return *reinterpret_cast<const std::uint64_t*>(place);
  }
  void store(std::byte*, std::uint64_t, std::memory_order) override { std::abort(); }  // a reader stores nothing
  void fence(std::memory_order) override {}

  bool is_done = false;

 private:
  std::size_t left_;
  std::function<void()> change_;
};

constexpr std::size_t kBytes = 2 * kMinSegmentBytes;

void interrupt(const Change& prepare, const Change& change) {
  const auto make = [&] {
    auto store = std::make_unique<TestSegment>(kBytes);
    prepare(*store);
    return store;
  };
  auto example = make();
  const Dump before = dump(*example->writer);
  change(*example);
  const Dump after = dump(*example->writer);
  for (std::size_t loads = 0;; ++loads) {
    auto store = make();
    Interrupter interrupter{loads, [&] { change(*store); }};
    const auto wrong = check_reads(store->span(), before, after);
    if (!wrong.empty()) BOOST_ERROR("interrupted before load " << loads << ": " << wrong);
    if (!wrong.empty() || !interrupter.is_done) return;
  }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(store_interrupt)

BOOST_AUTO_TEST_CASE(changes_of_a_dict) {
  interrupt(some_dict, [](auto& store) { store.put(kFirst, text_key("new"), "value").value(); });
  interrupt(some_dict, [](auto& store) { store.put(kFirst, text_key("k2"), big('w', 10)).value(); });
  // In a slab that was not there when the reader began.
  interrupt(some_dict, [](auto& store) { store.put(kFirst, text_key("k2"), big('w', 3000)).value(); });
  interrupt(some_dict, [](auto& store) { store.erase(kFirst, text_key("k1")).value(); });
  interrupt(some_dict, [](auto& store) {
    for (int key = 0; key < 9; ++key) store.put(kFirst, text_key("x" + std::to_string(key)), "grows").value();
  });
  // Until blocks are used again.
  interrupt(some_dict, [](auto& store) {
    for (int count = 0; count < 80; ++count) store.put(kFirst, text_key("k3"), big('w', 10)).value();
  });
}

BOOST_AUTO_TEST_CASE(changes_of_a_list) {
  const auto list = [](auto& store) { some_list(store, 70); };
  interrupt(list, [](auto& store) { insert(store, 35, 1, "in the middle"); });
  interrupt(list, [](auto& store) { insert(store, 70, 3, big('e', 3000)); });
  interrupt(list, [](auto& store) {
    transact(store, [&](Transaction& tx) { store.writer->erase_items(tx, kFirst, 60, 10).value(); });
  });
  interrupt(list, [](auto& store) {
    transact(store, [&](Transaction& tx) { store.writer->set_item(tx, kFirst, 66, input("other")).value(); });
  });
}

BOOST_AUTO_TEST_CASE(removal) {
  const auto remove = [](auto& store) {
    transact(store, [&](Transaction& tx) { store.writer->remove(tx, kFirst).value(); });
    while (!store.writer->reclaim(100)) continue;
  };
  interrupt(some_dict, remove);
  interrupt([](auto& store) { some_list(store, 5); }, remove);
  interrupt(some_dict, [&](auto& store) {
    remove(store);
    (void)store.create(ObjectType::dict);  // in the same place
  });
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace taskpool::store::testing
