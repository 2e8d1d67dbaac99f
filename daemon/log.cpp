#include "daemon/log.hpp"

#include <unistd.h>

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <optional>

#include "daemon/journal.hpp"

namespace taskpool::log {

namespace {

spdlog::logger& logger() {
  static const auto instance = [] {
    auto made = std::make_shared<spdlog::logger>("taskpoold", std::make_shared<spdlog::sinks::stderr_sink_st>());
    made->set_pattern("time=%Y-%m-%dT%H:%M:%S.%e level=%l %v");
    made->flush_on(spdlog::level::trace);
    return made;
  }();
  return *instance;
}

/// Null unless standard error goes to the journal.
Journal* journal() {
  static auto instance = is_journal_stream(STDERR_FILENO, std::getenv("JOURNAL_STREAM"))
                             ? std::optional<Journal>{std::in_place}
                             : std::nullopt;
  return instance ? &*instance : nullptr;
}

bool is_plain(unsigned char c) { return c > 0x20 && c < 0x7f && c != '"' && c != '=' && c != '\\'; }

}  // namespace

std::string escape(std::string_view value) {
  if (!value.empty() && value.size() <= kMaxValueBytes && std::all_of(value.begin(), value.end(), is_plain))
    return std::string{value};
  std::string out = "\"";
  for (const char byte : value.substr(0, kMaxValueBytes)) {
    const auto c = static_cast<unsigned char>(byte);
    if (c == '"' || c == '\\')
      out += {'\\', byte};
    else if (c == '\n')
      out += "\\n";
    else if (c < 0x20 || c == 0x7f)
      out += fmt::format("\\x{:02x}", c);
    else
      out += byte;
  }
  if (value.size() > kMaxValueBytes) out += "...";
  return out + '"';
}

void set_level(std::string_view level) {
  const auto parsed = spdlog::level::from_str(std::string{level});
  if (parsed != spdlog::level::off) logger().set_level(parsed);
}

void write(Level level, std::string_view event, std::span<const Field> fields) {
  const auto severity = static_cast<spdlog::level::level_enum>(level);
  if (!logger().should_log(severity)) return;
  auto line = fmt::format("event={}", event);
  for (const auto& field : fields) line += fmt::format(" {}={}", field.key, escape(field.value));
  if (auto* const records = journal(); records != nullptr && records->send(journal_record(level, event, fields, line)))
    return;
  logger().log(severity, spdlog::string_view_t{line.data(), line.size()});
}

}  // namespace taskpool::log
