#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tests/unit/store/segment_fixture.hpp"

/// Objects to try changes on.
namespace taskpool::store::testing {

using Change = std::function<void(TestSegment&)>;

inline std::string big(char letter, std::size_t bytes) { return std::string(bytes, letter); }

/// Ids are given in order: the names are 1, what prepare() creates comes next.
inline constexpr ObjectId kFirst{2}, kSecond{3};

/// One transaction, which succeeds.
inline void transact(TestSegment& store, const std::function<void(Transaction&)>& change) {
  auto tx = store.begin();
  change(tx);
  tx.commit().value();
}

inline void some_dict(TestSegment& store) {
  (void)store.create(ObjectType::dict);
  for (int key = 0; key < 5; ++key) store.put(kFirst, text_key("k" + std::to_string(key)), big('v', 10)).value();
}

inline void insert(TestSegment& store, std::uint64_t index, std::size_t count, const std::string& text) {
  const std::vector<EntryInput> items(count, input(text));
  transact(store, [&](Transaction& tx) { store.writer->insert(tx, kFirst, index, items).value(); });
}

inline void some_list(TestSegment& store, std::size_t items) {
  (void)store.create(ObjectType::list);
  for (std::size_t index = 0; index < items; ++index) insert(store, index, 1, "item " + std::to_string(index));
}

}  // namespace taskpool::store::testing
