#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "proto/store/layout.hpp"

/// The operations of the op `store`: their numbers, on what they work, what they take and give. PROTOCOL.md,
/// section 3.5, has the same table with the meanings.
namespace taskpool::store {

/// An operation's number on the wire.
enum class Code : std::uint16_t {
  len = 1,
  clear,
  expect,
  stat,
  hold,
  unhold,
  get = 16,
  contains,
  set,
  erase,
  pop_key,
  pop_item,
  get_or_set,
  incr,
  compare_and_set,
  expire,
  scan,
  list_get = 48,
  list_set,
  list_insert,
  list_append,
  list_extend,
  list_pop,
  list_delete,
  list_slice,
  list_set_slice,
  list_delete_slice,
  list_reverse,
  list_replace,
  value_get = 80,
  value_set,
  value_incr,
  value_compare_and_set,
  array_get = 96,
  array_set,
  array_slice,
  array_set_slice,
  array_incr,
  array_compare_and_set,
  queue_put = 112,
  queue_get,
  queue_state,
  task_done,
  queue_join,
  acquire = 128,
  release,
  sync_state,
  event_set = 144,
  event_clear,
  event_is_set,
  event_wait,
  condition_wait = 160,
  condition_notify,
  barrier_wait = 176,
  barrier_acted,
  barrier_reset,
  barrier_abort,
  barrier_state,
};

/// A set of types.
using Types = std::uint32_t;
constexpr Types bit(ObjectType type) { return Types{1} << static_cast<unsigned>(type); }

inline constexpr Types kMappings = bit(ObjectType::dict) | bit(ObjectType::name_space);
inline constexpr Types kQueues = bit(ObjectType::queue) | bit(ObjectType::joinable_queue);
inline constexpr Types kSized = kMappings | kQueues | bit(ObjectType::list) | bit(ObjectType::array);
inline constexpr Types kSemaphores = bit(ObjectType::semaphore) | bit(ObjectType::bounded_semaphore);
inline constexpr Types kLockable =
    bit(ObjectType::lock) | bit(ObjectType::rlock) | kSemaphores | bit(ObjectType::condition);
inline constexpr Types kAnyType = ~Types{0};

/// Where an operation is done.
enum class Kind : std::uint8_t {
  read,     ///< Changes nothing.
  write,    ///< Changes its object at once.
  control,  ///< Of the daemon's own state: waits, owners, holds. Alone in its frame.
};

/// One row. Arguments and results are spelled with a letter each: `k` a key, `v` a value (which `refs` may follow), `i`
/// an integer (i64), `n` numbers (an array encoding), `s` a list of items; `?` before those that may be missing, `*`
/// for any number of what PROTOCOL.md says.
struct OperationInfo {
  Code code;
  std::string_view name;
  Types types;
  Kind kind;
  std::string_view arguments;
  std::string_view results;
  bool waits = false;  ///< May wait: its last integer is a timeout in ms, -1 none, 0 do not wait.
};

inline constexpr std::array kOperations{
    OperationInfo{Code::len, "len", kSized, Kind::read, "", "i"},
    OperationInfo{Code::clear, "clear", kMappings | bit(ObjectType::list), Kind::write, "", ""},
    OperationInfo{Code::expect, "expect", kAnyType, Kind::read, "i", ""},
    OperationInfo{Code::stat, "stat", kAnyType, Kind::read, "", "iii"},
    OperationInfo{Code::hold, "hold", kAnyType, Kind::control, "i", "i", true},
    OperationInfo{Code::unhold, "unhold", kAnyType, Kind::control, "", ""},
    OperationInfo{Code::get, "get", kMappings, Kind::read, "k", "?v"},
    OperationInfo{Code::contains, "contains", kMappings, Kind::read, "k", "i"},
    OperationInfo{Code::set, "set", kMappings, Kind::write, "kv?i", ""},
    OperationInfo{Code::erase, "delete", kMappings, Kind::write, "k", ""},
    OperationInfo{Code::pop_key, "pop", kMappings, Kind::write, "k", "v"},
    OperationInfo{Code::pop_item, "pop_item", kMappings, Kind::write, "", "kv"},
    OperationInfo{Code::get_or_set, "get_or_set", kMappings, Kind::write, "kv?i", "vi"},
    OperationInfo{Code::incr, "incr", kMappings, Kind::write, "kv", "v"},
    OperationInfo{Code::compare_and_set, "compare_and_set", kMappings, Kind::write, "kvv?i", ""},
    OperationInfo{Code::expire, "expire", kMappings, Kind::write, "ki", ""},
    OperationInfo{Code::scan, "scan", kMappings, Kind::control, "iii", "ii*"},
    OperationInfo{Code::list_get, "list_get", bit(ObjectType::list), Kind::read, "i", "v"},
    OperationInfo{Code::list_set, "list_set", bit(ObjectType::list), Kind::write, "iv", ""},
    OperationInfo{Code::list_insert, "list_insert", bit(ObjectType::list), Kind::write, "iv", ""},
    OperationInfo{Code::list_append, "list_append", bit(ObjectType::list), Kind::write, "v", ""},
    OperationInfo{Code::list_extend, "list_extend", bit(ObjectType::list), Kind::write, "s", ""},
    OperationInfo{Code::list_pop, "list_pop", bit(ObjectType::list), Kind::write, "i", "v"},
    OperationInfo{Code::list_delete, "list_delete", bit(ObjectType::list), Kind::write, "i", ""},
    OperationInfo{Code::list_slice, "list_slice", bit(ObjectType::list), Kind::read, "ii", "i*"},
    OperationInfo{Code::list_set_slice, "list_set_slice", bit(ObjectType::list), Kind::write, "iis", ""},
    OperationInfo{Code::list_delete_slice, "list_delete_slice", bit(ObjectType::list), Kind::write, "ii", ""},
    OperationInfo{Code::list_reverse, "list_reverse", bit(ObjectType::list), Kind::write, "", ""},
    OperationInfo{Code::list_replace, "list_replace", bit(ObjectType::list), Kind::write, "s", ""},
    OperationInfo{Code::value_get, "value_get", bit(ObjectType::value), Kind::read, "", "v"},
    OperationInfo{Code::value_set, "value_set", bit(ObjectType::value), Kind::write, "v", ""},
    OperationInfo{Code::value_incr, "value_incr", bit(ObjectType::value), Kind::write, "v", "v"},
    OperationInfo{Code::value_compare_and_set, "value_compare_and_set", bit(ObjectType::value), Kind::write, "vv", ""},
    OperationInfo{Code::array_get, "array_get", bit(ObjectType::array), Kind::read, "i", "n"},
    OperationInfo{Code::array_set, "array_set", bit(ObjectType::array), Kind::write, "in", ""},
    OperationInfo{Code::array_slice, "array_slice", bit(ObjectType::array), Kind::read, "ii", "n"},
    OperationInfo{Code::array_set_slice, "array_set_slice", bit(ObjectType::array), Kind::write, "in", ""},
    OperationInfo{Code::array_incr, "array_incr", bit(ObjectType::array), Kind::write, "in", "n"},
    OperationInfo{Code::array_compare_and_set, "array_compare_and_set", bit(ObjectType::array), Kind::write, "inn", ""},
    OperationInfo{Code::queue_put, "queue_put", kQueues, Kind::control, "vi", "", true},
    OperationInfo{Code::queue_get, "queue_get", kQueues, Kind::control, "i", "v", true},
    OperationInfo{Code::queue_state, "queue_state", kQueues, Kind::read, "", "iii"},
    OperationInfo{Code::task_done, "task_done", kQueues, Kind::control, "", ""},
    OperationInfo{Code::queue_join, "queue_join", kQueues, Kind::control, "i", "", true},
    OperationInfo{Code::acquire, "acquire", kLockable, Kind::control, "ii", "i", true},
    OperationInfo{Code::release, "release", kLockable, Kind::control, "i?i", ""},
    OperationInfo{Code::sync_state, "sync_state", kLockable, Kind::control, "", "ii"},
    OperationInfo{Code::event_set, "event_set", bit(ObjectType::event), Kind::control, "", ""},
    OperationInfo{Code::event_clear, "event_clear", bit(ObjectType::event), Kind::control, "", ""},
    OperationInfo{Code::event_is_set, "event_is_set", bit(ObjectType::event), Kind::control, "", "i"},
    OperationInfo{Code::event_wait, "event_wait", bit(ObjectType::event), Kind::control, "i", "", true},
    OperationInfo{Code::condition_wait, "condition_wait", bit(ObjectType::condition), Kind::control, "ii", "ii", true},
    OperationInfo{Code::condition_notify, "condition_notify", bit(ObjectType::condition), Kind::control, "ii", "i"},
    OperationInfo{Code::barrier_wait, "barrier_wait", bit(ObjectType::barrier), Kind::control, "i", "ii", true},
    OperationInfo{Code::barrier_acted, "barrier_acted", bit(ObjectType::barrier), Kind::control, "i", ""},
    OperationInfo{Code::barrier_reset, "barrier_reset", bit(ObjectType::barrier), Kind::control, "", ""},
    OperationInfo{Code::barrier_abort, "barrier_abort", bit(ObjectType::barrier), Kind::control, "", ""},
    OperationInfo{Code::barrier_state, "barrier_state", bit(ObjectType::barrier), Kind::control, "", "iii"},
};

/// Codes are below this.
inline constexpr std::size_t kMaxOperationCode = 256;

/// By code: the row's number + 1, or 0.
inline constexpr auto kOperationRows = [] {
  std::array<std::uint8_t, kMaxOperationCode> rows{};
  for (std::size_t row = 0; row < kOperations.size(); ++row)
    rows[static_cast<std::size_t>(kOperations[row].code)] = static_cast<std::uint8_t>(row + 1);
  return rows;
}();

/// The row of a number from the wire, or null.
constexpr const OperationInfo* find_operation(std::uint16_t code) {
  if (code >= kMaxOperationCode || kOperationRows[code] == 0) return nullptr;
  return &kOperations[kOperationRows[code] - std::size_t{1}];
}
static_assert(find_operation(static_cast<std::uint16_t>(Code::barrier_state))->code == Code::barrier_state);

}  // namespace taskpool::store
