#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "proto/result.hpp"
#include "proto/store/key.hpp"
#include "proto/store/layout.hpp"

/// Reading a mapped segment without asking the daemon, while its writer writes: no lock, no shared state of readers, no
/// system call. Whatever the segment contains, no function reads outside it or goes on for ever.
namespace taskpool::store {

/// Attempts of one read before it gives up with `too_busy`.
inline constexpr unsigned kReadTries = 64;

enum class ReadCode : std::uint8_t {
  found,
  absent,      ///< No such key or index, or no value yet; it was so at some moment during the call.
  gone,        ///< The object was removed, or the segment is superseded.
  wrong_type,  ///< The object has another shape.
  too_busy,    ///< kReadTries attempts met a change. Ask the daemon to hold the object, then read again.
  damaged,     ///< The segment holds what no writer writes.
};

/// The outcome of reading one entry. Small and without allocation, because it is what a look-up costs.
struct Read {
  ReadCode code = ReadCode::absent;
  std::uint8_t encoding = 0;
  /// Bytes of the value. If the buffer was smaller, nothing was copied: make it larger and read again.
  std::uint32_t bytes = 0;
  std::uint32_t writer_uid = 0;  ///< Who wrote it: whom a reader that would run it must trust.
  /// Differs between any two writes of the same entry (until 2^28 more of them).
  std::uint64_t version = 0;
  explicit operator bool() const { return code == ReadCode::found; }
};

/// The error of a code that is neither `found` nor `absent`, for callers that speak Result: `unknown_object`,
/// `wrong_type`, `too_busy`, `bad_segment`.
Error read_error(ReadCode code);

/// An object as a reader holds it. Obtained from find(); plain values, good for as long as the object lives.
struct ObjectView {
  std::uint64_t offset = 0;  ///< Of the record: checked.
  ObjectId id = ObjectId::none;
  ObjectType type = ObjectType::dict;
};

/// What an object's record says, all of one moment.
struct ObjectStat {
  ObjectType type = ObjectType::dict;
  std::uint8_t flags = 0;
  std::uint32_t owner_uid = 0;
  std::uint64_t version = 0;
  std::uint64_t count = 0;  ///< Entries (also expired ones that the daemon has not removed yet), items or words.
  std::uint64_t bytes = 0;
  std::uint64_t created = 0;  ///< Unix time, seconds.
  std::uint64_t aux[kAuxWords] = {};
};

/// Entries that a scan copied: one buffer for all of them.
struct Page {
  struct Entry {
    std::size_t key_at = 0;  ///< In `bytes`. Items of lists have no key.
    std::uint32_t key_bytes = 0;
    std::uint32_t value_bytes = 0;
    std::size_t value_at = 0;
    std::uint64_t order = 0;  ///< Of a dict: sort by it for the order of insertion.
    std::uint64_t version = 0;
    std::uint32_t writer_uid = 0;
    std::uint8_t encoding = 0;
  };
  std::vector<Entry> entries;
  std::vector<std::byte> bytes;

  KeyView key(const Entry& entry) const { return std::span{bytes}.subspan(entry.key_at, entry.key_bytes); }
  std::span<const std::byte> value(const Entry& entry) const {
    return std::span{bytes}.subspan(entry.value_at, entry.value_bytes);
  }
  void clear() {
    entries.clear();
    bytes.clear();
  }
};

/// Where a scan of a dict is. Default: at the start.
struct Cursor {
  std::uint64_t table = 0;
  std::uint64_t position = 0;
};

class Segment {
 public:
  /// Nanoseconds of CLOCK_BOOTTIME; asked only for entries that expire.
  using Clock = std::uint64_t (*)();

  /// Takes a whole mapped segment. The memory must stay mapped for the life of this object and of its copies.
  /// `bad_segment`: it is not one, is damaged, has another format, or is shorter than it says.
  static Result<Segment> open(std::span<const std::byte> memory, Clock now);

  bool is_superseded() const;
  std::string_view domain() const;
  std::uint64_t seed() const { return seed_; }

  /// The object that the daemon said is at that place. `unknown_object`: it is gone, or never was there.
  Result<ObjectView> find(std::uint64_t offset, ObjectId id) const;
  /// `found`, or `gone` / `too_busy`.
  ReadCode stat(const ObjectView& object, ObjectStat& into) const;

  /// Looks a key up in a dict and copies its value.
  Read get(const ObjectView& object, KeyView key, std::span<std::byte> into) const;
  /// The fastest form.
  Read get(const ObjectView& object, const KeyBuffer& key, std::span<std::byte> into) const;
  /// The same without the copy: `found` with size and encoding.
  Read contains(const ObjectView& object, KeyView key) const;
  /// A list's item.
  Read list_get(const ObjectView& object, std::uint64_t index, std::span<std::byte> into) const;
  /// A value's content.
  Read value_get(const ObjectView& object, std::span<std::byte> into) const;
  /// An array's words from `first` on, all of `into` or nothing; each word is whole, all of them only within
  /// consistently().
  ReadCode array_get(const ObjectView& object, std::uint64_t first, std::span<std::uint64_t> into) const;

  /// Appends up to `max_entries` entries of a dict to `page`, stopping early above `max_bytes`, and moves the cursor.
  /// `absent`: the scan is at its end. A key that is there during the whole scan is met at least once, even if the
  /// table is replaced meanwhile (the scan then starts again, and may meet keys twice); each entry is whole, the page
  /// is not of one moment.
  ReadCode scan(const ObjectView& object, Cursor& cursor, std::size_t max_entries, std::size_t max_bytes,
                Page& page) const;
  /// Appends items [first, first + count) of a list to `page`, cut at its end: each whole, all of one moment only
  /// within consistently().
  ReadCode list_scan(const ObjectView& object, std::uint64_t first, std::uint64_t count, Page& page) const;

  /// Runs `read` until no change of the object fell into it: everything that it read is then of one moment. `read`
  /// returns a ReadCode, must start over each time, and may meet any of the object's states in between. At most `tries`
  /// times.
  template <class F>
  ReadCode consistently(const ObjectView& object, F&& read, std::uint64_t* version = nullptr,
                        unsigned tries = kReadTries) const {
    for (unsigned attempt = 0; attempt < tries; ++attempt) {
      std::uint64_t before = 0;
      if (!begin_read(object, before)) continue;
      const ReadCode code = read();
      if (code == ReadCode::gone) return code;
      if (!unchanged(object, before)) continue;
      if (version) *version = before;
      return code;
    }
    return ReadCode::too_busy;
  }
  /// All of a dict (in the order of insertion) or list into `page`, of one moment; the version is that of replace-if
  /// operations.
  ReadCode read_all(const ObjectView& object, Page& page, std::uint64_t& version, unsigned tries = kReadTries) const;

 private:
  Segment(std::span<const std::byte> memory, Clock now) : memory_(memory.data()), bytes_(memory.size()), now_(now) {}
  bool find_at_once(const ObjectView& object, const KeyBuffer& key, std::uint64_t hash, std::span<std::byte> into,
                    Read& read) const;
  template <class AnyKey>
  Read look_up(const ObjectView& object, const AnyKey& key, std::uint64_t hash, std::span<std::byte> into) const;
  std::size_t used_bytes() const;
  bool begin_read(const ObjectView& object, std::uint64_t& version) const;
  bool unchanged(const ObjectView& object, std::uint64_t version) const;

  const std::byte* memory_;
  std::size_t bytes_;
  Clock now_;
  std::uint64_t seed_ = 0;
  std::uint32_t owner_uid_ = 0;
};

}  // namespace taskpool::store
