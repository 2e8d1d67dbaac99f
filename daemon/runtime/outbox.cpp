#include "daemon/runtime/outbox.hpp"

#include <cassert>
#include <cstring>
#include <string>

#include "proto/codec.hpp"

namespace taskpool::runtime {
namespace {

constexpr std::size_t kTableEntry = sizeof(std::uint32_t);

Prefix results_prefix(const Outbox::Origin& origin, std::uint32_t count) {
  return Prefix{.op = Op::run_results, .encoding = origin.encoding, .count = count, .request = origin.ticket};
}

}  // namespace

std::byte* Outbox::reserve([[maybe_unused]] std::size_t bytes) const {
  // Behind the prefix and table of the frame that is going to hold it, so that little or nothing has to be moved.
  constexpr std::size_t kAlignment = 16;
  const std::size_t begin = used_ + kPrefixBytes + kTableEntry;
  const std::size_t aligned = (begin + kAlignment - 1) / kAlignment * kAlignment;
  assert(aligned + bytes <= memory_.size());
  return memory_.data() + aligned;
}

void Outbox::add_item(const Origin& origin, std::span<const std::byte> item, std::string_view head) {
  assert(item.size() <= kMaxInlineItemBytes);
  add({.origin = origin, .form = Form::item, .count = 1}, results_prefix(origin, 1), item, head);
}

void Outbox::add_array(const Origin& origin, std::uint32_t elements, std::span<const std::byte> numbers,
                       std::string_view head) {
  auto prefix = results_prefix(origin, elements);
  prefix.target = origin.single ? 1 : 0;
  add({.origin = origin, .form = Form::array, .count = elements}, prefix, numbers, head);
}

void Outbox::add_reference(const Origin& origin, std::uint32_t elements, const ArenaRef& ref, std::string_view head) {
  auto prefix = results_prefix(origin, elements);
  prefix.flags = kInArena;
  prefix.target = origin.single && is_array(origin.encoding) ? 1 : 0;
  add({.origin = origin, .form = Form::reference, .count = elements}, prefix, std::as_bytes(std::span{&ref, 1}), head);
}

void Outbox::add_failed(Ticket ticket, std::uint32_t tickets, const ErrorHead& error) {
  auto prefix = Prefix{.op = Op::run_failed, .count = tickets, .request = ticket};
  const std::string head = encode(error);
  prefix.head = static_cast<std::uint16_t>(head.size());
  // To this class the head is the payload: it comes last too.
  add({.origin = {.ticket = ticket}, .form = Form::failed, .count = tickets}, prefix, as_bytes(head));
}

void Outbox::add(Entry entry, Prefix prefix, std::span<const std::byte> payload, std::string_view head) {
  const bool has_table = entry.form == Form::item;
  const std::size_t head_bytes = kPrefixBytes + head.size() + (has_table ? kTableEntry : 0);
  assert(used_ + head_bytes + payload.size() <= memory_.size());
  std::byte* const frame = memory_.data() + used_;
  // First the payload: it may have been built where the prefix goes.
  if (!payload.empty()) std::memmove(frame + head_bytes, payload.data(), payload.size());
  if (!head.empty()) {
    std::memcpy(frame + kPrefixBytes, head.data(), head.size());
    prefix.head = static_cast<std::uint16_t>(head.size());
  }
  if (has_table) store_le(frame + kPrefixBytes + head.size(), static_cast<std::uint32_t>(payload.size()));
  if (entry.form != Form::failed)
    prefix.body = static_cast<std::uint32_t>(payload.size() + (has_table ? kTableEntry : 0));
  encode_prefix(prefix, std::span<std::byte, kPrefixBytes>{frame, kPrefixBytes});

  entry.offset = used_;
  entry.head = head.size();
  entry.payload = payload.size();
  const auto& added = entries_.emplace_back(entry);
  used_ += head_bytes + payload.size();
  page_.outbox_bytes.store(static_cast<std::uint32_t>(used_), std::memory_order_release);
  if (entries_.size() > 1) joinable_ = joinable_ || joins(entries_[entries_.size() - 2], added);
}

std::span<const std::byte> Outbox::frame_of(const Entry& entry) const {
  const std::size_t head_bytes = kPrefixBytes + entry.head + (entry.form == Form::item ? kTableEntry : 0);
  return std::span<const std::byte>{memory_}.subspan(entry.offset, head_bytes + entry.payload);
}

std::span<const std::byte> Outbox::payload_of(const Entry& entry) const { return frame_of(entry).last(entry.payload); }

bool Outbox::joins(const Entry& entry, const Entry& next) const {
  if (entry.head > 0 || next.head > 0) return false;
  if (entry.form != next.form || entry.origin.encoding != next.origin.encoding) return false;
  if (entry.origin.single || next.origin.single || entry.origin.ticket + entry.count != next.origin.ticket)
    return false;
  return entry.form == Form::item || entry.form == Form::array;
}

std::span<const std::byte> Outbox::frames() {
  if (!joinable_) return memory_.first(used_);
  joined_.clear();
  for (std::size_t first = 0; first < entries_.size();) {
    std::size_t payload = entries_[first].payload;
    std::size_t end = first + 1;
    while (end < entries_.size() && joins(entries_[end - 1], entries_[end]) &&
           payload + entries_[end].payload <= kPackBytes)
      payload += entries_[end++].payload;
    if (end == first + 1)
      joined_.append(frame_of(entries_[first]));
    else
      append_group(first, end, payload);
    first = end;
  }
  return joined_.data();
}

void Outbox::append_group(std::size_t first, std::size_t end, std::size_t payload) {
  const auto& head = entries_[first];
  const bool has_table = head.form == Form::item;
  const std::size_t table = has_table ? (end - first) * kTableEntry : 0;
  std::byte* const frame = joined_.prepare(kPrefixBytes + table + payload).data();
  std::byte* sizes = frame + kPrefixBytes;
  std::byte* to = sizes + table;
  std::uint32_t count = 0;
  for (std::size_t i = first; i < end; ++i) {
    const auto from = payload_of(entries_[i]);
    if (has_table) {
      store_le(sizes, static_cast<std::uint32_t>(from.size()));
      sizes += kTableEntry;
    }
    if (!from.empty()) std::memcpy(to, from.data(), from.size());
    to += from.size();
    count += entries_[i].count;
  }
  auto prefix = results_prefix(head.origin, count);
  prefix.body = static_cast<std::uint32_t>(table + payload);
  encode_prefix(prefix, std::span<std::byte, kPrefixBytes>{frame, kPrefixBytes});
  joined_.commit(kPrefixBytes + table + payload);
}

void Outbox::clear() {
  // The supervisor may be copying what is about to be overwritten: it compares the resets before and after.
  page_.outbox_bytes.store(0, std::memory_order_relaxed);
  page_.outbox_resets.fetch_add(1, std::memory_order_acq_rel);
  used_ = 0;
  entries_.clear();
  joinable_ = false;
}

}  // namespace taskpool::runtime
