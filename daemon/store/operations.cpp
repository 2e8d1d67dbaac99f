#include "daemon/store/operations.hpp"

#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "daemon/store/home.hpp"
#include "daemon/store/queue_state.hpp"
#include "proto/fields.hpp"
#include "proto/limits.hpp"

namespace taskpool::store {

std::string describe_key(std::span<const std::byte> key) {
  auto text = check_key(key) ? dump_json(key_to_json(key)) : std::string{"(not a key)"};
  constexpr std::size_t kShown = 100;
  if (text.size() > kShown) text = text.substr(0, kShown) + "...";
  return text;
}

std::vector<ObjectId> copy_refs(const RefList& refs) {
  std::vector<ObjectId> copy;
  for (std::size_t index = 0; index < refs.size(); ++index) copy.push_back(refs[index]);
  return copy;
}

Result<std::span<const std::byte>> Batch::bytes(const Argument& argument) {
  if (!argument.in_arena) return argument.bytes;
  const auto found = client.find_up(argument.place());
  if (found.empty()) return fail(Errc::bad_message, "value: there is no such place in the up arena");
  return found;
}

Result<EntryInput> Batch::input(Object& object, const Argument& argument, std::uint64_t expires_ns) {
  const auto value = bytes(argument);
  if (!value) return value.error();
  EntryInput entry{
      .value = *value, .encoding = argument.encoding, .writer_uid = client.state.uid, .expires_ns = expires_ns};
  if (!argument.refs.empty()) {
    auto& refs = effects.refs.emplace_back();
    for (std::size_t index = 0; index < argument.ref_count(); ++index) refs.push_back(ObjectId{argument.ref(index)});
    if (const auto known = home.refer(object, refs); !known) return known.error();
    entry.refs = refs;
  }
  return entry;
}

Result<void> Batch::put(const EntryView& entry) {
  const auto named = copy_refs(entry.refs);
  const auto refs = std::as_bytes(std::span{named});
  if (entry.value.size() <= kMaxInlineItemBytes) {
    out.copy({.encoding = entry.encoding, .bytes = entry.value, .refs = refs});
    return {};
  }
  const auto place = client.place(entry.value);
  if (!place) return place.error();
  effects.placed.push_back(*place);
  out.copy({.encoding = entry.encoding, .in_arena = true, .bytes = std::as_bytes(std::span{&*place, 1}), .refs = refs});
  return {};
}

void Batch::note(Object& object, ChangeKind kind, std::span<const std::byte> key) {
  if (!object.watches.empty()) effects.changes.push_back({&object, kind, std::string{as_text(key)}});
  if (object.has_refs) effects.unlinked.push_back(&object);
}

Result<std::uint64_t> Batch::expiry(const Operation& operation, std::size_t index) const {
  const auto ms = operation.integer(index, -1);
  if (ms < 0) return 0;
  if (ms == 0) return fail(Errc::bad_argument, "time to live: want at least 1 ms, or -1 for none");
  return tx.now_ns() + static_cast<std::uint64_t>(std::min<std::int64_t>(ms, kMaxDuration.count())) * 1'000'000;
}

Result<void> apply(Batch& batch, Object& object, const Operation& operation) {
  batch.out.begin_result();
  switch (static_cast<std::uint16_t>(operation.info->code) / 16) {  // the codes are in groups of sixteen
    case 0: return apply_any(batch, object, operation);
    case 1: return apply_mapping(batch, object, operation);
    case 3: return apply_list(batch, object, operation);
    case 5: return apply_value(batch, object, operation);
    case 6: return apply_array(batch, object, operation);
    default: break;
  }
  if (operation.info->code != Code::queue_state) return fail(Errc::internal, std::string{operation.info->name});
  const auto info = batch.writer.info(batch.tx, object.id);
  if (!info) return info.error();
  batch.out.integer(static_cast<std::int64_t>(info->count));
  const auto state = QueueState::from({info->aux[0], info->aux[1], info->aux[2], info->aux[3]}, info->count);
  batch.out.integer(static_cast<std::int64_t>(state.maxsize));
  batch.out.integer(static_cast<std::int64_t>(state.unfinished));
  return {};
}

Result<void> apply_any(Batch& batch, Object& object, const Operation& operation) {
  if (operation.info->code == Code::clear) {
    if (const auto done = batch.writer.clear(batch.tx, object.id); !done) return done;
    batch.note(object, ChangeKind::other);
    return {};
  }
  const auto info = batch.writer.info(batch.tx, object.id);
  if (!info) return info.error();
  switch (operation.info->code) {
    case Code::len: batch.out.integer(static_cast<std::int64_t>(info->count)); return {};
    case Code::stat:
      batch.out.integer(static_cast<std::int64_t>(info->version));
      batch.out.integer(static_cast<std::int64_t>(info->count));
      batch.out.integer(static_cast<std::int64_t>(info->bytes));
      return {};
    case Code::expect:
      if (static_cast<std::uint64_t>(operation.integer(0)) == info->version) return {};
      return fail(Errc::changed, fmt::format("version: it is {}", info->version));
    default: return fail(Errc::internal, std::string{operation.info->name});
  }
}

}  // namespace taskpool::store
