#include "proto/store/writer.hpp"

#include <cassert>
#include <cstring>

#include "proto/store/core.hpp"
#include "proto/store/hash.hpp"
#include "proto/store/table.hpp"
#include "proto/store/tree.hpp"

namespace taskpool::store {
namespace {

/// Of each transaction: a few microseconds.
constexpr std::size_t kReclaimSteps = 64;

ObjectInfo read_info(const ObjectState& state, const std::function<std::uint64_t(std::uint64_t)>& load) {
  const auto get = [&](std::size_t field) { return load(state.record + field); };
  ObjectInfo info;
  info.id = static_cast<ObjectId>(get(offsetof(ObjectRecord, id)));
  info.offset = state.record;
  const std::uint64_t about = get(offsetof(ObjectRecord, about));
  info.type = static_cast<ObjectType>(about & 0xff);
  info.flags = static_cast<std::uint8_t>(about >> 8);
  info.owner_uid = static_cast<std::uint32_t>(about >> 32);
  info.version = get(offsetof(ObjectRecord, version));
  info.count = get(offsetof(ObjectRecord, count));
  info.bytes = get(offsetof(ObjectRecord, bytes));
  info.created = get(offsetof(ObjectRecord, created));
  for (std::size_t index = 0; index < kAuxWords; ++index)
    info.aux[index] = get(offsetof(ObjectRecord, aux) + index * sizeof(std::uint64_t));
  return info;
}

}  // namespace

Writer::Writer(std::unique_ptr<Core> core) : core_(std::move(core)) {}
Writer::Writer(Writer&&) noexcept = default;
Writer& Writer::operator=(Writer&&) noexcept = default;
Writer::~Writer() = default;

Result<Writer> Writer::create(std::span<std::byte> memory, Extend extend, const SegmentSpec& spec) {
  if (memory.size() < kMinSegmentBytes || memory.size() > kMaxSegmentBytes || memory.size() % kUnitBytes != 0)
    return fail(Errc::bad_argument, "segment: " + std::to_string(memory.size()) + " bytes");
  if (spec.domain.size() >= kMaxDomainBytes) return fail(Errc::bad_argument, "domain: too long: " + spec.domain);
  const std::size_t used = first_slab_offset(memory.size());
  if (auto extended = extend(used); !extended) return fail(Errc::store_full, "store: " + extended.error().detail);
  SegmentHeader header{};
  header.magic = kMagic;
  header.format = kFormat;
  header.bound_bytes = memory.size();
  header.seed = spec.seed;
  header.owner_uid = spec.owner_uid;
  std::memcpy(header.domain, spec.domain.data(), spec.domain.size());
  header.check = header_check(header);
  header.state = static_cast<std::uint64_t>(SegmentState::live);
  header.used_bytes = used;
  header.next_object = static_cast<std::uint64_t>(ObjectId::names);
  // The magic last: a segment that was not finished is none.
  copy_in(std::as_bytes(std::span{&header, 1}).subspan(sizeof header.magic), memory.data() + sizeof header.magic);
  store_word(memory.data(), kMagic, std::memory_order_release);

  Writer writer{std::make_unique<Core>(memory, std::move(extend))};
  auto tx = writer.begin(0);
  auto names =
      writer.create_object(tx, {.type = ObjectType::dict, .owner_uid = static_cast<std::uint32_t>(spec.owner_uid)});
  if (!names) return names.error();
  if (auto done = tx.commit(); !done) return done.error();
  return writer;
}

Transaction Writer::begin(std::uint64_t now_ns) {
  // Whoever makes garbage helps to clear it away, so that it never piles up.
  if (!core_->doomed.empty()) (void)core_->reclaim(kReclaimSteps);
  Transaction tx{*core_};
  core_->pending.now_ns = now_ns;
  return tx;
}

Result<Record> Writer::open(Transaction& tx, ObjectId id, std::optional<Shape> shape) {
  if (tx.has_overflowed())
    return fail(Errc::limit_reached, "batch: it changes more than " + std::to_string(kMaxRedoWords) + " words");
  ObjectState* const found = core_->objects.find(id);
  if (found == nullptr || tx.load(found->record + offsetof(ObjectRecord, id)) != static_cast<std::uint64_t>(id))
    return fail(Errc::unknown_object, "object " + std::to_string(static_cast<std::uint64_t>(id)));
  ObjectState& state = *found;
  const auto type = static_cast<ObjectType>(tx.load(state.record + offsetof(ObjectRecord, about)) & 0xff);
  if (shape && shape_of(type) != *shape)
    return fail(Errc::wrong_type,
                "object " + std::to_string(static_cast<std::uint64_t>(id)) + ": it is a " + std::string{name(type)});
  return Record{tx, *core_, id, state};
}

Result<Record> Writer::change(Transaction& tx, ObjectId id, std::optional<Shape> shape) {
  auto record = open(tx, id, shape);
  if (record && (record->state.growth || (record->state.reversal && !record->state.reversal->is_done)))
    return fail(Errc::busy, "object " + std::to_string(static_cast<std::uint64_t>(id)) + ": it is being worked on");
  return record;
}

Result<ObjectInfo> Writer::create_object(Transaction& tx, const ObjectSpec& spec) {
  const auto record = core_->allocator.allocate_object();
  if (!record) return record.error();
  const std::uint64_t next = tx.load(offsetof(SegmentHeader, next_object));
  const auto id = static_cast<ObjectId>(next);
  core_->objects[id].record = *record;
  core_->pending.created.push_back(id);
  const auto set = [&](std::size_t field, std::uint64_t value) { store_word(core_->at(*record + field), value); };
  set(offsetof(ObjectRecord, root), 0);
  set(offsetof(ObjectRecord, count), 0);
  set(offsetof(ObjectRecord, about), ObjectAbout{spec.type, spec.flags, spec.owner_uid}.pack());
  set(offsetof(ObjectRecord, next_order), 0);
  set(offsetof(ObjectRecord, bytes), kObjectBytes);
  set(offsetof(ObjectRecord, created), spec.created);
  for (std::size_t word = 0; word < kAuxWords; ++word)
    set(offsetof(ObjectRecord, aux) + word * sizeof(std::uint64_t), 0);
  tx.store(offsetof(SegmentHeader, next_object), next + 1);
  tx.store(*record + offsetof(ObjectRecord, id), next);
  tx.touch(*record);
  return info(tx, id);
}

Result<void> Writer::remove(Transaction& tx, ObjectId id) {
  auto record = open(tx, id, {});
  if (!record) return record.error();
  record->set(offsetof(ObjectRecord, id), 0);
  if (const Reference root = record->root()) {
    tx.doom({root, id});
    record->set_root({});
  }
  record->set_count(0);
  record->touch();
  core_->pending.removed.emplace_back(id, record->state.record);
  return {};
}

Result<void> Writer::clear(Transaction& tx, ObjectId id) {
  auto record = change(tx, id, {});
  if (!record) return record.error();
  const auto type = static_cast<ObjectType>(record->get(offsetof(ObjectRecord, about)) & 0xff);
  if (shape_of(type) == Shape::array) return set_length(tx, id, record->count());
  if (const Reference root = record->root()) {
    tx.doom({root, id});
    record->set_root({});
  }
  record->set_count(0);
  record->touch();
  return {};
}

Result<ObjectInfo> Writer::info(Transaction& tx, ObjectId id) {
  const auto record = open(tx, id, {});
  if (!record) return record.error();
  return read_info(record->state, [&](std::uint64_t offset) { return tx.load(offset); });
}

Result<void> Writer::set_aux(Transaction& tx, ObjectId id, std::size_t index, std::uint64_t value) {
  assert(index < kAuxWords);
  auto record = open(tx, id, {});
  if (!record) return record.error();
  record->set(offsetof(ObjectRecord, aux) + index * sizeof(std::uint64_t), value);
  record->touch();
  return {};
}

Result<bool> Writer::work(ObjectId id, std::size_t steps) {
  auto tx = begin(0);
  auto record = open(tx, id, {});
  if (!record) return record.error();
  ObjectState& state = record->state;
  if (state.growth) {
    auto grown = grow_some(*record, steps);
    if (!grown) return grown.error();
    if (*grown)
      if (auto done = tx.commit(); !done) return done.error();
    return *grown;
  }
  if (state.reversal) {
    auto reversed = reverse_some(*record, steps);
    if (!reversed) stop_reversing(*core_, state);
    return reversed;
  }
  if (state.ages && !state.ages->is_done) return scan_ages(*record, steps);
  return true;
}

bool Writer::reclaim(std::size_t steps) { return core_->reclaim(steps); }

void Writer::for_each_object(const std::function<void(const ObjectInfo&)>& visit) const {
  core_->objects.for_each([&](const ObjectState& state) {
    visit(read_info(state, [&](std::uint64_t offset) { return core_->word(offset); }));
  });
}

void Writer::count_writers(std::uint64_t bound) {
  core_->writers = std::make_unique<WriterAccounts>();
  core_->writers->bound = bound;
}

void Writer::count(const EntryView& entry) {
  const Reference block{entry.version};
  if (core_->writers && (core_->about(block.offset()).flags & kHasWriter) != 0)
    core_->charge_writer(entry.writer_uid, static_cast<std::int64_t>(block_bytes(*core_, block)));
}

Result<void> Writer::check_writer(std::uint32_t uid, std::uint64_t bytes) { return core_->check_writer(uid, bytes); }

void Writer::charge_writer(std::uint32_t uid, std::int64_t bytes) { core_->charge_writer(uid, bytes); }

std::map<std::uint32_t, std::uint64_t> Writer::writers() const {
  std::map<std::uint32_t, std::uint64_t> all;
  if (core_->writers)
    for (const auto& [uid, bytes] : core_->writers->bytes)
      if (bytes > 0) all[uid] = bytes;
  return all;
}

Usage Writer::usage() const {
  return {core_->memory.size(), core_->allocator.used_bytes(), core_->allocator.live_bytes(), core_->objects.size()};
}

std::span<const std::byte> Writer::memory() const { return core_->memory; }

void Writer::supersede() {
  store_word(core_->at(offsetof(SegmentHeader, state)), static_cast<std::uint64_t>(SegmentState::superseded),
             std::memory_order_release);
}

}  // namespace taskpool::store
