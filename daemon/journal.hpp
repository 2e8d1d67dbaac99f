#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>

#include "daemon/log.hpp"
#include "daemon/os/unique_fd.hpp"

/// Records for systemd's journal, by its native protocol: https://systemd.io/JOURNAL_NATIVE_PROTOCOL/
namespace taskpool::log {

inline constexpr std::string_view kJournalSocket = "/run/systemd/journal/socket";

/// Of a field of ours: "worker" is WORKER. What is none of the journal's letters becomes "_"; a name that means
/// something else to the journal (MESSAGE, PRIORITY, ...) gets TASKPOOL_ before it.
std::string journal_field(std::string_view key);
/// The datagram of one record. `text` is what a line on standard error would say, without its time and level.
std::string journal_record(Level level, std::string_view event, std::span<const Field> fields, std::string_view text);
inline std::string journal_record(Level level, std::string_view event, std::initializer_list<Field> fields,
                                  std::string_view text) {
  return journal_record(level, event, std::span{fields.begin(), fields.size()}, text);
}

/// Sends records to the journal.
class Journal {
 public:
  explicit Journal(std::string_view path = kJournalSocket);
  /// False if it cannot be told, so that somebody else should be. A journal that is too busy to listen is not waited
  /// for: the record is dropped, and the next one that gets through says how many were.
  bool send(std::string record);

 private:
  os::UniqueFd socket_;
  std::string path_;
  std::size_t dropped_ = 0;
};

/// Whether `fd` is what $JOURNAL_STREAM, here `stream`, names as "DEVICE:INODE": a stream to the journal.
bool is_journal_stream(int fd, const char* stream);

}  // namespace taskpool::log
