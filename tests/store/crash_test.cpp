#include <boost/test/unit_test.hpp>
#include <cstdlib>
#include <functional>

#include "tests/store/dump.hpp"
#include "tests/store/recorder.hpp"
#include "tests/store/scenes.hpp"

/// The writer is stopped after each store of each operation; the next daemon finds the segment in that state.
namespace taskpool::store::testing {
namespace {

constexpr std::size_t kSmall = 2 * kMinSegmentBytes;

/// Segment memory that is a copy of another one.
struct Image {
  explicit Image(std::span<const std::byte> from)
      : memory(static_cast<std::byte*>(std::aligned_alloc(4096, from.size())), &std::free), size(from.size()) {
    reset(from);
  }
  /// Nothing lies beyond what is used.
  void reset(std::span<const std::byte> from) {
    const auto used = load_word(from.data() + offsetof(SegmentHeader, used_bytes));
    std::memcpy(memory.get(), from.data(), std::min<std::size_t>(used, from.size()));
  }
  std::span<std::byte> span() { return {memory.get(), size}; }
  std::span<const std::byte> span() const { return {memory.get(), size}; }
  void apply(const RecordedStore& store) { std::memcpy(memory.get() + store.offset, &store.value, sizeof store.value); }

  std::unique_ptr<std::byte, decltype(&std::free)> memory;
  std::size_t size;
};

/// As the daemon does at its start. Throws if that says anything: a crash damages nothing.
Writer take_over(std::span<std::byte> memory) {
  auto recovered = recover(memory, [](std::size_t) -> Result<void> { return {}; });
  if (!recovered) throw std::runtime_error{recovered.error().detail};
  if (!recovered->messages.empty()) throw std::runtime_error{recovered->messages.front()};
  return std::move(recovered->writer);
}

/// Whether to stop after that store. Of what has very many, those that only fill memory which nobody knows yet
/// are tried in part: the first and the last tens are, and as many in between.
bool is_tried(std::size_t done, std::size_t stores) {
  constexpr std::size_t kAll = 400, kPart = 40;
  return stores <= kAll || done < kPart || stores - done < kPart || done % (stores / kPart) == 0;
}

class Crashes {
 public:
  Crashes(const Change& prepare, const Change& change, std::size_t bytes = kSmall) : segment_(bytes) {
    prepare(segment_);
    Image base{segment_.span()};
    {
      Recorder recorder{segment_.span()};
      change(segment_);
      stores_ = std::move(recorder.stores);
    }
    Image before{base.span()}, after{segment_.span()};
    before_ = dump(take_over(before.span()));
    after_ = dump(take_over(after.span()));
    BOOST_TEST_MESSAGE(stores_.size() << " stores");
    walk(base);
    BOOST_TEST(is_decided_ == (before_ != after_), "the operation is never decided");
  }

 private:
  void walk(Image& crashed) {
    Image copy{crashed.span()};
    for (std::size_t done = 0;; ++done) {
      if (is_tried(done, stores_.size())) {
        try {
          check(crashed, copy);
        } catch (const std::exception& problem) {
          BOOST_ERROR("killed after store " << done << " of " << stores_.size() << ": " << problem.what());
          return;
        }
      }
      if (done == stores_.size()) return;
      crashed.apply(stores_[done]);
    }
  }

  void check(const Image& crashed, Image& copy) {
    if (const auto wrong = check_reads(crashed.span(), before_, after_); !wrong.empty())
      throw std::runtime_error{"before recovery, " + wrong};
    copy.reset(crashed.span());
    std::vector<RecordedStore> repairs;
    {
      Recorder recorder{copy.span()};
      const Writer successor = take_over(copy.span());
      repairs = std::move(recorder.stores);
    }
    check_taken_over(copy);
    // The successor is killed, too, after its first stores and its last ones: mostly where it has a change to complete.
    constexpr std::size_t kEnds = 8;
    const bool is_decided = load_word(crashed.memory.get() + kRedoOffset + offsetof(RedoRecord, committed)) != 0;
    if (!is_decided && ++undecided_ % 16 != 0) return;
    Image image{crashed.span()};
    for (std::size_t repaired = 0; repaired < repairs.size(); ++repaired) {
      image.apply(repairs[repaired]);
      if (const auto wrong = check_reads(image.span(), before_, after_); !wrong.empty())
        throw std::runtime_error{"during recovery, " + wrong};
      if (repaired >= kEnds && repairs.size() - repaired > kEnds) continue;
      copy.reset(image.span());
      check_taken_over(copy);
    }
  }

  void check_taken_over(Image& copy) {
    const Writer writer = take_over(copy.span());
    const Dump found = dump(writer);
    const bool is_new = found == after_;
    if (!is_new && found != before_) throw std::runtime_error{"neither old nor new"};
    if (is_new && before_ != after_ && !is_decided_) is_decided_ = true;
    if (!is_new && is_decided_) throw std::runtime_error{"old again after it was new"};
    if (const auto wrong = check_accounts(writer); !wrong.empty()) throw std::runtime_error{wrong};
    if (const auto wrong = check_reads(copy.span(), found, found); !wrong.empty()) throw std::runtime_error{wrong};
  }

  TestSegment segment_;
  std::vector<RecordedStore> stores_;
  Dump before_, after_;
  bool is_decided_ = false;
  std::size_t undecided_ = 0;  ///< States in which nothing was to be completed.
};

}  // namespace

BOOST_AUTO_TEST_SUITE(store_crash)

BOOST_AUTO_TEST_CASE(put_of_a_new_key) {
  Crashes{some_dict, [](auto& store) { store.put(kFirst, text_key("new"), "value").value(); }};
}

BOOST_AUTO_TEST_CASE(put_of_the_first_key) {
  Crashes{[](auto& store) { (void)store.create(ObjectType::dict); },
          [](auto& store) { store.put(kFirst, text_key("new"), "value").value(); }};
}

BOOST_AUTO_TEST_CASE(overwrite) {
  Crashes{some_dict, [](auto& store) { store.put(kFirst, text_key("k2"), big('w', 30)).value(); }};
  // Another size class, which has no slab yet.
  Crashes{some_dict, [](auto& store) { store.put(kFirst, text_key("k2"), big('w', 5000)).value(); }};
}

BOOST_AUTO_TEST_CASE(erase_and_reuse_of_the_slot) {
  Crashes{some_dict, [](auto& store) { store.erase(kFirst, text_key("k3")).value(); }};
  Crashes{[](auto& store) {
            some_dict(store);
            store.erase(kFirst, text_key("k3")).value();
          },
          [](auto& store) { store.put(kFirst, text_key("k3"), "again").value(); }};
}

BOOST_AUTO_TEST_CASE(growth) {
  // The seventh key is one too many for eight slots; where that is so is for the table to say.
  for (int keys = 6; keys < 10; ++keys)
    Crashes{[&](auto& store) {
              (void)store.create(ObjectType::dict);
              for (int key = 0; key < keys; ++key) store.put(kFirst, text_key(std::to_string(key)), "v").value();
            },
            [](auto& store) { store.put(kFirst, text_key("one more"), "v").value(); }};
}

BOOST_AUTO_TEST_CASE(growth_in_slices) {
  const auto prepare = [](TestSegment& store) {
    (void)store.create(ObjectType::dict);
    for (std::uint64_t key = 0;; ++key) {
      auto tx = store.begin();
      const auto put = store.writer->put(tx, kFirst, text_key(std::to_string(key)), input("v"));
      if (!put) return;  // busy: the next put has to wait for it
      tx.commit().value();
    }
  };
  Crashes{prepare, [](auto& store) { store.put(kFirst, text_key("one more"), "v").value(); }, 128 * kUnitBytes};
}

BOOST_AUTO_TEST_CASE(batch) {
  const auto prepare = [](auto& store) {
    some_dict(store);
    (void)store.create(ObjectType::list);
  };
  Crashes{prepare, [](auto& store) {
            transact(store, [&](Transaction& tx) {
              store.writer->put(tx, kFirst, text_key("k0"), input("other")).value();
              store.writer->erase(tx, kFirst, text_key("k1")).value();
              store.writer->put(tx, kFirst, text_key("k1"), input("back")).value();
              store.writer->erase(tx, kFirst, text_key("k2")).value();
              store.writer->put(tx, kFirst, text_key("new"), input("new")).value();
              const std::vector<EntryInput> items(3, input("item"));
              store.writer->insert(tx, kSecond, 0, items).value();
              store.writer->set_aux(tx, kSecond, 1, 77).value();
            });
          }};
}

BOOST_AUTO_TEST_CASE(list_insert_and_erase) {
  for (const std::size_t items : {0u, 1u, 59u, 70u}) {
    Crashes{[&](auto& store) { some_list(store, items); },
            [&](auto& store) { insert(store, items / 2, 1, "in the middle"); }};
    Crashes{[&](auto& store) { some_list(store, items); },
            [&](auto& store) { insert(store, items, 130, "at the end"); }};
  }
  for (const std::size_t items : {1u, 70u, 200u}) {
    Crashes{[&](auto& store) { some_list(store, items); },
            [&](auto& store) {
              transact(store, [&](Transaction& tx) { store.writer->erase_items(tx, kFirst, 0, 1).value(); });
            }};
    Crashes{[&](auto& store) { some_list(store, items); },
            [&](auto& store) {
              transact(store,
                       [&](Transaction& tx) { store.writer->erase_items(tx, kFirst, items / 3, items / 2).value(); });
            }};
  }
}

BOOST_AUTO_TEST_CASE(list_item_and_reverse) {
  Crashes{[](auto& store) { some_list(store, 70); },
          [](auto& store) {
            transact(store, [&](Transaction& tx) { store.writer->set_item(tx, kFirst, 66, input("other")).value(); });
          }};
  Crashes{[](auto& store) { some_list(store, 70); },
          [](auto& store) { transact(store, [&](Transaction& tx) { store.writer->reverse(tx, kFirst).value(); }); }};
}

BOOST_AUTO_TEST_CASE(value_and_array) {
  const auto set = [](auto& store, std::string text) {
    transact(store, [&](Transaction& tx) { store.writer->set_value(tx, kFirst, input(text)).value(); });
  };
  Crashes{[](auto& store) { (void)store.create(ObjectType::value); }, [&](auto& store) { set(store, "first"); }};
  Crashes{[&](auto& store) {
            (void)store.create(ObjectType::value);
            set(store, "first");
          },
          [&](auto& store) { set(store, big('x', 400)); }};
  const auto some_array = [](auto& store) {
    (void)store.create(ObjectType::array);
    transact(store, [&](Transaction& tx) { store.writer->set_length(tx, kFirst, 20).value(); });
  };
  const std::vector<std::uint64_t> words{7, 8, 9};
  Crashes{some_array, [&](auto& store) {
            transact(store, [&](Transaction& tx) { store.writer->set_words(tx, kFirst, 5, words).value(); });
          }};
  Crashes{some_array, [](auto& store) {
            transact(store, [&](Transaction& tx) { store.writer->set_length(tx, kFirst, 100).value(); });
          }};
}

BOOST_AUTO_TEST_CASE(what_a_session_applied_goes_with_what_it_did) {
  const auto prepare = [](auto& store) {
    some_dict(store);
    (void)store.create(ObjectType::session);
  };
  Crashes{prepare, [](auto& store) {
            transact(store, [&](Transaction& tx) {
              store.writer->put(tx, kFirst, text_key("k0"), input("by request 9")).value();
              store.writer->set_aux(tx, kSecond, 0, 9).value();
            });
          }};
}

BOOST_AUTO_TEST_CASE(create_remove_and_clear) {
  Crashes{some_dict, [](auto& store) { (void)store.create(ObjectType::queue); }};
  Crashes{some_dict, [](auto& store) {
            transact(store, [&](Transaction& tx) {
              const auto made = store.writer->create_object(tx, {.type = ObjectType::list}).value();
              const std::vector<EntryInput> items(2, input("item"));
              store.writer->insert(tx, made.id, 0, items).value();
            });
          }};
  const auto remove = [](auto& store) {
    transact(store, [&](Transaction& tx) { store.writer->remove(tx, kFirst).value(); });
    while (!store.writer->reclaim(2)) continue;
  };
  Crashes{some_dict, remove};
  Crashes{[](auto& store) { some_list(store, 130); }, remove};
  Crashes{[&](auto& store) {
            some_dict(store);
            remove(store);
          },
          [](auto& store) { (void)store.create(ObjectType::dict); }};  // the same place
  for (const bool is_list : {false, true})
    Crashes{[&](auto& store) { is_list ? some_list(store, 130) : some_dict(store); },
            [](auto& store) {
              transact(store, [&](Transaction& tx) { store.writer->clear(tx, kFirst).value(); });
              while (!store.writer->reclaim(2)) continue;
            }};
}

BOOST_AUTO_TEST_CASE(abandoned_transaction) {
  Crashes{some_dict, [](auto& store) {
            auto tx = store.begin();
            store.writer->put(tx, kFirst, text_key("k0"), input("other")).value();
            (void)store.writer->create_object(tx, {.type = ObjectType::dict}).value();
          }};
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace taskpool::store::testing
