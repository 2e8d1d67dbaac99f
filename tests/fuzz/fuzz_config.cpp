#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "daemon/config.hpp"

using namespace taskpool;

/// A configuration that is accepted must survive being written and read again. Comments that begin with "#! " are
/// flags: KEY=VALUE.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text{reinterpret_cast<const char*>(data), size};
  auto config = parse_config(text, "fuzz.toml");
  if (!config) return 0;
  for (auto at = text.find("#! "); at != std::string_view::npos; at = text.find("#! ", at + 1)) {
    const auto flag = text.substr(at + 3, text.find('\n', at) - at - 3);
    const auto equals = flag.find('=');
    if (equals == std::string_view::npos) continue;
    auto changed = *config;
    if (set_key(changed, flag.substr(0, equals), flag.substr(equals + 1))) config = std::move(changed);
  }
  const auto again = parse_config(to_toml(*config), "again.toml");
  if (!again || *again != *config) std::abort();
  const auto changes = compare(*config, *again);
  if (!changes.changed.empty() || !changes.needs_restart.empty()) std::abort();
  (void)compare(Config{}, *config);
  return 0;
}
