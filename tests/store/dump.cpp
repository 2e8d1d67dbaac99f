#include "tests/store/dump.hpp"

#include <algorithm>
#include <stdexcept>

namespace taskpool::store::testing {

namespace {

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

Segment open(std::span<const std::byte> memory) {
  return Segment::open(memory, [] { return std::uint64_t{1}; }).value();
}

void require(ReadCode code, ObjectId id) {
  if (code != ReadCode::found)
    throw std::runtime_error{"object " + std::to_string(static_cast<std::uint64_t>(id)) + " reads as " +
                             std::to_string(static_cast<int>(code))};
}

/// The answer to one look-up: the value, or nothing, or "?" with what it said.
std::optional<std::string> answer(const Read& read, std::span<const std::byte> buffer) {
  if (read.code == ReadCode::absent) return std::nullopt;
  if (!read) return "?" + std::to_string(static_cast<int>(read.code));
  return text_of(buffer.first(std::min<std::size_t>(read.bytes, buffer.size())));
}

std::optional<std::string> entry_of(const ObjectDump* object, const std::string& key) {
  if (object == nullptr) return std::nullopt;
  const auto found = std::find_if(object->entries.begin(), object->entries.end(),
                                  [&](const auto& entry) { return entry.first == key; });
  return found == object->entries.end() ? std::nullopt : std::optional{found->second};
}

std::optional<std::string> item_of(const ObjectDump* object, std::size_t index) {
  if (object == nullptr || index >= object->entries.size()) return std::nullopt;
  return object->entries[index].second;
}

const ObjectDump* find(const Dump& dump, ObjectId id) {
  const auto found = dump.find(id);
  return found == dump.end() ? nullptr : &found->second;
}

}  // namespace

Dump dump(const Writer& writer) {
  const Segment segment = open(writer.memory());
  Dump all;
  writer.for_each_object([&](const ObjectInfo& info) {
    ObjectDump object{info.offset, info.type, info.flags, info.count, {}, {}};
    std::copy(std::begin(info.aux), std::end(info.aux), object.aux.begin());
    const ObjectView view = segment.find(info.offset, info.id).value();
    std::vector<std::byte> buffer(64 * 1024);
    switch (shape_of(info.type)) {
      case Shape::dict:
      case Shape::list: {
        Page page;
        std::uint64_t version = 0;
        require(segment.read_all(view, page, version), info.id);
        for (const auto& entry : page.entries)
          object.entries.emplace_back(text_of(page.key(entry)), text_of(page.value(entry)));
        break;
      }
      case Shape::value: {
        const Read read = segment.value_get(view, buffer);
        if (read.code == ReadCode::absent) break;
        require(read.code, info.id);
        object.entries.emplace_back("", *answer(read, buffer));
        break;
      }
      case Shape::array: {
        std::vector<std::uint64_t> words(info.count);
        require(segment.array_get(view, 0, words), info.id);
        for (const auto word : words) object.entries.emplace_back("", std::to_string(word));
        break;
      }
    }
    if (info.count != object.entries.size()) throw std::runtime_error{"an object's count is wrong"};
    all.emplace(info.id, std::move(object));
  });
  return all;
}

std::string check_accounts(const Writer& writer) {
  std::uint64_t bytes = 0, objects = 0;
  writer.for_each_object([&](const ObjectInfo& info) {
    bytes += info.bytes;
    ++objects;
  });
  const Usage usage = writer.usage();
  if (usage.objects != objects) return "the number of objects is wrong";
  if (usage.used_bytes > usage.bound_bytes) return "more is used than there is";
  if (usage.live_bytes != bytes)
    return "objects have " + std::to_string(bytes) + " bytes, the segment " + std::to_string(usage.live_bytes);
  return {};
}

std::string check_reads(std::span<const std::byte> memory, const Dump& before, const Dump& after) {
  const Segment segment = open(memory);
  std::vector<std::byte> buffer(64 * 1024);
  const auto wrong = [](ObjectId id, const std::string& what, const std::optional<std::string>& got) {
    return "object " + std::to_string(static_cast<std::uint64_t>(id)) + ", " + what + ": " + got.value_or("nothing");
  };
  for (const auto& [id, object] : before) {
    const ObjectView view{object.offset, id, object.type};
    const ObjectDump* later = find(after, id);
    const auto is_gone = [&](const Read& read) { return later == nullptr && read.code == ReadCode::gone; };
    const Shape shape = shape_of(object.type);
    if (shape == Shape::dict || shape == Shape::list) {
      // While a change is under way there is nothing whole to be had; what there is has to be.
      Page page;
      std::uint64_t version = 0;
      const ReadCode code = segment.read_all(view, page, version, 1);
      ObjectDump whole;
      for (const auto& entry : page.entries)
        whole.entries.emplace_back(text_of(page.key(entry)), text_of(page.value(entry)));
      const bool is_one = whole.entries == object.entries || (later != nullptr && whole.entries == later->entries);
      if (code != ReadCode::too_busy && !(later == nullptr && code == ReadCode::gone) &&
          !(code == ReadCode::found && is_one))
        return wrong(id, "all of it", "?" + std::to_string(static_cast<int>(code)));
    }
    if (shape == Shape::dict) {
      auto keys = object.entries;
      if (later != nullptr) keys.insert(keys.end(), later->entries.begin(), later->entries.end());
      const std::size_t step = keys.size() / 500 + 1;  // a large one in part
      for (std::size_t index = 0; index < keys.size(); index += step) {
        const std::string& key = keys[index].first;
        const Read read = segment.get(view, std::as_bytes(std::span{key}), buffer);
        const auto got = answer(read, buffer);
        if (!is_gone(read) && got != entry_of(&object, key) && got != entry_of(later, key)) return wrong(id, key, got);
      }
    } else if (shape == Shape::array) {
      std::vector<std::uint64_t> word(1);
      for (std::size_t index = 0; index < object.entries.size(); ++index) {
        const ReadCode code = segment.array_get(view, index, word);
        const auto got = code == ReadCode::found ? std::optional{std::to_string(word[0])} : std::nullopt;
        if (code != ReadCode::found && code != ReadCode::absent && !(later == nullptr && code == ReadCode::gone))
          return wrong(id, "word " + std::to_string(index), "?" + std::to_string(static_cast<int>(code)));
        if (got != item_of(&object, index) && got != item_of(later, index))
          return wrong(id, "word " + std::to_string(index), got);
      }
    } else {
      const std::size_t items = std::max(object.entries.size(), later != nullptr ? later->entries.size() : 0) + 1;
      for (std::size_t index = 0; index < items; ++index) {
        const Read read =
            shape == Shape::list ? segment.list_get(view, index, buffer) : segment.value_get(view, buffer);
        const auto got = answer(read, buffer);
        const std::size_t place = shape == Shape::list ? index : 0;
        if (!is_gone(read) && got != item_of(&object, place) && got != item_of(later, place))
          return wrong(id, "item " + std::to_string(index), got);
      }
    }
  }
  return {};
}

}  // namespace taskpool::store::testing
