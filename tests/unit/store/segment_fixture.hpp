#pragma once

#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "proto/store/reader.hpp"
#include "proto/store/recovery.hpp"
#include "proto/store/writer.hpp"

/// A segment in private memory, its writer and a reader of it.
namespace taskpool::store::testing {

inline std::uint64_t test_now = 1;

inline Key text_key(std::string_view text) {
  KeyBuffer buffer;
  if (!buffer.set_text(text)) std::abort();
  return parse_key(buffer).value();
}

inline std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span{text}); }
inline std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
inline EntryInput input(std::string_view text) { return {.value = bytes_of(text), .encoding = 1, .writer_uid = 1000}; }

struct TestSegment {
  explicit TestSegment(std::size_t bytes = 64 * kUnitBytes)
      : memory(static_cast<std::byte*>(std::aligned_alloc(4096, bytes)), &std::free), size(bytes) {
    std::memset(memory.get(), 0, bytes);
    writer.emplace(Writer::create(span(), extend(), {.owner_uid = 1000, .domain = "uid:1000", .seed = 42}).value());
  }
  std::span<std::byte> span() { return {memory.get(), size}; }
  Extend extend() {
    return [this](std::size_t wanted) -> Result<void> {
      if (wanted > limit) return fail(Errc::out_of_space, "no room");
      extended = wanted;
      return {};
    };
  }
  Transaction begin() { return writer->begin(test_now); }
  ObjectInfo create(ObjectType type) {
    auto tx = begin();
    const auto info = writer->create_object(tx, {.type = type, .owner_uid = 1000, .created = 7}).value();
    tx.commit().value();
    return info;
  }
  ObjectInfo info(ObjectId id) {
    auto tx = begin();
    return writer->info(tx, id).value();
  }
  /// Repeats what answers `busy` after the work it asks for, as the daemon does.
  template <class F>
  Result<void> change(ObjectId id, F&& operation) {
    for (;;) {
      auto tx = begin();
      Result<void> done = operation(tx);
      if (done) return tx.commit();
      tx.abort();
      if (done.error().errc() != Errc::busy) return done;
      for (;;) {
        const auto worked = writer->work(id, 1000);
        if (!worked) return worked.error();
        if (*worked) break;
      }
    }
  }
  Result<void> put(ObjectId id, KeyView key, std::string_view value) {
    return change(id, [&](Transaction& tx) -> Result<void> {
      auto done = writer->put(tx, id, key, input(value));
      return done ? Result<void>{} : done.error();
    });
  }
  Result<void> erase(ObjectId id, KeyView key) {
    return change(id, [&](Transaction& tx) -> Result<void> {
      auto done = writer->erase(tx, id, key);
      return done ? Result<void>{} : done.error();
    });
  }
  Segment reader() const {
    return Segment::open({memory.get(), size}, [] { return test_now; }).value();
  }
  ObjectView view(const ObjectInfo& info) const { return reader().find(info.offset, info.id).value(); }
  /// A reader's look-up: the value, or what else it said.
  std::string get(const ObjectInfo& info, KeyView key) const {
    std::vector<std::byte> buffer(4096);
    const auto segment = reader();
    const Read read = segment.get({info.offset, info.id, info.type}, key, buffer);
    return answer(read, buffer);
  }
  static std::string answer(const Read& read, std::span<const std::byte> buffer) {
    if (read) return text_of(buffer.first(std::min<std::size_t>(read.bytes, buffer.size())));
    return "!" + std::to_string(static_cast<int>(read.code));
  }
  std::vector<std::string> values(const ObjectInfo& info) const {
    Page page;
    std::uint64_t version = 0;
    std::vector<std::string> all;
    const auto segment = reader();
    if (segment.read_all({info.offset, info.id, info.type}, page, version) != ReadCode::found) return {"!"};
    for (const auto& entry : page.entries) all.push_back(text_of(page.value(entry)));
    return all;
  }
  /// What a restarted daemon does; returns the messages.
  std::vector<std::string> restart() {
    writer.reset();
    auto recovered = recover(span(), extend()).value();
    writer.emplace(std::move(recovered.writer));
    return recovered.messages;
  }

  std::unique_ptr<std::byte, decltype(&std::free)> memory;
  std::size_t size;
  std::size_t limit = SIZE_MAX;
  std::size_t extended = 0;
  std::optional<Writer> writer;
};

inline const std::string kAbsent = "!" + std::to_string(static_cast<int>(ReadCode::absent));
inline const std::string kGone = "!" + std::to_string(static_cast<int>(ReadCode::gone));

}  // namespace taskpool::store::testing
