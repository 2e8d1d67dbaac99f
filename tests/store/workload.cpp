#include "tests/store/workload.hpp"

#include <cstring>
#include <random>
#include <stdexcept>

#include "proto/store/hash.hpp"
#include "proto/store/reader.hpp"

namespace taskpool::store::testing {

namespace {

/// Items that the list has at most.
constexpr std::size_t kListItems = 300;

KeyBuffer key_of(std::uint64_t number) {
  KeyBuffer key;
  key.set_unsigned(number);
  return key;
}

EntryInput input(const std::string& text) {
  return {.value = std::as_bytes(std::span{text}), .encoding = 2, .writer_uid = 1};
}

void require(bool holds, const char* what) {
  if (!holds) throw std::runtime_error{what};
}

/// Applies to a segment, within one transaction.
struct ToWriter {
  Writer& writer;
  Transaction& tx;

  template <class T>
  static void check(const Result<T>& done) {
    if (!done) throw done.error();
  }
  void put(std::uint64_t key, const std::string& value) { check(writer.put(tx, kDict, key_of(key), input(value))); }
  void erase(std::uint64_t key) { check(writer.erase(tx, kDict, key_of(key))); }
  std::size_t items() { return writer.info(tx, kList).value().count; }
  void insert(std::size_t index, const std::string& value) {
    const EntryInput item = input(value);
    check(writer.insert(tx, kList, index, {&item, 1}));
  }
  void erase_items(std::size_t index, std::size_t count) { check(writer.erase_items(tx, kList, index, count)); }
  void set_item(std::size_t index, const std::string& value) { check(writer.set_item(tx, kList, index, input(value))); }
  void set_value(const std::string& value) { check(writer.set_value(tx, kValue, input(value))); }
  void set_words(std::uint64_t word) {
    const std::vector<std::uint64_t> words(kArrayWords, word);
    check(writer.set_words(tx, kArray, 0, words));
  }
  void note(std::uint64_t number) { check(writer.set_aux(tx, kSession, 0, number)); }
};

struct ToContents {
  Contents& contents;

  auto at(std::size_t index) { return contents.list.begin() + static_cast<std::ptrdiff_t>(index); }
  void put(std::uint64_t key, const std::string& value) { contents.dict[key] = value; }
  void erase(std::uint64_t key) { contents.dict.erase(key); }
  std::size_t items() const { return contents.list.size(); }
  void insert(std::size_t index, const std::string& value) { contents.list.insert(at(index), value); }
  void erase_items(std::size_t index, std::size_t count) { contents.list.erase(at(index), at(index + count)); }
  void set_item(std::size_t index, const std::string& value) { *at(index) = value; }
  void set_value(const std::string& value) { contents.value = value; }
  void set_words(std::uint64_t word) { contents.word = word; }
  void note(std::uint64_t number) { contents.number = number; }
};

template <class Target>
void change(Target& target, std::uint64_t number) {
  std::minstd_rand random{static_cast<unsigned>(hash_mix(number, kHash1) | 1)};
  // Waves of growing and shrinking: the keys of a wave reach further and further, and then fewer and fewer.
  const std::uint64_t wave = number / 2000 % 4;
  const std::uint64_t key = kPermanentKeys + random() % (wave == 0 ? 50 : wave == 2 ? kKeys - kPermanentKeys : 600);
  const auto dice = random() % 100;
  const std::size_t items = target.items();
  const std::string item = make_value(kListKey, number);
  if (dice < (wave == 2 ? 50u : 25u)) {
    target.put(key, make_value(key, number));
  } else if (dice < 55) {
    target.erase(key);
  } else if (dice < 60) {
    const std::uint64_t permanent = 2 + random() % (kPermanentKeys - 2);
    target.put(permanent, make_value(permanent, number));
  } else if (dice < 70) {  // a batch
    target.put(0, make_value(0, number));
    target.erase(key);
    target.put(1, make_value(1, number));
    target.set_words(number);
    if (items < kListItems) target.insert(items, item);
  } else if (dice < 80 && items < kListItems) {
    target.insert(items, item);
  } else if (dice < 84 && items < kListItems) {
    target.insert(random() % (items + 1), item);
  } else if (dice < 90 && items > 0) {
    target.erase_items(0, 1);
  } else if (dice < 92 && items > 10) {
    target.erase_items(random() % (items - 5), 5);
  } else if (dice < 96 && items > 0) {
    target.set_item(random() % items, item);
  } else {
    target.set_value(make_value(kValueKey, number));
  }
  target.note(number);
}

/// Runs `operation` on a transaction until it has not to wait for work first.
template <class F>
void transact(Writer& writer, F operation) {
  for (;;) {
    auto tx = writer.begin(1);
    try {
      operation(tx);
      const auto done = tx.commit();
      if (!done) throw done.error();
      return;
    } catch (const Error& error) {
      tx.abort();
      if (error.errc() != Errc::busy) throw std::runtime_error{error.detail};
    }
    for (const ObjectId id : {kDict, kList})
      while (!writer.work(id, 1000).value()) continue;
  }
}

}  // namespace

std::string make_value(std::uint64_t key, std::uint64_t number) {
  const std::uint64_t seed = hash_mix(key ^ kHash2, number ^ kHash3);
  // Mostly small, some of several words, few of other size classes.
  const std::size_t words = 3 + (seed % 64 == 0 ? 600 : seed % 8 == 0 ? seed / 64 % 60 : 0);
  std::vector<std::uint64_t> value(words);
  value[0] = key;
  value[1] = number;
  value[2] = words;
  for (std::size_t at = 3; at < words; ++at) value[at] = hash_mix(seed + at, kHash1);
  std::string text(words * 8 + 1, '.');
  std::memcpy(text.data(), value.data(), words * 8);
  text.back() = static_cast<char>(seed);
  return text;
}

std::uint64_t check_value(std::uint64_t key, std::span<const std::byte> value) {
  std::uint64_t number = 0;
  if (value.size() < 17) return 0;
  std::memcpy(&number, value.data() + 8, sizeof number);
  const std::string whole = make_value(key, number);
  return whole.size() == value.size() && std::memcmp(whole.data(), value.data(), whole.size()) == 0 ? number : 0;
}

void create_objects(Writer& writer) {
  transact(writer, [&](Transaction& tx) {
    for (const auto type :
         {ObjectType::dict, ObjectType::list, ObjectType::value, ObjectType::array, ObjectType::session})
      writer.create_object(tx, {.type = type}).value();
    for (std::uint64_t key = 0; key < kPermanentKeys; ++key)
      writer.put(tx, kDict, key_of(key), input(make_value(key, 1))).value();
    writer.set_value(tx, kValue, input(make_value(kValueKey, 1))).value();
    writer.set_length(tx, kArray, kArrayWords).value();
  });
}

void perform(Writer& writer, std::uint64_t number) {
  transact(writer, [&](Transaction& tx) {
    ToWriter target{writer, tx};
    change(target, number);
  });
}

void perform(Contents& contents, std::uint64_t number) {
  ToContents target{contents};
  change(target, number);
}

Contents read_contents(const Writer& writer) {
  const Segment segment = Segment::open(writer.memory(), [] { return std::uint64_t{1}; }).value();
  Contents contents;
  std::vector<std::byte> buffer(64 * 1024);
  writer.for_each_object([&](const ObjectInfo& info) {
    const ObjectView view = segment.find(info.offset, info.id).value();
    Page page;
    std::uint64_t version = 0;
    if (info.id == kDict || info.id == kList) {
      require(segment.read_all(view, page, version) == ReadCode::found, "an object cannot be read");
      require(page.entries.size() == info.count, "an object's count is wrong");
      for (const auto& entry : page.entries) {
        const auto value = page.value(entry);
        std::string text{reinterpret_cast<const char*>(value.data()), value.size()};
        if (info.id == kList) {
          contents.list.push_back(std::move(text));
          continue;
        }
        std::uint64_t key = 0;
        std::memcpy(&key, text.data(), sizeof key);
        require(std::ranges::equal(key_of(key).view(), page.key(entry)), "a value is another key's");
        require(contents.dict.emplace(key, std::move(text)).second, "a key is there twice");
      }
    } else if (info.id == kValue) {
      const Read read = segment.value_get(view, buffer);
      require(read.code == ReadCode::found, "the value cannot be read");
      contents.value.assign(reinterpret_cast<const char*>(buffer.data()), read.bytes);
    } else if (info.id == kArray) {
      std::vector<std::uint64_t> words(kArrayWords);
      require(segment.array_get(view, 0, words) == ReadCode::found, "the array cannot be read");
      contents.word = words[0];
      require(words == std::vector(kArrayWords, words[0]), "the array's words are of several changes");
    } else if (info.id == kSession) {
      contents.number = info.aux[0];
    }
  });
  return contents;
}

}  // namespace taskpool::store::testing
