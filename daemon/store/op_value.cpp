#include <fmt/core.h>

#include <algorithm>

#include "daemon/store/numbers.hpp"
#include "daemon/store/operations.hpp"
#include "proto/limits.hpp"

namespace taskpool::store {
namespace {

Result<void> set_value(Batch& batch, Object& object, const EntryInput& entry) {
  if (const auto done = batch.writer.set_value(batch.tx, object.id, entry); !done) return done;
  batch.note(object, ChangeKind::other);
  return {};
}

Result<void> set_value(Batch& batch, Object& object, const Argument& argument) {
  const auto entry = batch.input(object, argument);
  if (!entry) return entry.error();
  return set_value(batch, object, *entry);
}

Error other_numbers(const Object& object) {
  return fail(Errc::wrong_type, fmt::format("numbers: this array has {}", name(object.typecode)));
}

Result<std::uint64_t> array_place(const Object& object, std::int64_t index) {
  const auto place = index < 0 ? index + static_cast<std::int64_t>(object.length) : index;
  if (place < 0 || place >= static_cast<std::int64_t>(object.length))
    return fail(Errc::out_of_range, fmt::format("index: {} of {}", index, object.length));
  return static_cast<std::uint64_t>(place);
}

/// The words of an argument of numbers.
Result<std::vector<std::uint64_t>> words(Batch& batch, const Object& object, const Argument& argument) {
  if (static_cast<Encoding>(argument.encoding) != object.typecode) return other_numbers(object);
  const auto bytes = batch.bytes(argument);
  if (!bytes) return bytes.error();
  const auto size = element_bytes(object.typecode);
  if (bytes->size() % size != 0) return fail(Errc::bad_message, "numbers: a torn element");
  std::vector<std::uint64_t> found(bytes->size() / size);
  for (std::size_t index = 0; index < found.size(); ++index)
    found[index] = to_word(object.typecode, bytes->data() + index * size);
  return found;
}

Result<std::uint64_t> one_word(Batch& batch, const Object& object, const Argument& argument) {
  const auto found = words(batch, object, argument);
  if (!found) return found.error();
  if (found->size() != 1) return fail(Errc::wrong_type, "numbers: want one");
  return found->front();
}

void put_word(Batch& batch, const Object& object, std::uint64_t word) {
  std::byte element[sizeof(std::uint64_t)];
  from_word(object.typecode, word, element);
  batch.out.value(object.typecode, std::span{element, element_bytes(object.typecode)});
}

Result<void> array_slice(Batch& batch, Object& object, const Operation& operation) {
  const auto cut = [&](std::int64_t index) {
    const auto length = static_cast<std::int64_t>(object.length);
    return static_cast<std::uint64_t>(std::clamp<std::int64_t>(index < 0 ? index + length : index, 0, length));
  };
  const auto start = cut(operation.integer(0));
  const auto size = element_bytes(object.typecode);
  const auto stop = std::min(std::max(start, cut(operation.integer(1))), start + kPageBytes / size);
  std::vector<std::byte> numbers((stop - start) * size);
  for (auto index = start; index < stop; ++index) {
    const auto word = batch.writer.word(batch.tx, object.id, index);
    if (!word) return word.error();
    from_word(object.typecode, *word, numbers.data() + (index - start) * size);
  }
  return batch.put({.value = numbers, .encoding = static_cast<std::uint8_t>(object.typecode)});
}

Result<void> write_array(Batch& batch, Object& object, const Operation& operation, std::uint64_t index) {
  const auto store_words = [&](std::span<const std::uint64_t> now) -> Result<void> {
    if (const auto done = batch.writer.set_words(batch.tx, object.id, index, now); !done) return done;
    batch.note(object, ChangeKind::other);
    return {};
  };
  const auto& numbers = operation.arguments[1];
  if (operation.info->code == Code::array_set_slice) {
    const auto found = words(batch, object, numbers);
    if (!found) return found.error();
    if (found->size() > object.length - index)
      return fail(Errc::out_of_range, fmt::format("numbers: {} do not fit behind {}", found->size(), index));
    return found->empty() ? Result<void>{} : store_words(*found);
  }
  auto word = one_word(batch, object, numbers);
  if (!word) return word.error();
  if (operation.info->code == Code::array_set) return store_words({&*word, 1});
  const auto before = batch.writer.word(batch.tx, object.id, index);
  if (!before) return before.error();
  if (operation.info->code == Code::array_incr) {
    const auto sum = add_words(object.typecode, *before, *word);
    if (!sum) return sum.error();
    put_word(batch, object, *sum);
    return store_words({&*sum, 1});
  }
  if (*before != *word) return fail(Errc::changed, fmt::format("index: {} has another value", index));
  word = one_word(batch, object, operation.arguments[2]);
  if (!word) return word.error();
  return store_words({&*word, 1});
}

}  // namespace

Result<void> apply_value(Batch& batch, Object& object, const Operation& operation) {
  const auto& arguments = operation.arguments;
  if (operation.info->code == Code::value_set) return set_value(batch, object, arguments[0]);
  const auto found = batch.writer.value(batch.tx, object.id);
  if (!found) return found.error();
  const auto now = *found ? **found : EntryView{.encoding = static_cast<std::uint8_t>(Encoding::none)};
  if (operation.info->code == Code::value_get) return batch.put(now);
  const auto bytes = batch.bytes(arguments[0]);
  if (!bytes) return bytes.error();
  if (operation.info->code == Code::value_compare_and_set) {
    if (now.encoding != arguments[0].encoding || !std::ranges::equal(now.value, *bytes))
      return fail(Errc::changed, "it has another value");
    return set_value(batch, object, arguments[1]);
  }
  const auto sum =
      add(static_cast<Encoding>(now.encoding), now.value, static_cast<Encoding>(arguments[0].encoding), *bytes);
  if (!sum) return sum.error();
  batch.out.value(sum->encoding, as_bytes(sum->bytes));
  return set_value(batch, object,
                   EntryInput{.value = as_bytes(sum->bytes),
                              .encoding = static_cast<std::uint8_t>(sum->encoding),
                              .writer_uid = batch.client.state.uid});
}

Result<void> apply_array(Batch& batch, Object& object, const Operation& operation) {
  if (operation.info->code == Code::array_slice) return array_slice(batch, object, operation);
  auto index = array_place(object, operation.integer(0));
  if (operation.info->code == Code::array_set_slice && operation.integer(0) == static_cast<std::int64_t>(object.length))
    index = object.length;  // nothing fits there, and nothing may be asked to
  if (!index) return index.error();
  if (operation.info->code != Code::array_get) return write_array(batch, object, operation, *index);
  const auto word = batch.writer.word(batch.tx, object.id, *index);
  if (!word) return word.error();
  put_word(batch, object, *word);
  return {};
}

}  // namespace taskpool::store
