#include <algorithm>

#include "daemon/store/numbers.hpp"
#include "daemon/store/operations.hpp"

namespace taskpool::store {
namespace {

Error missing(std::span<const std::byte> key) { return fail(Errc::unknown_key, "key: " + describe_key(key)); }

bool is_same(const EntryView& entry, std::uint8_t encoding, std::span<const std::byte> value) {
  return entry.encoding == encoding && std::ranges::equal(entry.value, value);
}

/// Writes an entry, with what follows from it.
Result<void> put_entry(Batch& batch, Object& object, KeyView key, const EntryInput& entry) {
  const auto done = batch.writer.put(batch.tx, object.id, key, entry);
  if (!done) return done.error();
  batch.note(object, ChangeKind::set, key);
  if (entry.expires_ns != 0) batch.effects.expiring.push_back({&object, std::string{as_text(key)}, entry.expires_ns});
  return {};
}

/// Sets an entry from a value argument, with a time to live perhaps.
Result<void> set_entry(Batch& batch, Object& object, const Operation& operation, const Argument& value,
                       std::size_t ttl) {
  const auto expires = batch.expiry(operation, ttl);
  if (!expires) return expires.error();
  const auto entry = batch.input(object, value, *expires);
  if (!entry) return entry.error();
  return put_entry(batch, object, operation.arguments[0].bytes, *entry);
}

Result<void> erase_entry(Batch& batch, Object& object, KeyView key) {
  const auto was = batch.writer.erase(batch.tx, object.id, key);
  if (!was) return was.error();
  if (!*was) return missing(key);
  batch.note(object, ChangeKind::deleted, key);
  return {};
}

Result<void> pop_item(Batch& batch, Object& object) {
  const auto newest = batch.writer.newest(batch.tx, object.id);
  if (!newest) return newest.error();
  if (!*newest) return fail(Errc::unknown_key, "it is empty");
  const std::vector<std::byte> key{(*newest)->key.begin(), (*newest)->key.end()};
  batch.out.key(key);
  if (const auto done = batch.put(**newest); !done) return done;
  return erase_entry(batch, object, key);
}

Result<void> incr(Batch& batch, Object& object, const Operation& operation) {
  const auto& [key, delta, rest, none] = operation.arguments;
  const auto by = batch.bytes(delta);
  if (!by) return by.error();
  const auto found = batch.writer.find(batch.tx, object.id, key.bytes);
  if (!found) return found.error();
  const auto delta_encoding = static_cast<Encoding>(delta.encoding);
  // What is not there counts as 0 of the argument's kind: adding that to it checks that it is a number.
  constexpr std::byte kZero[8]{};
  const auto nothing = delta_encoding == Encoding::json ? as_bytes("0") : std::span<const std::byte>{kZero};
  const auto sum = *found ? add(static_cast<Encoding>((*found)->encoding), (*found)->value, delta_encoding, *by)
                          : add(delta_encoding, nothing, delta_encoding, *by);
  if (!sum) return sum.error();
  batch.out.value(sum->encoding, as_bytes(sum->bytes));
  return put_entry(batch, object, key.bytes,
                   {.value = as_bytes(sum->bytes),
                    .encoding = static_cast<std::uint8_t>(sum->encoding),
                    .writer_uid = batch.client.state.uid,
                    .expires_ns = *found ? (*found)->expires_ns : 0});
}

Result<void> compare_and_set(Batch& batch, Object& object, const Operation& operation) {
  const auto& [key, expected, value, ttl] = operation.arguments;
  const auto bytes = batch.bytes(expected);
  if (!bytes) return bytes.error();
  const auto found = batch.writer.find(batch.tx, object.id, key.bytes);
  if (!found) return found.error();
  const bool wants_none = expected.encoding == static_cast<std::uint8_t>(Encoding::none) && bytes->empty();
  if (*found ? !is_same(**found, expected.encoding, *bytes) : !wants_none)
    return fail(Errc::changed, "key: " + describe_key(key.bytes) + (*found ? " has another value" : " is not there"));
  return set_entry(batch, object, operation, value, 3);
}

Result<void> get_or_set(Batch& batch, Object& object, const Operation& operation) {
  const auto& [key, value, ttl, none] = operation.arguments;
  const auto found = batch.writer.find(batch.tx, object.id, key.bytes);
  if (!found) return found.error();
  if (*found) {
    if (const auto done = batch.put(**found); !done) return done;
    batch.out.integer(0);
    return {};
  }
  if (const auto done = set_entry(batch, object, operation, value, 2); !done) return done;
  const auto now = batch.writer.find(batch.tx, object.id, key.bytes);
  if (!now) return now.error();
  if (*now)
    if (const auto done = batch.put(**now); !done) return done;
  batch.out.integer(1);
  return {};
}

Result<void> expire(Batch& batch, Object& object, const Operation& operation) {
  const auto& key = operation.arguments[0];
  const auto expires = batch.expiry(operation, 1);
  if (!expires) return expires.error();
  const auto found = batch.writer.find(batch.tx, object.id, key.bytes);
  if (!found) return found.error();
  if (!*found) return missing(key.bytes);
  const auto& entry = **found;
  // The entry is written anew, out of the segment itself: its bytes stay where they are until the commit.
  const auto refs = copy_refs(entry.refs);
  return put_entry(batch, object, key.bytes,
                   {.value = entry.value,
                    .encoding = entry.encoding,
                    .writer_uid = entry.writer_uid,
                    .expires_ns = *expires,
                    .refs = refs});
}

Result<void> apply_to(Batch& batch, Object& object, const Operation& operation) {
  const auto key = operation.arguments[0].bytes;
  switch (operation.info->code) {
    case Code::set: return set_entry(batch, object, operation, operation.arguments[1], 2);
    case Code::get:
    case Code::contains: {
      const auto found = batch.writer.find(batch.tx, object.id, key);
      if (!found) return found.error();
      if (operation.info->code == Code::contains) {
        batch.out.integer(*found ? 1 : 0);
        return {};
      }
      if (!*found) return {};
      return batch.put(**found);
    }
    case Code::erase: return erase_entry(batch, object, key);
    case Code::pop_key: {
      const auto found = batch.writer.find(batch.tx, object.id, key);
      if (!found) return found.error();
      if (!*found) return missing(key);
      if (const auto done = batch.put(**found); !done) return done;
      return erase_entry(batch, object, key);
    }
    case Code::pop_item: return pop_item(batch, object);
    case Code::get_or_set: return get_or_set(batch, object, operation);
    case Code::incr: return incr(batch, object, operation);
    case Code::compare_and_set: return compare_and_set(batch, object, operation);
    case Code::expire: return expire(batch, object, operation);
    default: return fail(Errc::internal, std::string{operation.info->name});
  }
}

}  // namespace

Result<void> apply_mapping(Batch& batch, Object& object, const Operation& operation) {
  const bool has_key = !operation.info->arguments.empty() && operation.info->arguments[0] == 'k';
  const auto key = operation.arguments[0].bytes;
  if (has_key && object.type == ObjectType::name_space &&
      (key.empty() || key[0] != static_cast<std::byte>(KeyKind::text)))
    return fail(Errc::bad_key, "key: a namespace has names, which are text");
  const auto done = apply_to(batch, object, operation);
  if (!done && has_key && done.error().errc() == Errc::bad_argument)
    if (const auto good = check_key(key); !good) return fail(Errc::bad_key, "key: " + good.error().detail);
  return done;
}

}  // namespace taskpool::store
