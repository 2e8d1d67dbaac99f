#pragma once

#include <fmt/format.h>

#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

/// The daemon's log: one line an event on standard error, `time=... level=warning event=worker_exited worker=3
/// signal=9`; or, where standard error goes to systemd's journal, a record with fields of these names. Text from
/// clients is escaped; payloads never appear.
namespace taskpool::log {

/// What is shown of a value at most. Bytes.
inline constexpr std::size_t kMaxValueBytes = 2000;

enum class Level { trace, debug, info, warning, error, critical };

/// One key=value of a line.
struct Field {
  std::string_view key;
  std::string value;
  Field(std::string_view name, std::string_view text) : key{name}, value{text} {}
  Field(std::string_view name, const std::string& text) : key{name}, value{text} {}
  Field(std::string_view name, const char* text) : key{name}, value{text} {}
  template <class T>
  requires std::is_arithmetic_v<T> Field(std::string_view name, T number) : key{name}, value{fmt::to_string(number)} {}
};

/// Lines below `level` ("trace" to "critical") are not written. An unknown name changes nothing.
void set_level(std::string_view level);
void write(Level level, std::string_view event, std::span<const Field> fields);
inline void write(Level level, std::string_view event, std::initializer_list<Field> fields = {}) {
  write(level, event, std::span{fields.begin(), fields.size()});
}

inline void debug(std::string_view event, std::initializer_list<Field> fields = {}) {
  write(Level::debug, event, fields);
}
inline void info(std::string_view event, std::initializer_list<Field> fields = {}) {
  write(Level::info, event, fields);
}
inline void warning(std::string_view event, std::initializer_list<Field> fields = {}) {
  write(Level::warning, event, fields);
}
inline void error(std::string_view event, std::initializer_list<Field> fields = {}) {
  write(Level::error, event, fields);
}

/// A value as a line shows it: as it is if it is a plain word, else quoted, with control characters escaped and long
/// text cut.
std::string escape(std::string_view value);

}  // namespace taskpool::log
