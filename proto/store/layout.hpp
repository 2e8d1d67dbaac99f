#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "proto/limits.hpp"

/// The bytes of a segment: the shared memory in which the store keeps objects. PROTOCOL.md, "Segments", is the
/// specification. A segment is an array of little-endian 64-bit words; every word that may change while it is mapped is
/// accessed as an atomic one (words.hpp). Offsets are bytes from its start. Any change here raises kFormat.
namespace taskpool::store {

static_assert(std::endian::native == std::endian::little, "a segment is read and written as the machine's own words");

/// "TPSTORE1".
inline constexpr std::uint64_t kMagic = 0x3145524f54535054;
inline constexpr std::uint64_t kFormat = 2;

/// Whether readers may go on with a segment. `superseded`: its contents moved elsewhere, or the daemon gave it up; ask
/// again.
enum class SegmentState : std::uint64_t { live = 1, superseded = 2 };

/// Names an object within its segment, for ever: ids are never reused. 0 is no object.
enum class ObjectId : std::uint64_t { none = 0, names = 1 };

/// What an object is. The number is in the segment and the name on the wire.
enum class ObjectType : std::uint8_t {
  dict = 1,
  list = 2,
  name_space = 3,
  value = 4,
  array = 5,
  queue = 6,
  joinable_queue = 7,
  lock = 8,
  rlock = 9,
  semaphore = 10,
  bounded_semaphore = 11,
  condition = 12,
  event = 13,
  barrier = 14,
  session = 15,  ///< What a session holds, so that it may resume: not opened by clients.
};

/// How an object keeps its contents: behind its root, a table of entries, a tree of items, one block, or one block of
/// words.
enum class Shape : std::uint8_t { dict = 1, list = 2, value = 3, array = 4 };

struct ObjectTypeRow {
  ObjectType type;
  Shape shape;  ///< The primitives keep their holders in a dict.
  std::string_view name;
};
inline constexpr std::array<ObjectTypeRow, 15> kObjectTypes{{
    {ObjectType::dict, Shape::dict, "dict"},
    {ObjectType::list, Shape::list, "list"},
    {ObjectType::name_space, Shape::dict, "namespace"},
    {ObjectType::value, Shape::value, "value"},
    {ObjectType::array, Shape::array, "array"},
    {ObjectType::queue, Shape::list, "queue"},
    {ObjectType::joinable_queue, Shape::list, "joinable_queue"},
    {ObjectType::lock, Shape::dict, "lock"},
    {ObjectType::rlock, Shape::dict, "rlock"},
    {ObjectType::semaphore, Shape::dict, "semaphore"},
    {ObjectType::bounded_semaphore, Shape::dict, "bounded_semaphore"},
    {ObjectType::condition, Shape::dict, "condition"},
    {ObjectType::event, Shape::dict, "event"},
    {ObjectType::barrier, Shape::dict, "barrier"},
    {ObjectType::session, Shape::dict, "session"},
}};

/// The row of a type's number, or nothing for a number that is no type.
constexpr const ObjectTypeRow* find_type(std::uint64_t number) {
  return number >= 1 && number <= kObjectTypes.size() ? &kObjectTypes[number - 1] : nullptr;
}
constexpr std::string_view name(ObjectType type) { return kObjectTypes[static_cast<std::size_t>(type) - 1].name; }
constexpr Shape shape_of(ObjectType type) { return kObjectTypes[static_cast<std::size_t>(type) - 1].shape; }
constexpr std::optional<ObjectType> find_object_type(std::string_view name) {
  for (const auto& row : kObjectTypes)
    if (row.name == name) return row.type;
  return std::nullopt;
}

/// Space is handed out in units. A segment's bound is a whole number of them.
inline constexpr std::size_t kUnitBytes = 64 * 1024;
/// Smallest and largest segment. Bytes: the largest is what the 36 bits of a reference reach.
inline constexpr std::size_t kMinSegmentBytes = 16 * kUnitBytes;
inline constexpr std::size_t kMaxSegmentBytes = std::size_t{1} << 39;

inline constexpr std::size_t kShards = 64;
inline constexpr std::size_t kMaxDomainBytes = 64;
/// Words that one transaction may change. It bounds a batch; a larger one fails with limit_reached.
inline constexpr std::size_t kMaxRedoWords = 4000;

/// The first page of a segment. `check` covers what never changes, from `magic` up to it.
struct SegmentHeader {
  std::uint64_t magic;
  std::uint64_t format;
  std::uint64_t bound_bytes;  ///< Size of the file and of every mapping of it.
  std::uint64_t seed;         ///< Of the hash.
  std::uint64_t owner_uid;
  char domain[kMaxDomainBytes];  ///< "uid:1000" or "gid:27", padded with zeros.
  std::uint64_t check;
  // Below: changed by the writer.
  std::uint64_t state;       ///< SegmentState.
  std::uint64_t used_bytes;  ///< Memory exists up to here; a whole number of units. Nothing beyond is touched.
  std::uint64_t next_object;
  std::uint64_t locks[kShards];  ///< Of the shard `id % kShards`. Reserved: the supervisor is the only writer.
};
static_assert(sizeof(SegmentHeader) <= 4096);

/// The redo record, behind the header page: how many pairs follow (0: none, nothing to do), a check of them, the pairs.
inline constexpr std::size_t kRedoOffset = 4096;
struct RedoPair {
  std::uint64_t offset;
  std::uint64_t value;
};
struct RedoRecord {
  std::uint64_t committed;  ///< Number of pairs; not 0 means: decided, to be applied.
  std::uint64_t check;      ///< redo_check() of them.
  RedoPair pairs[kMaxRedoWords];
};
static_assert(kRedoOffset + sizeof(RedoRecord) <= 2 * kUnitBytes);

/// The unit map, behind the redo record: one word for each unit of the segment, 0 while the unit is not used. Written
/// once, before `used_bytes` reaches the unit.
inline constexpr std::size_t kUnitMapOffset = 2 * kUnitBytes;
enum class SlabKind : std::uint8_t { none = 0, blocks = 1, objects = 2 };
struct UnitWord {
  SlabKind kind = SlabKind::none;
  std::uint8_t size_class = 0;
  std::uint32_t slab_unit = 0;  ///< The first unit of the slab that this one belongs to.
  constexpr std::uint64_t pack() const {
    return static_cast<std::uint64_t>(kind) | std::uint64_t{size_class} << 8 | std::uint64_t{slab_unit} << 32;
  }
  static constexpr UnitWord unpack(std::uint64_t word) {
    return {static_cast<SlabKind>(word & 0xff), static_cast<std::uint8_t>(word >> 8),
            static_cast<std::uint32_t>(word >> 32)};
  }
};
/// Where the slabs of a segment of that bound begin.
constexpr std::size_t first_slab_offset(std::size_t bound_bytes) {
  const std::size_t map_bytes = bound_bytes / kUnitBytes * sizeof(std::uint64_t);
  return kUnitMapOffset + (map_bytes + kUnitBytes - 1) / kUnitBytes * kUnitBytes;
}

/// Size classes: 64, 80, 96, 112, 128, 160, ...: four to a doubling. A slab has blocks of one class, for ever. A
/// block's content may be smaller than its class asks for: at the bound, larger blocks that are free are used as they
/// are.
inline constexpr unsigned kClasses = 24 * 4 + 1;
constexpr std::size_t class_bytes(unsigned size_class) {
  return (std::size_t{4} + size_class % 4) << (size_class / 4 + 4);
}
inline constexpr std::size_t kMaxBlockBytes = class_bytes(kClasses - 1);
/// The smallest class that has room for `bytes`, at most kMaxBlockBytes.
constexpr unsigned class_for(std::size_t bytes) {
  if (bytes <= class_bytes(0)) return 0;
  const unsigned doubling =
      static_cast<unsigned>(std::bit_width(bytes - 1)) - 1;  // 2^doubling < bytes <= 2^(doubling + 1)
  const std::size_t step = std::size_t{1} << (doubling - 2);
  return (doubling - 6) * 4 + static_cast<unsigned>((bytes - (std::size_t{1} << doubling) + step - 1) / step);
}
/// A slab is the fewest units of which its blocks leave at most an eighth unused, at the end.
constexpr std::size_t slab_bytes(unsigned size_class) {
  const std::size_t block = class_bytes(size_class);
  std::size_t slab = (block + kUnitBytes - 1) / kUnitBytes * kUnitBytes;
  while (slab % block * 8 > slab) slab += kUnitBytes;
  return slab;
}
constexpr std::size_t slab_blocks(unsigned size_class) { return slab_bytes(size_class) / class_bytes(size_class); }
static_assert(kMaxBlockBytes == std::size_t{1} << 30 && class_for(kMaxBlockBytes) == kClasses - 1);
static_assert(class_for(65) == 1 && class_for(128) == 4 && class_for(129) == 5 && class_bytes(5) == 160);

/// What a root or a slot holds: the place of a block, and which of its lives is meant. 0 is nothing.
struct Reference {
  static constexpr unsigned kPlaceBits = 36;
  std::uint64_t word = 0;

  /// `sequence` is the block's, even.
  static constexpr Reference make(std::uint64_t offset, std::uint64_t sequence) {
    return {offset / 8 | (sequence / 2) << kPlaceBits};
  }
  constexpr explicit operator bool() const { return word != 0; }
  constexpr std::uint64_t offset() const { return (word & ((std::uint64_t{1} << kPlaceBits) - 1)) * 8; }
  /// True if a block with this sequence is the one meant, and alive.
  constexpr bool names(std::uint64_t sequence) const {
    return ((sequence << (kPlaceBits - 1)) ^ word) >> kPlaceBits == 0 && (sequence & 1) == 0;
  }
  bool operator==(const Reference&) const = default;
};

/// What every block begins with; its words never hold anything else. Short, so that a small entry fits a cache line. An
/// entry's block goes on with [writer's uid], [expiry], [references], key, value, each padded with zeros to whole
/// words. Everything but `sequence` is constant while the sequence is even.
struct BlockHeader {
  /// Even and not 0 while the block is live, each life with the next number; odd while it is free; 0 before its first
  /// life.
  std::uint64_t sequence;
  std::uint64_t object;
  /// Entry: when its key was inserted, in the numbering of the object's next_order; an overwrite keeps it. Table:
  /// slots. Node: level | children << 8.
  std::uint64_t order;
  std::uint64_t about;  ///< BlockAbout.
};
static_assert(sizeof(BlockHeader) == 32);

enum class BlockKind : std::uint8_t { entry = 0, table = 1, node = 2, words = 3 };
inline constexpr std::uint8_t kHasExpiry = 1;  ///< A word: nanoseconds of CLOCK_BOOTTIME.
inline constexpr std::uint8_t kHasRefs = 2;    ///< A word n, and n object ids.
inline constexpr std::uint8_t kHasWriter =
    4;  ///< A word: the uid that wrote it, where that is not the segment's owner.
inline constexpr std::uint8_t kAllBlockFlags = kHasExpiry | kHasRefs | kHasWriter;

/// key bytes 16 bits | value bytes 24 | encoding 8 | class 8 | kind 2 | flags 6.
struct BlockAbout {
  std::uint16_t key_bytes = 0;
  std::uint32_t value_bytes = 0;  ///< Of a words block, too.
  std::uint8_t encoding = 0;
  std::uint8_t size_class = 0;
  BlockKind kind = BlockKind::entry;
  std::uint8_t flags = 0;
  constexpr std::uint64_t pack() const {
    return key_bytes | std::uint64_t{value_bytes} << 16 | std::uint64_t{encoding} << 40 |
           std::uint64_t{size_class} << 48 | std::uint64_t{static_cast<std::uint8_t>(kind)} << 56 |
           std::uint64_t{flags} << 58;
  }
  static constexpr BlockAbout unpack(std::uint64_t word) {
    return {static_cast<std::uint16_t>(word),       static_cast<std::uint32_t>(word >> 16 & 0xffffff),
            static_cast<std::uint8_t>(word >> 40),  static_cast<std::uint8_t>(word >> 48),
            static_cast<BlockKind>(word >> 56 & 3), static_cast<std::uint8_t>(word >> 58)};
  }
};
static_assert(kMaxStoreValueBytes < 1u << 24 && kMaxKeyBytes < 1u << 16);

/// One object: a fixed place for its life. Lives in slabs of kind `objects`, kObjectBytes apart. Two cache lines: what
/// every look-up reads, and what most changes write. A reader would else wait for the line after each change.
struct ObjectRecord {
  std::uint64_t id;       ///< 0: free. On removal the first word to change.
  std::uint64_t root;     ///< Reference.
  std::uint64_t about;    ///< type | flags << 8 | owner uid << 32.
  std::uint64_t created;  ///< Unix time, seconds.
  std::uint64_t reserved[4];
  // The second line.
  std::uint64_t version;  ///< Odd during a change. Never goes back, also when the place gets another object.
  std::uint64_t count;    ///< Entries (also expired ones, until they are removed), items or words.
  std::uint64_t next_order;
  std::uint64_t bytes;   ///< Of the blocks and the record.
  std::uint64_t aux[4];  ///< The type's own.
};
inline constexpr std::size_t kObjectBytes = 128;
inline constexpr unsigned kObjectClass = class_for(kObjectBytes);
static_assert(sizeof(ObjectRecord) == kObjectBytes && class_bytes(kObjectClass) == kObjectBytes);
static_assert(offsetof(ObjectRecord, version) == 64, "the line that changes");
inline constexpr std::size_t kAuxWords = 4;
inline constexpr std::uint8_t kAnonymous = 1;  ///< Object flag: goes when nothing refers to it.

struct ObjectAbout {
  ObjectType type = ObjectType::dict;
  std::uint8_t flags = 0;
  std::uint32_t owner_uid = 0;
  constexpr std::uint64_t pack() const {
    return static_cast<std::uint64_t>(type) | std::uint64_t{flags} << 8 | std::uint64_t{owner_uid} << 32;
  }
};

/// A table: its header word `order` holds the number of slots. Behind the header comes the number of slots whose tag is
/// not 0 (the writer's own), then the slots. The slot of a hash is the first of a run that begins at hash * slots /
/// 2^64 and goes on, cyclically, to the first slot with tag 0.
struct Slot {
  std::uint64_t tag;        ///< The key's whole hash; 0: never used, the run ends here. Stays when the entry is erased.
  std::uint64_t reference;  ///< 0: erased, the run goes on.
};
inline constexpr std::size_t kFilledOffset = sizeof(BlockHeader);
inline constexpr std::size_t kSlotsOffset = 48;
constexpr std::uint64_t slots_of_class(unsigned size_class) {
  return (class_bytes(size_class) - kSlotsOffset) / sizeof(Slot);
}
__extension__ using Uint128 = unsigned __int128;
constexpr std::uint64_t home_slot(std::uint64_t hash, std::uint64_t slots) {
  return static_cast<std::uint64_t>((static_cast<Uint128>(hash) * slots) >> 64);
}

/// A list's nodes, behind the block's header: a leaf (level 0) has a Reference for each item, another node a Branch for
/// each child. All leaves are equally deep.
struct Branch {
  std::uint64_t child;  ///< Reference.
  std::uint64_t items;  ///< Below that child; at least 1.
};
inline constexpr unsigned kLeafClass = class_for(512);
inline constexpr unsigned kBranchClass = class_for(1024);
inline constexpr std::size_t kLeafItems = (512 - sizeof(BlockHeader)) / sizeof(std::uint64_t);
inline constexpr std::size_t kBranches = (1024 - sizeof(BlockHeader)) / sizeof(Branch);
/// Levels above the leaves that a reader follows; 59 * 61^7 items are beyond any segment.
inline constexpr unsigned kMaxLevel = 7;

}  // namespace taskpool::store
