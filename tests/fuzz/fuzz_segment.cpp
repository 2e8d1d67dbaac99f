#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "proto/store/hash.hpp"
#include "proto/store/reader.hpp"
#include "proto/store/recovery.hpp"
#include "proto/store/words.hpp"

using namespace taskpool;
using namespace taskpool::store;

/// The input says how to damage a segment that a writer made:
///   byte 0: the segment; then any number of edits, each
///   kind u8, a u24, b u24, little-endian; `a` and `b` are numbers of words that are not 0 (kinds from 64 on: any
///   word).
namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

constexpr std::size_t kBytes = 4 * kMinSegmentBytes;
constexpr ObjectId kDict{2}, kList{3}, kValue{4}, kArray{5};

Result<void> extend(std::size_t) { return {}; }
std::uint64_t now() { return 1000; }

using Memory = std::unique_ptr<std::byte, decltype(&std::free)>;
Memory allocate() { return {static_cast<std::byte*>(std::aligned_alloc(4096, kBytes)), &std::free}; }

KeyBuffer key_of(std::uint64_t number) {
  KeyBuffer key;
  key.set_unsigned(number);
  return key;
}

EntryInput entry_of(const std::string& text, std::uint64_t expires_ns = 0, std::span<const ObjectId> refs = {}) {
  return {std::as_bytes(std::span{text}), 1, 1000, expires_ns, refs};
}

/// A good segment, and what to look for in it.
struct Example {
  std::vector<std::byte> bytes;
  std::vector<std::uint32_t> words;  ///< Numbers of those that are not 0.
  std::vector<ObjectView> objects;
};

void put(Writer& writer, ObjectId id, std::uint64_t key, const EntryInput& entry) {
  auto tx = writer.begin(now());
  writer.put(tx, id, key_of(key), entry).value();
  tx.commit().value();
}

void fill(Writer& writer, std::size_t keys, std::size_t items) {
  auto tx = writer.begin(now());
  for (const auto type : {ObjectType::dict, ObjectType::list, ObjectType::value, ObjectType::array})
    writer.create_object(tx, {.type = type, .owner_uid = 1000}).value();
  if (keys != 0) {
    writer.set_value(tx, kValue, entry_of(std::string(9, 'v'))).value();
    writer.set_length(tx, kArray, 20).value();
  }
  tx.commit().value();
  const ObjectId refs[] = {kList, kValue};
  for (std::uint64_t key = 0; key < keys; ++key)
    put(writer, kDict, key,
        entry_of(std::string(key % 9, 'x'), key % 7 == 3 ? 1 + key % 2 * 5000 : 0,
                 key % 5 == 0 ? std::span{refs} : std::span<const ObjectId>{}));
  for (std::uint64_t key = 0; key < keys; key += 6) {
    auto erase = writer.begin(now());
    writer.erase(erase, kDict, key_of(key)).value();
    erase.commit().value();
  }
  for (std::size_t item = 0; item < items; ++item) {
    auto append = writer.begin(now());
    const std::string text = "item " + std::to_string(item);
    const EntryInput entry = entry_of(text);
    writer.insert(append, kList, item / 2, {&entry, 1}).value();
    append.commit().value();
  }
}

Example make_example(std::size_t keys, std::size_t items) {
  const Memory memory = allocate();
  std::memset(memory.get(), 0, kBytes);
  const std::span<std::byte> span{memory.get(), kBytes};
  auto writer = Writer::create(span, &extend, {.owner_uid = 1000, .domain = "uid:1000", .seed = 5}).value();
  fill(writer, keys, items);
  Example example;
  example.bytes.assign(span.begin(), span.end());
  for (std::uint32_t word = 0; word < kBytes / 8; ++word)
    if (load_word(span.data() + word * 8) != 0) example.words.push_back(word);
  writer.for_each_object([&](const ObjectInfo& info) { example.objects.push_back({info.offset, info.id, info.type}); });
  return example;
}

const Example& find_example(std::uint8_t number) {
  static const Example examples[] = {make_example(5, 3), make_example(40, 80), make_example(0, 0),
                                     make_example(9, 4000)};
  return examples[number % std::size(examples)];
}

std::uint64_t get(std::span<const std::byte> memory, std::size_t offset) { return load_word(memory.data() + offset); }
void set(std::span<std::byte> memory, std::size_t offset, std::uint64_t value) {
  store_word(memory.data() + offset, value);
}

void seal_header(std::span<std::byte> memory) {
  SegmentHeader header;
  std::memcpy(&header, memory.data(), sizeof header);
  set(memory, offsetof(SegmentHeader, check), header_check(header));
}

/// A committed record that stores `value` at one of its places, and says so as a writer would.
void commit(std::span<std::byte> memory, std::uint64_t offset, std::uint64_t value, std::uint64_t pairs) {
  set(memory, kRedoOffset + offsetof(RedoRecord, pairs), offset);
  set(memory, kRedoOffset + offsetof(RedoRecord, pairs) + 8, value);
  std::uint64_t check = pairs;
  for (std::uint64_t pair = 0; pair < std::min<std::uint64_t>(pairs, kMaxRedoWords); ++pair) {
    const std::size_t at = kRedoOffset + offsetof(RedoRecord, pairs) + pair * sizeof(RedoPair);
    check = redo_check(check, get(memory, at), get(memory, at + 8));
  }
  set(memory, kRedoOffset + offsetof(RedoRecord, check), check);
  set(memory, kRedoOffset + offsetof(RedoRecord, committed), pairs);
}

/// Performs one edit; the segment may become shorter.
void edit(std::span<std::byte>& memory, const Example& example, std::span<const std::uint8_t> input) {
  const auto number = [&](std::size_t at) {
    return std::uint32_t{input[at]} | std::uint32_t{input[at + 1]} << 8 | std::uint32_t{input[at + 2]} << 16;
  };
  const std::uint32_t a = number(1), b = number(4);
  const auto place = [&](std::uint32_t n) {
    const std::size_t word = input[0] >= 64 ? n % (kBytes / 8) : example.words[n % example.words.size()];
    return word * 8;
  };
  if (memory.size() < kBytes) return;
  const std::size_t at = place(a);
  switch (input[0] % 16) {
    case 0: return set(memory, at, get(memory, at) ^ std::uint64_t{1} << (b % 64));
    case 1: return set(memory, at, b);
    case 2: return set(memory, at, get(memory, place(b)));
    case 3: return set(memory, at, get(memory, at) + b - (1u << 23));
    case 4: return set(memory, at, ~std::uint64_t{0} >> (b % 64));
    case 5: return set(memory, at, std::rotl(get(memory, at), static_cast<int>(b % 64)));
    case 6: memory = memory.first(a % kBytes / 8 * 8); return;
    case 7: return seal_header(memory);
    case 8: return commit(memory, at, get(memory, place(b)), 1);
    case 9: return commit(memory, at, b, b % 5000);
    case 10: return set(memory, at, at / 8 | (get(memory, at) >> 36 << 36));  // a reference to itself
    case 11: return set(memory, at, at);
    case 12: return set(memory, a % offsetof(SegmentHeader, locks) / 8 * 8, b);
    case 13: return set(memory, at, get(memory, at) ^ (std::uint64_t{b} << 32));
    case 14: return set(memory, kUnitMapOffset + a % 64 * 8, b);
    default: return set(memory, at, 0);
  }
}

/// Everything that a client can ask. Whatever it answers: it answers, and does not touch what is not there.
void read_everything(std::span<const std::byte> memory, const Example& example) {
  const auto segment = Segment::open(memory, &now);
  if (!segment) return require(!segment.error().detail.empty());
  for (const auto code : {ReadCode::found, ReadCode::gone, ReadCode::wrong_type, ReadCode::too_busy, ReadCode::damaged})
    require(!read_error(code).detail.empty());
  (void)segment->domain();
  std::vector<std::byte> buffer(4096);
  for (const auto& object : example.objects) {
    const auto view = segment->find(object.offset, object.id);
    if (!view) continue;
    ObjectStat stat;
    (void)segment->stat(*view, stat);
    for (std::uint64_t key = 0; key < 45; ++key) {
      const KeyBuffer wanted = key_of(key);
      const Read read = segment->get(*view, wanted, buffer);
      if (read.code != ReadCode::found && read.code != ReadCode::absent) require(!read_error(read.code).detail.empty());
      // Only damage lets them differ: a look-up at once sees what lies behind a slot that was emptied.
      if (segment->contains(*view, wanted.view()).code != read.code)
        require(!std::equal(memory.begin(), memory.end(), example.bytes.begin(), example.bytes.end()));
    }
    const std::byte long_key[20] = {std::byte{3}};
    (void)segment->get(*view, KeyView{long_key}, buffer);
    for (const std::uint64_t index : {0u, 1u, 2u, 40u, 79u, 80u, 3999u, 4000u})
      (void)segment->list_get(*view, index, buffer);
    (void)segment->list_get(*view, UINT64_MAX, buffer);
    (void)segment->value_get(*view, buffer);
    std::uint64_t words[20];
    (void)segment->array_get(*view, 0, words);
    (void)segment->array_get(*view, UINT64_MAX, words);
    Page page;
    std::uint64_t version = 0;
    (void)segment->read_all(*view, page, version, 2);
    page.clear();
    Cursor cursor;
    for (int pages = 0; pages < 20; ++pages)
      if (segment->scan(*view, cursor, 7, 1 << 16, page) != ReadCode::found) break;
    page.clear();
    (void)segment->list_scan(*view, 1, 5, page);
    (void)segment->find(object.offset + 8, object.id);
  }
  (void)segment->find(kBytes, kDict);
  (void)segment->find(kBytes - 64, kDict);
  (void)segment->find(3, kDict);
}

/// What recovery gives back is sound: readers find no damage, it can be changed, and needs no repair the next time.
void check_recovered(std::span<std::byte> memory, Writer writer) {
  writer.for_each_object([&](const ObjectInfo& info) {
    const Segment segment = Segment::open(memory, &now).value();
    const auto view = segment.find(info.offset, info.id);
    require(view.has_value());
    Page page;
    std::uint64_t version = 0;
    const Shape shape = shape_of(info.type);
    if (shape == Shape::dict || shape == Shape::list)
      require(segment.read_all(*view, page, version) == ReadCode::found);
    if (shape == Shape::value) require(segment.value_get(*view, {}).code != ReadCode::damaged);
    std::vector<std::uint64_t> words(shape == Shape::array ? info.count : 0);
    if (shape == Shape::array) require(segment.array_get(*view, 0, words) == ReadCode::found);
  });
  std::vector<std::pair<ObjectId, Shape>> objects;
  writer.for_each_object([&](const ObjectInfo& info) { objects.emplace_back(info.id, shape_of(info.type)); });
  for (const auto& [id, shape] : objects) {
    auto tx = writer.begin(now());
    const std::string text = "new";
    const EntryInput entry = entry_of(text);
    if (shape == Shape::dict) (void)writer.put(tx, id, key_of(77), entry);
    if (shape == Shape::list) (void)writer.insert(tx, id, 0, {&entry, 1});
    if (shape == Shape::value) (void)writer.set_value(tx, id, entry);
    (void)tx.commit();
  }
  for (const auto& [id, shape] : objects) {
    if (id == ObjectId::names) continue;  // there always has to be one
    auto tx = writer.begin(now());
    (void)writer.remove(tx, id);
    (void)tx.commit();
  }
  while (!writer.reclaim(1000)) continue;
  const auto again = recover(memory, &extend);
  require(again.has_value());
  for (const auto& message : again->messages) {
    if (message.starts_with("unit ")) continue;  // a slab that is given up stays so
    std::fprintf(stderr, "not repaired: %s\n", message.c_str());
    std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const Example& example = find_example(data[0]);
  static const Memory block = allocate();
  std::span<std::byte> memory{block.get(), kBytes};
  std::copy(example.bytes.begin(), example.bytes.end(), memory.begin());
  constexpr std::size_t kEdit = 7, kMaxEdits = 32;
  std::span<const std::uint8_t> edits{data + 1, size - 1};
  for (std::size_t count = 0; edits.size() >= kEdit && count < kMaxEdits; ++count, edits = edits.subspan(kEdit))
    edit(memory, example, edits);
  read_everything(memory, example);
  auto recovered = recover(memory, &extend);
  if (!recovered) {
    require(!recovered.error().detail.empty());
    return 0;
  }
  require(recovered->messages.size() <= kMaxRecoveryMessages);
  check_recovered(memory, std::move(recovered->writer));
  return 0;
}
