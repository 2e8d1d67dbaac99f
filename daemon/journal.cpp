#include "daemon/journal.hpp"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace taskpool::log {

namespace {

constexpr std::size_t kMaxFieldName = 64;
constexpr std::array<std::string_view, 6> kReserved{"MESSAGE",           "MESSAGE_ID", "PRIORITY",
                                                    "SYSLOG_IDENTIFIER", "EVENT",      "ERRNO"};

/// syslog(3) has no "trace".
int priority_of(Level level) {
  switch (level) {
    case Level::trace:
    case Level::debug: return 7;
    case Level::info: return 6;
    case Level::warning: return 4;
    case Level::error: return 3;
    case Level::critical: return 2;
  }
  return 6;
}

/// A value with a line's end in it has its length before it, so that no text can begin a field of its own.
void append(std::string& record, std::string_view name, std::string_view value) {
  record += name;
  if (value.find('\n') == value.npos) {
    record += '=';
  } else {
    record += '\n';
    std::uint64_t size = value.size();
    for (int byte = 0; byte < 8; ++byte, size >>= 8) record += static_cast<char>(size & 0xff);
  }
  record += value;
  record += '\n';
}

}  // namespace

std::string journal_field(std::string_view key) {
  std::string name;
  for (const char c : key) {
    if (c >= 'a' && c <= 'z')
      name += static_cast<char>(c - 'a' + 'A');
    else
      name += (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ? c : '_';
  }
  const bool begins_badly = name.empty() || name[0] == '_' || (name[0] >= '0' && name[0] <= '9');
  if (begins_badly || std::find(kReserved.begin(), kReserved.end(), name) != kReserved.end())
    name.insert(0, "TASKPOOL_");
  return name.substr(0, kMaxFieldName);
}

std::string journal_record(Level level, std::string_view event, std::span<const Field> fields, std::string_view text) {
  std::string record;
  append(record, "MESSAGE", text);
  append(record, "PRIORITY", std::to_string(priority_of(level)));
  append(record, "SYSLOG_IDENTIFIER", "taskpoold");
  append(record, "EVENT", event);
  for (const auto& field : fields)
    append(record, journal_field(field.key), std::string_view{field.value}.substr(0, kMaxValueBytes));
  return record;
}

Journal::Journal(std::string_view path) : socket_{::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)}, path_{path} {}

bool Journal::send(std::string record) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (!socket_ || path_.size() >= sizeof address.sun_path) return false;
  std::memcpy(address.sun_path, path_.data(), path_.size());
  if (dropped_ > 0) append(record, "TASKPOOL_DROPPED", std::to_string(dropped_));
  // To a name rather than over a connection, which would not outlive a restart of the journal.
  const auto sent = ::sendto(socket_.get(), record.data(), record.size(), MSG_DONTWAIT | MSG_NOSIGNAL,
                             reinterpret_cast<const sockaddr*>(&address), sizeof address);
  if (sent >= 0) {
    dropped_ = 0;
    return true;
  }
  if (errno != EAGAIN && errno != ENOBUFS) return false;
  ++dropped_;
  return true;
}

bool is_journal_stream(int fd, const char* stream) {
  struct stat status {};
  if (stream == nullptr || ::fstat(fd, &status) != 0) return false;
  return std::to_string(status.st_dev) + ":" + std::to_string(status.st_ino) == stream;
}

}  // namespace taskpool::log
