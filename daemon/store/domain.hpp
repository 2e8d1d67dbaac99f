#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/os/unique_fd.hpp"
#include "proto/store/reader.hpp"
#include "proto/store/recovery.hpp"
#include "proto/store/writer.hpp"

namespace taskpool::store {

/// Whose objects a segment holds.
struct DomainKey {
  bool is_group = false;
  std::uint32_t number = 0;  ///< Uid or gid.
  auto operator<=>(const DomainKey&) const = default;
};
/// "uid:1000" or "gid:27": in the segment's header.
std::string domain_text(DomainKey key);
/// "u1000-26": an object's id on the wire.
std::string object_text(DomainKey key, ObjectId id);
/// The reverse, or nothing.
std::optional<std::pair<DomainKey, ObjectId>> parse_object_text(std::string_view text);

/// Nanoseconds of CLOCK_BOOTTIME, by which entries expire.
std::uint64_t boot_time_ns();

/// One access domain: the file of its segment, mapped, and the segment's writer.
class Domain {
 public:
  /// Makes the segment's file, sparse at `bytes`. Errors: `system`, `store_full`.
  static Result<std::unique_ptr<Domain>> create(const std::string& path, DomainKey key, std::size_t bytes);
  /// Takes over a file that an earlier daemon left. Errors: `bad_segment` (not one, of another format, or not this
  /// domain's), `system`. `messages`: what was dropped as damaged.
  static Result<std::unique_ptr<Domain>> open(const std::string& path, DomainKey key,
                                              std::vector<std::string>& messages);
  ~Domain();
  Domain(const Domain&) = delete;
  Domain& operator=(const Domain&) = delete;

  DomainKey key() const { return key_; }
  Writer& writer() { return *writer_; }
  const Segment& reader() const { return *reader_; }
  /// The file, for reading only: what clients get.
  int client_fd() const { return read_only_.get(); }
  std::size_t bytes() const { return size_; }
  /// Does not let the file take more than `bytes`; `rule` is what says so. What it takes already stays.
  void bound(std::size_t bytes, std::string rule) {
    most_ = bytes;
    rule_ = std::move(rule);
  }
  /// Its number in this daemon: `segment` on the wire.
  std::uint32_t number = 0;

 private:
  Domain(DomainKey key, os::UniqueFd file, os::UniqueFd read_only, std::byte* memory, std::size_t size);
  static Result<std::unique_ptr<Domain>> map(os::UniqueFd file, const std::string& path, DomainKey key,
                                             std::size_t size);
  Extend extend();
  /// On a disk, the first touch of a page of the segment would read others ahead, megabytes that hold the event loop.
  void read_no_further();
  Result<void> open_reader();

  DomainKey key_;
  os::UniqueFd file_;
  os::UniqueFd read_only_;
  std::byte* memory_;
  std::size_t size_;
  std::size_t allocated_ = 0;  ///< Bytes of the file that exist.
  std::size_t most_ = std::numeric_limits<std::size_t>::max();
  std::string rule_;
  std::optional<Writer> writer_;
  std::optional<Segment> reader_;
};

}  // namespace taskpool::store
