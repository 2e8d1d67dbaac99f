#include "tests/store/watcher.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace taskpool::store::testing {

namespace {

[[noreturn]] void wrong(const std::string& what) { throw std::runtime_error{what}; }

KeyBuffer key_of(std::uint64_t number) {
  KeyBuffer key;
  key.set_unsigned(number);
  return key;
}

}  // namespace

Places find_places(const Writer& writer) {
  Places places;
  writer.for_each_object([&](const ObjectInfo& info) {
    for (const auto& [id, place] : {std::pair{kDict, &places.dict},
                                    {kList, &places.list},
                                    {kValue, &places.value},
                                    {kArray, &places.array},
                                    {kSession, &places.session}})
      if (info.id == id) *place = info.offset;
  });
  return places;
}

Watcher::Watcher(Segment segment, const Places& places, unsigned seed)
    : segment_(segment),
      dict_(segment_.find(places.dict, kDict).value()),
      list_(segment_.find(places.list, kList).value()),
      value_(segment_.find(places.value, kValue).value()),
      array_(segment_.find(places.array, kArray).value()),
      session_(segment_.find(places.session, kSession).value()),
      random_(seed),
      buffer_(64 * 1024),
      seen_(kKeys) {}

void Watcher::see(std::uint64_t& last, std::uint64_t key, std::span<const std::byte> value, const char* where) {
  const std::uint64_t number = check_value(key, value);
  if (number == 0) wrong(std::string{where} + ": torn or foreign value of key " + std::to_string(key));
  if (number < last)
    wrong(std::string{where} + ": key " + std::to_string(key) + " has " + std::to_string(number) + " after " +
          std::to_string(last));
  last = number;
}

bool Watcher::usable(ReadCode code, const char* where) {
  ++reads_;
  if (code == ReadCode::found || code == ReadCode::absent) return true;
  if (code != ReadCode::too_busy) wrong(std::string{where} + " says " + std::to_string(static_cast<int>(code)));
  ++gave_up_;
  return false;
}

void Watcher::look(std::uint64_t finished) {
  for (int count = 0; count < 50; ++count) {
    look_up(random_() % kPermanentKeys, finished);
    look_up(random_() % kKeys, finished);
  }
  look_at_pair();
  look_at_list();
  look_at_array();
  look_at_session(finished);
  const Read value = segment_.value_get(value_, buffer_);
  if (usable(value.code, "value")) see(seen_value_, kValueKey, std::span{buffer_}.first(value.bytes), "value");
  if (random_() % 16 == 0) scan();
  if (random_() % 16 == 0) read_all();
}

void Watcher::look_up(std::uint64_t key, std::uint64_t) {
  const Read read = segment_.get(dict_, key_of(key), buffer_);
  if (!usable(read.code, "get")) return;
  if (read)
    see(seen_[key], key, std::span{buffer_}.first(read.bytes), "get");
  else if (key < kPermanentKeys)
    wrong("get: a key is not there that always is: " + std::to_string(key));
}

void Watcher::look_at_pair() {
  std::uint64_t numbers[2] = {};
  const ReadCode code = segment_.consistently(dict_, [&] {
    for (std::uint64_t key = 0; key < 2; ++key) {
      const Read read = segment_.get(dict_, key_of(key), buffer_);
      if (!read) return read.code;
      numbers[key] = check_value(key, std::span{buffer_}.first(read.bytes));
    }
    return ReadCode::found;
  });
  if (!usable(code, "pair")) return;
  if (code == ReadCode::absent || numbers[0] == 0 || numbers[0] != numbers[1]) wrong("pair: half of a batch");
}

void Watcher::look_at_list() {
  for (const std::uint64_t index : {std::uint64_t{0}, std::uint64_t{random_() % 300}}) {
    const Read read = segment_.list_get(list_, index, buffer_);
    std::uint64_t any = 0;
    if (usable(read.code, "list") && read) see(any, kListKey, std::span{buffer_}.first(read.bytes), "list");
  }
}

void Watcher::look_at_array() {
  std::uint64_t words[kArrayWords];
  const ReadCode code = segment_.consistently(array_, [&] { return segment_.array_get(array_, 0, words); });
  if (!usable(code, "array")) return;
  if (code == ReadCode::absent) wrong("array: it became shorter");
  for (const auto word : words)
    if (word != words[0]) wrong("array: words of several changes");
  if (words[0] < seen_array_) wrong("array: older than seen");
  seen_array_ = words[0];
}

void Watcher::look_at_session(std::uint64_t finished) {
  ObjectStat stat;
  if (!usable(segment_.stat(session_, stat), "stat")) return;
  if (stat.aux[0] < seen_session_) wrong("stat: older than seen");
  if (stat.aux[0] < finished) wrong("stat: older than what is known to be done");
  seen_session_ = stat.aux[0];
}

void Watcher::scan() {
  Cursor cursor;
  std::vector<bool> met(kPermanentKeys);
  for (;;) {
    page_.clear();
    const ReadCode code = segment_.scan(dict_, cursor, 100, 1 << 20, page_);
    if (!usable(code, "scan") || code == ReadCode::absent) {
      if (code == ReadCode::absent && std::find(met.begin(), met.end(), false) != met.end())
        wrong("scan: it missed a key that always is there");
      return;
    }
    for (const auto& entry : page_.entries) {
      std::uint64_t key = 0;
      std::memcpy(&key, page_.value(entry).data(), std::min(sizeof key, page_.value(entry).size()));
      if (key >= kKeys || !std::ranges::equal(key_of(key).view(), page_.key(entry))) wrong("scan: a foreign value");
      see(seen_[key], key, page_.value(entry), "scan");
      if (key < kPermanentKeys) met[key] = true;
    }
  }
}

void Watcher::read_all() {
  page_.clear();
  std::uint64_t version = 0;
  // Rarely possible beside a writer at full speed; clients ask the daemon to hold the object then.
  if (segment_.read_all(dict_, page_, version, 4) == ReadCode::found) {
    std::uint64_t pair[2] = {1, 2};
    for (const auto& entry : page_.entries) {
      std::uint64_t key = 0;
      std::memcpy(&key, page_.value(entry).data(), sizeof key);
      if (key < 2) pair[key] = check_value(key, page_.value(entry));
    }
    if (pair[0] != pair[1]) wrong("read_all: half of a batch");
  }
  page_.clear();
  if (segment_.read_all(list_, page_, version, 4) == ReadCode::found)
    for (const auto& entry : page_.entries) {
      std::uint64_t any = 0;
      see(any, kListKey, page_.value(entry), "read_all of the list");
    }
  ++reads_;
}

}  // namespace taskpool::store::testing
