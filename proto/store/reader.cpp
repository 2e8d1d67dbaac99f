#include "proto/store/reader.hpp"

#include <algorithm>
#include <cstring>

#include "proto/store/hash.hpp"
#include "proto/store/words.hpp"

/// The order of the reads is the protocol: ARCHITECTURE.md, "How a segment is written and read". In short: whatever was
/// reached from a root that is still the root afterwards was live all the while, and a block whose sequence is still
/// the one that the reference names was not filled again meanwhile.
namespace taskpool::store {
namespace {

constexpr auto kAcquire = std::memory_order_acquire;

std::uint64_t word_at(const std::byte* base, std::size_t field, std::memory_order order = std::memory_order_relaxed) {
  return load_word(base + field, order);
}

/// How much memory exists, of the `bound` that there can be.
[[gnu::always_inline]] inline std::size_t load_used(const std::byte* memory, std::size_t bound) {
  const std::uint64_t used = word_at(memory, offsetof(SegmentHeader, used_bytes), kAcquire);
  return std::clamp<std::uint64_t>(used, kMinSegmentBytes / 2, bound);
}

/// One attempt's way through memory that may be anything: every step is checked against what exists.
struct Walk {
  const std::byte* memory;
  std::size_t bound;
  std::uint32_t owner_uid;
  mutable std::size_t used = load_used(memory, bound);

  /// The block's first byte, if a header fits there.
  [[gnu::always_inline]] const std::byte* block(Reference reference) const {
    const std::uint64_t offset = reference.offset();
    // The slab may be younger than the attempt. It is not younger than the reference.
    if (offset > used - sizeof(BlockHeader)) used = load_used(memory, bound);
    return offset <= used - sizeof(BlockHeader) ? memory + offset : nullptr;
  }
  /// True if `bytes` from the block's start on exist.
  bool has(const std::byte* block, std::uint64_t bytes) const {
    return bytes <= used - static_cast<std::size_t>(block - memory);
  }
};

/// An entry's parts in place, checked.
struct EntryPlace {
  const std::byte* block = nullptr;
  const std::byte* key = nullptr;
  const std::byte* value = nullptr;
  std::uint32_t key_bytes = 0;
  std::uint32_t value_bytes = 0;
  std::uint32_t writer_uid = 0;
  std::uint8_t encoding = 0;
  std::uint64_t expires_ns = 0;
  std::uint64_t sequence = 0;

  /// True if nothing was written there since it was found.
  bool is_whole() const {
    acquire_fence();
    return word_at(block, offsetof(BlockHeader, sequence)) == sequence;
  }
};

/// The words that only some entries have.
struct Extras {
  const std::byte* end = nullptr;  ///< nullptr: they are not what a writer writes.
  std::uint64_t expires_ns = 0;
  std::uint32_t writer_uid = 0;
};
/// By value, so that what a reader knows of an entry without extras stays in registers.
Extras find_extras(Walk walk, const std::byte* block, std::uint8_t flags) {
  constexpr std::uint64_t kMost = 3 * sizeof(std::uint64_t);
  if (!walk.has(block, sizeof(BlockHeader) + kMost)) return {};
  Extras extras{.end = block + sizeof(BlockHeader), .writer_uid = walk.owner_uid};
  const auto next = [&extras] {
    const std::uint64_t word = load_word(extras.end);
    extras.end += sizeof word;
    return word;
  };
  if (flags & kHasWriter) extras.writer_uid = static_cast<std::uint32_t>(next());
  if (flags & kHasExpiry) extras.expires_ns = next();
  if (flags & kHasRefs) {
    const std::uint64_t refs = next();
    if (refs > kMaxValueRefs) return {};
    extras.end += refs * sizeof(std::uint64_t);
  }
  return extras;
}

/// False: the block is not (or no longer) what the reference says. Inline, so that the parts stay in registers.
[[gnu::always_inline]] inline bool find_entry(const Walk& walk, Reference reference, ObjectId object,
                                              EntryPlace& entry) {
  const std::byte* block = walk.block(reference);
  if (block == nullptr) return false;
  __builtin_prefetch(block + kLineBytes);  // a small entry ends there; while the header comes, this comes too
  entry.block = block;
  entry.sequence = word_at(block, offsetof(BlockHeader, sequence), kAcquire);
  if (!reference.names(entry.sequence)) return false;
  if (word_at(block, offsetof(BlockHeader, object)) != static_cast<std::uint64_t>(object)) return false;
  const BlockAbout about = BlockAbout::unpack(word_at(block, offsetof(BlockHeader, about)));
  if (about.kind != BlockKind::entry || about.key_bytes > kMaxKeyBytes || about.value_bytes > kMaxStoreValueBytes)
    return false;
  entry.key_bytes = about.key_bytes;
  entry.value_bytes = about.value_bytes;
  entry.encoding = about.encoding;
  entry.expires_ns = 0;
  entry.writer_uid = walk.owner_uid;
  entry.key = block + sizeof(BlockHeader);
  if (about.flags != 0) {
    const Extras extras = find_extras(walk, block, about.flags);
    if (extras.end == nullptr) return false;
    entry.key = extras.end;
    entry.expires_ns = extras.expires_ns;
    entry.writer_uid = extras.writer_uid;
  }
  entry.value = entry.key + padded(about.key_bytes);
  return walk.has(block, static_cast<std::uint64_t>(entry.value - block) + padded(about.value_bytes));
}

/// Compares the words of a key in the segment with `key`.
[[gnu::always_inline]] inline bool has_key(const EntryPlace& entry, KeyView key) {
  if (entry.key_bytes != key.size()) return false;
  const std::byte* at = key.data();
  const std::byte* place = entry.key;
  std::size_t left = key.size();
  for (; left >= sizeof(std::uint64_t); left -= sizeof(std::uint64_t)) {
    std::uint64_t word;
    std::memcpy(&word, at, sizeof word);
    if (word != load_word(place)) return false;
    at += sizeof word;
    place += sizeof word;
  }
  if (left == 0) return true;
  std::uint64_t word = 0;
  for (std::size_t index = 0; index < left; ++index) word |= static_cast<std::uint64_t>(at[index]) << (8 * index);
  return word == load_word(place);
}

/// Compares with `size` bytes in whole words.
[[gnu::always_inline]] inline bool has_words(const EntryPlace& entry, const std::byte* words, std::size_t size) {
  for (std::size_t at = 0; at < size; at += sizeof(std::uint64_t)) {
    std::uint64_t word;
    std::memcpy(&word, words + at, sizeof word);
    if (word != load_word(entry.key + at)) return false;
  }
  return true;
}
[[gnu::always_inline]] inline bool has_key(const EntryPlace& entry, const KeyBuffer& key) {
  return entry.key_bytes == key.size() && has_words(entry, key.words(), key.size());
}

/// A node or words block that a root or branch names.
const std::byte* find_block(const Walk& walk, Reference reference, ObjectId object, BlockKind kind) {
  const std::byte* block = walk.block(reference);
  if (block == nullptr || !reference.names(word_at(block, offsetof(BlockHeader, sequence), kAcquire)) ||
      word_at(block, offsetof(BlockHeader, object)) != static_cast<std::uint64_t>(object) ||
      BlockAbout::unpack(word_at(block, offsetof(BlockHeader, about))).kind != kind)
    return nullptr;
  return block;
}

/// The slots of the table that a root names; nullptr if it is none.
[[gnu::always_inline]] inline const std::byte* find_slots(const Walk& walk, Reference root, std::uint64_t& slots) {
  const std::byte* table = walk.block(root);
  if (table == nullptr) return nullptr;
  slots = word_at(table, offsetof(BlockHeader, order));
  if (slots - 1 >= kMaxBlockBytes / sizeof(Slot) || !walk.has(table, kSlotsOffset + slots * sizeof(Slot)))
    return nullptr;
  return table + kSlotsOffset;
}

/// A leaf of a list's tree.
struct Leaf {
  const std::byte* items = nullptr;  ///< nullptr: the tree is none, or it ends before.
  std::size_t size = 0;
  std::size_t place = 0;   ///< Of the item that was looked for.
  bool is_beyond = false;  ///< The tree ends before. It says so itself: the object's count may be of another moment.
};

/// The parts of BlockAbout that say how an entry is made: its kind, what extras it has, and the length of its key.
constexpr std::uint64_t kFormMask = BlockAbout{.key_bytes = 0xffff, .kind = BlockKind{3}, .flags = 0x3f}.pack();

/// How many slots of a run are looked at together.
constexpr unsigned kAtOnce = 4;

/// The first of kAtOnce slots with that tag; nullptr: none has it. Without branches: which slot it is cannot be
/// foreseen, and a core that guesses wrongly waits for memory before it may go on with what follows.
[[gnu::always_inline]] inline const std::byte* first_match(const std::byte* slot, std::uint64_t hash) {
  const std::byte* match = nullptr;
#pragma GCC unroll 4
  for (std::size_t index = kAtOnce; index-- > 0;) {
    const std::byte* each = slot + index * sizeof(Slot);
    match = word_at(each, offsetof(Slot, tag), kAcquire) == hash ? each : match;
  }
  return match;
}

/// The leaf with the item at `index`.
Leaf find_leaf(const Walk& walk, Reference root, ObjectId object, std::uint64_t index) {
  Reference node = root;
  for (unsigned steps = 0; steps <= kMaxLevel; ++steps) {
    const std::byte* block = find_block(walk, node, object, BlockKind::node);
    if (block == nullptr) return {};
    const std::uint64_t shape = word_at(block, offsetof(BlockHeader, order));
    const auto size = static_cast<std::size_t>(shape >> 8);
    const std::byte* at = block + sizeof(BlockHeader);
    if ((shape & 0xff) == 0) {
      if (size > kLeafItems || !walk.has(block, sizeof(BlockHeader) + size * sizeof(std::uint64_t))) return {};
      if (index >= size) return {.is_beyond = steps == 0};
      return {at, size, static_cast<std::size_t>(index)};
    }
    if (size > kBranches || !walk.has(block, sizeof(BlockHeader) + size * sizeof(Branch))) return {};
    std::size_t child = 0;
    for (;; ++child, at += sizeof(Branch)) {
      if (child == size) return {.is_beyond = steps == 0};
      const std::uint64_t items = word_at(at, offsetof(Branch, items));
      if (index < items) break;
      index -= items;
    }
    node = Reference{word_at(at, offsetof(Branch, child))};
  }
  return {};
}

// Inline, and of no class: a call of a shared library's own member goes through its table of symbols.

[[gnu::always_inline]] inline bool is_superseded(const std::byte* memory) {
  return word_at(memory, offsetof(SegmentHeader, state)) != static_cast<std::uint64_t>(SegmentState::live);
}

/// Loads the root, or says why there is nothing to read: the root first, because it is cleared after the id.
[[gnu::always_inline]] inline bool load_root(const std::byte* memory, const ObjectView& object, Shape shape,
                                             Reference& root, ReadCode& code) {
  if (shape_of(object.type) != shape) {
    code = ReadCode::wrong_type;
    return false;
  }
  const std::byte* record = memory + object.offset;
  root.word = word_at(record, offsetof(ObjectRecord, root), kAcquire);
  if (word_at(record, offsetof(ObjectRecord, id)) == static_cast<std::uint64_t>(object.id) && !is_superseded(memory))
    return true;
  code = ReadCode::gone;
  return false;
}

[[gnu::always_inline]] inline bool is_root(const std::byte* memory, const ObjectView& object, Reference root) {
  acquire_fence();
  return word_at(memory + object.offset, offsetof(ObjectRecord, root)) == root.word;
}

/// Copies the value, if it fits.
void copy_value(const EntryPlace& entry, std::span<std::byte> into) {
  if (entry.value_bytes <= into.size()) copy_out(entry.value, into.first(entry.value_bytes));
}

Read found(const EntryPlace& entry, Reference reference) {
  return {ReadCode::found, entry.encoding, entry.value_bytes, entry.writer_uid, reference.word};
}

void append(Page& page, const EntryPlace& entry, Reference reference) {
  Page::Entry row;
  row.key_at = page.bytes.size();
  row.key_bytes = entry.key_bytes;
  row.value_at = row.key_at + entry.key_bytes;
  row.value_bytes = entry.value_bytes;
  row.order = word_at(entry.block, offsetof(BlockHeader, order));
  row.version = reference.word;
  row.encoding = entry.encoding;
  row.writer_uid = entry.writer_uid;
  page.bytes.resize(row.value_at + entry.value_bytes);
  copy_out(entry.key, std::span{page.bytes}.subspan(row.key_at, row.key_bytes));
  copy_out(entry.value, std::span{page.bytes}.subspan(row.value_at, row.value_bytes));
  page.entries.push_back(row);
}

}  // namespace

Error read_error(ReadCode code) {
  switch (code) {
    case ReadCode::gone: return fail(Errc::unknown_object, "the object was removed");
    case ReadCode::wrong_type: return fail(Errc::wrong_type, "the object is of another type");
    case ReadCode::too_busy: return fail(Errc::too_busy, "the object changed during each of the reads");
    case ReadCode::damaged: return fail(Errc::bad_segment, "the object's memory is damaged");
    case ReadCode::found:
    case ReadCode::absent: break;
  }
  return fail(Errc::internal, "no error");
}

Result<Segment> Segment::open(std::span<const std::byte> memory, Clock now) {
  const auto bad = [](const char* what) { return fail(Errc::bad_segment, std::string{"segment: "} + what); };
  if (memory.size() < kMinSegmentBytes) return bad("too short");
  SegmentHeader header;
  copy_out(memory.data(), std::as_writable_bytes(std::span{&header, 1}));
  if (header.magic != kMagic) return bad("no magic");
  if (header.format != kFormat) return bad("another format");
  if (header.check != header_check(header)) return bad("its header is damaged");
  if (header.bound_bytes != memory.size()) return bad("another size than it says");
  if (header.used_bytes < first_slab_offset(memory.size()) || header.used_bytes > memory.size())
    return bad("its header is damaged");
  Segment segment{memory, now};
  segment.seed_ = header.seed;
  segment.owner_uid_ = static_cast<std::uint32_t>(header.owner_uid);
  return segment;
}

bool Segment::is_superseded() const { return store::is_superseded(memory_); }

std::string_view Segment::domain() const {
  const char* text = reinterpret_cast<const char*>(memory_ + offsetof(SegmentHeader, domain));
  return {text, strnlen(text, kMaxDomainBytes)};
}

std::size_t Segment::used_bytes() const { return load_used(memory_, bytes_); }

Result<ObjectView> Segment::find(std::uint64_t offset, ObjectId id) const {
  const auto unknown = [&] {
    return fail(Errc::unknown_object, "object " + std::to_string(static_cast<std::uint64_t>(id)));
  };
  if (id == ObjectId::none || offset % sizeof(std::uint64_t) != 0 || offset < first_slab_offset(bytes_) ||
      offset > used_bytes() - sizeof(ObjectRecord))
    return unknown();
  const std::byte* record = memory_ + offset;
  const ObjectTypeRow* type = find_type(word_at(record, offsetof(ObjectRecord, about), kAcquire) & 0xff);
  if (word_at(record, offsetof(ObjectRecord, id)) != static_cast<std::uint64_t>(id) || type == nullptr ||
      is_superseded())
    return unknown();
  return ObjectView{offset, id, type->type};
}

/// The usual look-up: nobody changes the entry, which is in one of the first slots of its run and has no extras. The
/// same loads in the same order as in look_up(), but without loops, and with few instructions: the fewer there are, the
/// more look-ups a core has under way while one of them waits for memory. False: any other case.
[[gnu::always_inline]] inline bool Segment::find_at_once(const ObjectView& object, const KeyBuffer& key,
                                                         std::uint64_t hash, std::span<std::byte> into,
                                                         Read& read) const {
  // Copies, because nothing is kept in registers over an acquire load that could be elsewhere's.
  const std::byte* const memory = memory_;
  const std::size_t key_bytes = key.size();
  Reference root;
  ReadCode code;
  if (!load_root(memory, object, Shape::dict, root, code) || !root) return false;
  const std::size_t used = load_used(memory, bytes_);
  const std::uint64_t first = root.offset() + kSlotsOffset;
  if (first > used) return false;
  const std::uint64_t slots = word_at(memory + root.offset(), offsetof(BlockHeader, order));
  const std::uint64_t home = home_slot(hash, slots);
  if (slots > (used - first) / sizeof(Slot) || slots - home < kAtOnce) return false;
  const std::byte* const slot = memory + first + home * sizeof(Slot);
  const std::byte* const match = first_match(slot, hash);
  if (match == nullptr) return false;
  const Reference reference{word_at(match, offsetof(Slot, reference), kAcquire)};
  const std::uint64_t end_of_header = reference.offset() + sizeof(BlockHeader);
  if (!reference || end_of_header > used) return false;
  const std::byte* const block = memory + reference.offset();
  EntryPlace entry{.block = block, .key = block + sizeof(BlockHeader)};
  // Where the value is follows from the key, not from the header, so that their lines are fetched together.
  entry.value = entry.key + padded(key_bytes);
  entry.sequence = word_at(block, offsetof(BlockHeader, sequence), kAcquire);
  if (!reference.names(entry.sequence) ||
      word_at(block, offsetof(BlockHeader, object)) != static_cast<std::uint64_t>(object.id))
    return false;
  const std::uint64_t form = word_at(block, offsetof(BlockHeader, about));
  if ((form & kFormMask) != BlockAbout{.key_bytes = static_cast<std::uint16_t>(key_bytes)}.pack()) return false;
  const BlockAbout about = BlockAbout::unpack(form);
  if (end_of_header + padded(key_bytes) + padded(about.value_bytes) > used) return false;
  entry.value_bytes = about.value_bytes;
  entry.encoding = about.encoding;
  entry.writer_uid = owner_uid_;
  if (!has_words(entry, key.words(), key_bytes)) return false;
  copy_value(entry, into);
  if (!entry.is_whole() || !is_root(memory, object, root)) return false;
  read = found(entry, reference);
  return true;
}

/// Any look-up.
template <class AnyKey>
Read Segment::look_up(const ObjectView& object, const AnyKey& key, std::uint64_t hash,
                      std::span<std::byte> into) const {
  ReadCode code = ReadCode::too_busy;
  for (unsigned tries = 0; tries < kReadTries; ++tries) {
    Reference root;
    if (!load_root(memory_, object, Shape::dict, root, code)) return {code};
    if (!root) return {ReadCode::absent};
    const Walk walk{memory_, bytes_, owner_uid_};
    std::uint64_t slots = 0;
    const std::byte* first = find_slots(walk, root, slots);
    bool is_sound = first != nullptr;
    bool meets_change = false;
    std::uint64_t position = is_sound ? home_slot(hash, slots) : 0;
    for (std::uint64_t probes = 0; is_sound && probes < slots; ++probes) {
      const std::byte* slot = first + position * sizeof(Slot);
      const std::uint64_t tag = word_at(slot, offsetof(Slot, tag), kAcquire);
      if (tag == 0) break;
      if (tag == hash) {
        const Reference reference{word_at(slot, offsetof(Slot, reference), kAcquire)};
        EntryPlace entry;
        if (reference && !find_entry(walk, reference, object.id, entry)) {
          meets_change = true;  // or damage: which one, the slot says
          acquire_fence();
          is_sound = word_at(slot, offsetof(Slot, reference)) != reference.word;
          break;
        }
        if (reference && has_key(entry, key)) {
          copy_value(entry, into);
          if (entry.is_whole() && is_root(memory_, object, root)) {
            if (entry.expires_ns != 0 && entry.expires_ns <= now_()) return {ReadCode::absent};
            return found(entry, reference);
          }
          meets_change = true;
          break;
        }
        // Another key, unless it was overwritten while it was compared.
        if (reference && !entry.is_whole()) {
          meets_change = true;
          break;
        }
      }
      position = position + 1 == slots ? 0 : position + 1;
    }
    if (meets_change && is_sound) continue;
    // A key that is not there, or a table that is none: both count only if this is still the table.
    if (is_root(memory_, object, root)) return {is_sound ? ReadCode::absent : ReadCode::damaged};
  }
  return {ReadCode::too_busy};
}

Read Segment::get(const ObjectView& object, KeyView key, std::span<std::byte> into) const {
  return look_up(object, key, hash_key(key, seed_), into);
}

Read Segment::get(const ObjectView& object, const KeyBuffer& key, std::span<std::byte> into) const {
  const std::uint64_t hash = hash_words(key.words(), key.size(), seed_);
  Read read;
  if (find_at_once(object, key, hash, into, read)) [[likely]]
    return read;
  return look_up(object, key, hash, into);
}

Read Segment::contains(const ObjectView& object, KeyView key) const { return get(object, key, {}); }

Read Segment::list_get(const ObjectView& object, std::uint64_t index, std::span<std::byte> into) const {
  ReadCode code = ReadCode::too_busy;
  for (unsigned tries = 0; tries < kReadTries; ++tries) {
    Reference root;
    if (!load_root(memory_, object, Shape::list, root, code)) return {code};
    if (!root) return {ReadCode::absent};
    const Walk walk{memory_, bytes_, owner_uid_};
    const Leaf leaf = find_leaf(walk, root, object.id, index);
    if (leaf.items == nullptr) {
      if (is_root(memory_, object, root)) return {leaf.is_beyond ? ReadCode::absent : ReadCode::damaged};
      continue;
    }
    const std::byte* item = leaf.items + leaf.place * sizeof(std::uint64_t);
    const Reference reference{load_word(item, kAcquire)};
    EntryPlace entry;
    if (!find_entry(walk, reference, object.id, entry)) {
      acquire_fence();
      if (load_word(item) == reference.word && is_root(memory_, object, root)) return {ReadCode::damaged};
      continue;
    }
    copy_value(entry, into);
    if (entry.is_whole() && is_root(memory_, object, root)) return found(entry, reference);
  }
  return {ReadCode::too_busy};
}

Read Segment::value_get(const ObjectView& object, std::span<std::byte> into) const {
  ReadCode code = ReadCode::too_busy;
  for (unsigned tries = 0; tries < kReadTries; ++tries) {
    Reference root;
    if (!load_root(memory_, object, Shape::value, root, code)) return {code};
    if (!root) return {ReadCode::absent};
    EntryPlace entry;
    if (!find_entry({memory_, bytes_, owner_uid_}, root, object.id, entry)) {
      if (is_root(memory_, object, root)) return {ReadCode::damaged};
      continue;
    }
    copy_value(entry, into);
    if (entry.is_whole() && is_root(memory_, object, root)) return found(entry, root);
  }
  return {ReadCode::too_busy};
}

ReadCode Segment::array_get(const ObjectView& object, std::uint64_t first, std::span<std::uint64_t> into) const {
  ReadCode code = ReadCode::too_busy;
  for (unsigned tries = 0; tries < kReadTries; ++tries) {
    Reference root;
    if (!load_root(memory_, object, Shape::array, root, code)) return code;
    if (!root) return into.empty() && first == 0 ? ReadCode::found : ReadCode::absent;
    const Walk walk{memory_, bytes_, owner_uid_};
    const std::byte* block = find_block(walk, root, object.id, BlockKind::words);
    const std::uint64_t bytes =
        block != nullptr ? BlockAbout::unpack(word_at(block, offsetof(BlockHeader, about))).value_bytes : 0;
    if (block == nullptr || !walk.has(block, sizeof(BlockHeader) + bytes)) {
      if (is_root(memory_, object, root)) return ReadCode::damaged;
      continue;
    }
    const std::uint64_t words = bytes / sizeof(std::uint64_t);
    const bool fits = first <= words && into.size() <= words - first;
    for (std::size_t index = 0; fits && index < into.size(); ++index)
      into[index] = word_at(block, sizeof(BlockHeader) + (first + index) * sizeof(std::uint64_t));
    if (is_root(memory_, object, root)) return fits ? ReadCode::found : ReadCode::absent;
  }
  return ReadCode::too_busy;
}

bool Segment::begin_read(const ObjectView& object, std::uint64_t& version) const {
  version = word_at(memory_ + object.offset, offsetof(ObjectRecord, version), kAcquire);
  return version % 2 == 0;
}

bool Segment::unchanged(const ObjectView& object, std::uint64_t version) const {
  acquire_fence();
  return word_at(memory_ + object.offset, offsetof(ObjectRecord, version)) == version;
}

ReadCode Segment::stat(const ObjectView& object, ObjectStat& into) const {
  const std::byte* record = memory_ + object.offset;
  return consistently(
      object,
      [&] {
        const std::uint64_t about = word_at(record, offsetof(ObjectRecord, about));
        into.flags = static_cast<std::uint8_t>(about >> 8);
        into.owner_uid = static_cast<std::uint32_t>(about >> 32);
        into.type = object.type;
        into.count = word_at(record, offsetof(ObjectRecord, count));
        into.bytes = word_at(record, offsetof(ObjectRecord, bytes));
        into.created = word_at(record, offsetof(ObjectRecord, created));
        for (std::size_t index = 0; index < kAuxWords; ++index)
          into.aux[index] = word_at(record, offsetof(ObjectRecord, aux) + index * sizeof(std::uint64_t));
        const bool is_it = word_at(record, offsetof(ObjectRecord, id)) == static_cast<std::uint64_t>(object.id);
        return is_it && !is_superseded() ? ReadCode::found : ReadCode::gone;
      },
      &into.version);
}

ReadCode Segment::scan(const ObjectView& object, Cursor& cursor, std::size_t max_entries, std::size_t max_bytes,
                       Page& page) const {
  const std::size_t entries_before = page.entries.size();
  const std::size_t bytes_before = page.bytes.size();
  ReadCode code = ReadCode::too_busy;
  for (unsigned tries = 0; tries < kReadTries; ++tries) {
    Reference root;
    if (!load_root(memory_, object, Shape::dict, root, code)) return code;
    if (!root) return ReadCode::absent;
    if (cursor.table != root.word) cursor = {root.word, 0};
    const Walk walk{memory_, bytes_, owner_uid_};
    std::uint64_t slots = 0;
    const std::byte* first = find_slots(walk, root, slots);
    if (first == nullptr) {
      if (is_root(memory_, object, root)) return ReadCode::damaged;
      continue;
    }
    std::uint64_t position = cursor.position;
    ReadCode met = ReadCode::found;
    for (; met == ReadCode::found && position < slots && page.entries.size() - entries_before < max_entries &&
           page.bytes.size() - bytes_before <= max_bytes;
         ++position) {
      const std::byte* slot = first + position * sizeof(Slot) + offsetof(Slot, reference);
      Reference failed;
      for (unsigned slot_tries = 0;; ++slot_tries) {
        const Reference reference{load_word(slot, kAcquire)};
        if (!reference) break;
        // A block that is not what a reference says has been replaced, and then the slot shows that.
        if (reference == failed) met = ReadCode::damaged;
        if (slot_tries == kReadTries) met = ReadCode::too_busy;
        if (met != ReadCode::found) break;
        EntryPlace entry;
        if (!find_entry(walk, reference, object.id, entry)) {
          failed = reference;
          continue;
        }
        const bool is_expired = entry.expires_ns != 0 && entry.expires_ns <= now_();
        if (!is_expired) append(page, entry, reference);
        if (entry.is_whole()) break;
        if (is_expired) continue;
        page.bytes.resize(page.entries.back().key_at);
        page.entries.pop_back();
      }
    }
    if (met != ReadCode::too_busy && is_root(memory_, object, root)) {
      if (met == ReadCode::damaged) return met;
      const bool is_end = position == slots && page.entries.size() == entries_before;
      cursor.position = position;
      return is_end ? ReadCode::absent : ReadCode::found;
    }
    page.entries.resize(entries_before);
    page.bytes.resize(bytes_before);
  }
  return ReadCode::too_busy;
}

ReadCode Segment::list_scan(const ObjectView& object, std::uint64_t first, std::uint64_t count, Page& page) const {
  const std::size_t entries_before = page.entries.size();
  const std::size_t bytes_before = page.bytes.size();
  ReadCode code = ReadCode::too_busy;
  for (unsigned tries = 0; tries < kReadTries; ++tries) {
    page.entries.resize(entries_before);
    page.bytes.resize(bytes_before);
    Reference root;
    if (!load_root(memory_, object, Shape::list, root, code)) return code;
    if (!root) return ReadCode::found;
    const Walk walk{memory_, bytes_, owner_uid_};
    std::uint64_t index = first;
    bool is_sound = true;
    bool is_end = count == 0;
    while (is_sound && !is_end) {
      const Leaf leaf = find_leaf(walk, root, object.id, index);
      is_end = leaf.is_beyond;
      is_sound = is_end || leaf.items != nullptr;
      for (std::size_t place = leaf.place; place < leaf.size && is_sound && !is_end; ++place, ++index) {
        const Reference reference{load_word(leaf.items + place * sizeof(std::uint64_t), kAcquire)};
        EntryPlace entry;
        is_sound = find_entry(walk, reference, object.id, entry);
        if (!is_sound) break;
        append(page, entry, reference);
        is_sound = entry.is_whole();
        is_end = index - first + 1 == count;
      }
      // The copies are used only if this is still the tree; no need to go on through one that is not.
      if (!is_root(memory_, object, root)) is_sound = false;
      // One that leads to the same items again and again would never end.
      else if (page.bytes.size() - bytes_before > bytes_ ||
               page.entries.size() - entries_before > bytes_ / class_bytes(0))
        return ReadCode::damaged;
    }
    if (is_sound) return ReadCode::found;
  }
  return ReadCode::too_busy;
}

ReadCode Segment::read_all(const ObjectView& object, Page& page, std::uint64_t& version, unsigned tries) const {
  const bool is_dict = shape_of(object.type) == Shape::dict;
  const std::size_t entries_before = page.entries.size();
  const std::size_t bytes_before = page.bytes.size();
  const ReadCode code = consistently(
      object,
      [&] {
        page.entries.resize(entries_before);
        page.bytes.resize(bytes_before);
        if (!is_dict) return list_scan(object, 0, UINT64_MAX, page);
        Cursor cursor;
        const ReadCode scanned = scan(object, cursor, SIZE_MAX, bytes_, page);
        if (page.bytes.size() - bytes_before > bytes_) return ReadCode::damaged;  // one entry in many slots
        return scanned == ReadCode::absent ? ReadCode::found : scanned;           // an empty one
      },
      &version, tries);
  if (code == ReadCode::found && is_dict)
    std::sort(page.entries.begin() + static_cast<std::ptrdiff_t>(entries_before), page.entries.end(),
              [](const auto& a, const auto& b) { return a.order < b.order; });
  return code;
}

}  // namespace taskpool::store
