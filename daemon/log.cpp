#include "daemon/log.hpp"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <memory>

namespace taskpool::log {

namespace {

constexpr std::size_t kMaxValueBytes = 2000;

spdlog::logger& logger() {
  static const auto instance = [] {
    auto made = std::make_shared<spdlog::logger>("taskpoold", std::make_shared<spdlog::sinks::stderr_sink_st>());
    made->set_pattern("time=%Y-%m-%dT%H:%M:%S.%e level=%l %v");
    made->flush_on(spdlog::level::trace);
    return made;
  }();
  return *instance;
}

bool is_plain(unsigned char c) { return c > 0x20 && c < 0x7f && c != '"' && c != '=' && c != '\\'; }

}  // namespace

std::string escape(std::string_view value) {
  if (!value.empty() && value.size() <= kMaxValueBytes && std::all_of(value.begin(), value.end(), is_plain))
    return std::string{value};
  std::string out = "\"";
  for (const unsigned char c : value.substr(0, kMaxValueBytes)) {
    if (c == '"' || c == '\\')
      out += {'\\', static_cast<char>(c)};
    else if (c == '\n')
      out += "\\n";
    else if (c < 0x20 || c == 0x7f)
      out += fmt::format("\\x{:02x}", c);
    else
      out += static_cast<char>(c);
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
  logger().log(severity, spdlog::string_view_t{line.data(), line.size()});
}

}  // namespace taskpool::log
