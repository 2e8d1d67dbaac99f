#include <fmt/core.h>

#include "daemon/store/operations.hpp"
#include "proto/limits.hpp"

namespace taskpool::store {
namespace {

/// How much memory the items of one argument may need besides their values. Items.
constexpr std::size_t kMaxItems = 1u << 20;

Error no_index(std::int64_t index, std::uint64_t count) {
  return fail(Errc::out_of_range, fmt::format("index: {} of {}", index, count));
}

/// Counts a negative index from the end.
std::int64_t from_start(std::int64_t index, std::uint64_t count) {
  return index < 0 ? index + static_cast<std::int64_t>(count) : index;
}

/// An index that has to be there.
Result<std::uint64_t> at(std::int64_t index, std::uint64_t count) {
  const auto place = from_start(index, count);
  if (place < 0 || place >= static_cast<std::int64_t>(count)) return no_index(index, count);
  return static_cast<std::uint64_t>(place);
}

/// An index that is cut to the list's ends.
std::uint64_t clamp(std::int64_t index, std::uint64_t count) {
  const auto place = from_start(index, count);
  if (place < 0) return 0;
  return std::min(static_cast<std::uint64_t>(place), count);
}

struct Range {
  std::uint64_t start;
  std::uint64_t stop;
};
Range slice(const Operation& operation, std::uint64_t count) {
  const auto start = clamp(operation.integer(0), count);
  return {start, std::max(start, clamp(operation.integer(1), count))};
}

/// The values of an argument of items. `copy` keeps what was in the arena, which its owner may change while it is
/// parsed.
Result<std::vector<EntryInput>> inputs(Batch& batch, Object& object, const Argument& argument,
                                       std::vector<std::byte>& copy) {
  auto bytes = batch.bytes(argument);
  if (!bytes) return bytes.error();
  if (argument.in_arena) {
    copy.assign(bytes->begin(), bytes->end());
    *bytes = copy;
  }
  std::vector<EntryInput> entries;
  for (ArgumentReader items{*bytes}; !items.done();) {
    const auto item = items.next();
    if (!item) return item.error();
    if (item->encoding >= kKeyEncoding) return fail(Errc::bad_message, "items: want values alone");
    if (entries.size() == kMaxItems) return fail(Errc::limit_reached, fmt::format("items: at most {}", kMaxItems));
    const auto entry = batch.input(object, *item);
    if (!entry) return entry.error();
    entries.push_back(*entry);
  }
  return entries;
}

Result<void> insert_one(Batch& batch, Object& object, std::uint64_t index, const Argument& argument) {
  const auto entry = batch.input(object, argument);
  if (!entry) return entry.error();
  return batch.writer.insert(batch.tx, object.id, index, {&*entry, 1});
}

Result<void> insert_all(Batch& batch, Object& object, std::uint64_t index, const Argument& argument) {
  std::vector<std::byte> copy;
  const auto entries = inputs(batch, object, argument, copy);
  if (!entries) return entries.error();
  if (entries->empty()) return {};
  return batch.writer.insert(batch.tx, object.id, index, *entries);
}

Result<void> list_slice(Batch& batch, Object& object, Range range) {
  std::vector<EntryView> page;
  std::size_t bytes = 0;
  auto next = range.start;
  while (next < range.stop && bytes < kPageBytes) {
    const auto item = batch.writer.item(batch.tx, object.id, next);
    if (!item) return item.error();
    bytes += item->value.size() + kArgumentBytes;
    page.push_back(*item);
    ++next;
  }
  batch.out.integer(static_cast<std::int64_t>(next));
  for (const auto& item : page)
    if (const auto done = batch.put(item); !done) return done;
  return {};
}

Result<void> erase_range(Batch& batch, Object& object, Range range) {
  if (range.start == range.stop) return {};
  return batch.writer.erase_items(batch.tx, object.id, range.start, range.stop - range.start);
}

Result<void> read_list(Batch& batch, Object& object, const Operation& operation, std::uint64_t count) {
  if (operation.info->code == Code::list_slice) return list_slice(batch, object, slice(operation, count));
  const auto index = at(operation.integer(0), count);
  if (!index) return index.error();
  const auto item = batch.writer.item(batch.tx, object.id, *index);
  if (!item) return item.error();
  return batch.put(*item);
}

Result<void> write_list(Batch& batch, Object& object, const Operation& operation, std::uint64_t count) {
  const auto& arguments = operation.arguments;
  auto& writer = batch.writer;
  switch (operation.info->code) {
    case Code::list_append: return insert_one(batch, object, count, arguments[0]);
    case Code::list_insert: return insert_one(batch, object, clamp(operation.integer(0), count), arguments[1]);
    case Code::list_extend: return insert_all(batch, object, count, arguments[0]);
    case Code::list_reverse: return writer.reverse(batch.tx, object.id);
    case Code::list_delete_slice: return erase_range(batch, object, slice(operation, count));
    case Code::list_set_slice: {
      const auto range = slice(operation, count);
      if (const auto done = erase_range(batch, object, range); !done) return done;
      return insert_all(batch, object, range.start, arguments[2]);
    }
    case Code::list_replace:
      if (const auto done = writer.clear(batch.tx, object.id); !done) return done;
      return insert_all(batch, object, 0, arguments[0]);
    default: break;
  }
  const auto index = at(operation.integer(0), count);
  if (!index) return index.error();
  if (operation.info->code == Code::list_set) {
    const auto entry = batch.input(object, arguments[1]);
    if (!entry) return entry.error();
    return writer.set_item(batch.tx, object.id, *index, *entry);
  }
  if (operation.info->code == Code::list_pop) {
    const auto item = writer.item(batch.tx, object.id, *index);
    if (!item) return item.error();
    if (const auto done = batch.put(*item); !done) return done;
  }
  return writer.erase_items(batch.tx, object.id, *index, 1);
}

}  // namespace

Result<void> apply_list(Batch& batch, Object& object, const Operation& operation) {
  const auto info = batch.writer.info(batch.tx, object.id);
  if (!info) return info.error();
  if (operation.info->kind == Kind::read) return read_list(batch, object, operation, info->count);
  const auto done = write_list(batch, object, operation, info->count);
  if (done) batch.note(object, ChangeKind::other);
  return done;
}

}  // namespace taskpool::store
