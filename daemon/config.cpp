#include "daemon/config.hpp"

#include <algorithm>
#include <set>

#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#include <toml++/toml.h>

#include "daemon/config_keys.hpp"

namespace taskpool {
namespace {

using keys::Checked;
using keys::Key;
using keys::Refusal;
using keys::has_nul;
using keys::quote;

std::string place(std::string_view source, const toml::source_region& where) {
  return std::string{source} + ":" + std::to_string(where.begin.line) + ": ";
}

Checked texts_of(const toml::node& node, std::vector<std::string>& into) {
  const Refusal refusal{"a list of texts"};
  const auto* const list = node.as_array();
  if (list == nullptr) return refusal;
  into.clear();
  for (const auto& element : *list) {
    const auto text = element.value_exact<std::string>();
    if (!text || has_nul(*text)) return refusal;
    into.push_back(*text);
  }
  return std::nullopt;
}

Checked text_map_of(const toml::node& node, std::map<std::string, std::string>& into) {
  const Refusal refusal{"a table of texts, whose names have no ="};
  const auto* const table = node.as_table();
  if (table == nullptr) return refusal;
  for (const auto& [name, value] : *table) {
    const auto text = value.value_exact<std::string>();
    if (!text || has_nul(*text) || name.empty() || has_nul(name.str()) || name.str().find('=') != std::string_view::npos)
      return refusal;
    into[std::string{name.str()}] = *text;
  }
  return std::nullopt;
}

template <class Owner>
Checked read(const Key<Owner>& key, Owner& owner, const toml::node& node) {
  if (const auto* list = std::get_if<keys::Texts<Owner>>(&key.value)) return texts_of(node, owner.*list->field);
  if (const auto* map = std::get_if<keys::TextMap<Owner>>(&key.value)) return text_map_of(node, owner.*map->field);
  const bool is_count = std::holds_alternative<keys::Count<Owner>>(key.value) ||
                        std::holds_alternative<keys::Integer<Owner>>(key.value);
  const bool takes_number = is_count || std::holds_alternative<keys::Size<Owner>>(key.value);
  std::string text;
  if (const auto number = node.value_exact<std::int64_t>(); number && takes_number) {
    text = std::to_string(*number);
  } else if (const auto written = node.value_exact<std::string>(); written && !is_count) {
    text = *written;
  } else {
    return Refusal{takes_number ? is_count ? "a number" : "a number or a text" : "a text in quotes"};
  }
  return keys::assign(key, owner, text);
}

/// A value for an error message: scalars as written, the rest by its kind; short.
std::string shown(const toml::node& node) {
  std::string text;
  if (const auto written = node.value_exact<std::string>()) text = quote(*written);
  else if (const auto number = node.value_exact<std::int64_t>()) text = std::to_string(*number);
  else if (const auto real = node.value_exact<double>()) text = std::to_string(*real);
  else if (const auto truth = node.value_exact<bool>()) text = *truth ? "true" : "false";
  else text = node.is_table() ? "a table" : node.is_array() ? "a list" : "a date or time";
  constexpr std::size_t kMost = 80;
  return text.size() <= kMost ? text : text.substr(0, kMost) + "...";
}

Error refused(std::string_view source, const toml::node& node, std::string_view key, const Refusal& refusal) {
  return fail(Errc::bad_argument, place(source, node.source()) + std::string{key} + " = " + shown(node) + ": want " +
                                      refusal.want);
}

Error unknown(std::string_view source, const toml::key& key, std::string_view within) {
  return fail(Errc::bad_argument,
              place(source, key.source()) + std::string{within} + std::string{key.str()} + ": unknown key");
}

Result<PoolConfig> read_pool(std::string_view source, const toml::table& table) {
  PoolConfig pool;
  for (const auto& [name, node] : table) {
    const auto* const key = keys::find(keys::kPoolKeys, name.str());
    if (key == nullptr) return unknown(source, name, "pool.");
    if (auto refusal = read(*key, pool, node))
      return refused(source, node, "pool." + std::string{name.str()}, *refusal);
  }
  return pool;
}

Result<void> read_pools(std::string_view source, const toml::node& node, Config& config) {
  const auto* const list = node.as_array();
  if (list == nullptr || list->empty()) return refused(source, node, "pool", {"tables that begin with [[pool]]"});
  config.pools.clear();
  for (const auto& element : *list) {
    const auto* const table = element.as_table();
    if (table == nullptr) return refused(source, element, "pool", {"tables that begin with [[pool]]"});
    auto pool = read_pool(source, *table);
    if (!pool) return pool.error();
    config.pools.push_back(std::move(*pool));
  }
  return {};
}

Result<void> read_runtimes(std::string_view source, const toml::node& node, Config& config) {
  const Refusal refusal{"tables such as [runtime.NAME] with a command"};
  const auto* const runtimes = node.as_table();
  if (runtimes == nullptr) return refused(source, node, "runtime", refusal);
  for (const auto& [name, entry] : *runtimes) {
    const auto* const table = entry.as_table();
    if (table == nullptr) return refused(source, entry, "runtime", refusal);
    auto& runtime = config.runtimes[std::string{name.str()}];
    runtime = {.name = std::string{name.str()}, .command = {}};
    for (const auto& [key, value] : *table) {
      if (key.str() != "command") return unknown(source, key, "runtime." + runtime.name + ".");
      if (auto wrong = texts_of(value, runtime.command))
        return refused(source, value, "runtime." + runtime.name + ".command", *wrong);
    }
    if (runtime.command.empty())
      return refused(source, entry, "runtime." + runtime.name, {"command = [\"PROGRAM\", ...]"});
  }
  return {};
}

/// What no single key can tell.
Result<void> check_pools(const Config& config) {
  std::set<std::string_view> names;
  for (const auto& pool : config.pools) {
    if (pool.name.empty() || pool.name.size() > kMaxNameBytes)
      return fail(Errc::bad_argument, "pool.name = " + quote(pool.name) + ": want 1 to " +
                                          std::to_string(kMaxNameBytes) + " bytes");
    if (!names.insert(pool.name).second)
      return fail(Errc::bad_argument, "pool.name = " + quote(pool.name) + ": two pools have this name");
    if (!config.runtimes.contains(pool.runtime))
      return fail(Errc::bad_argument, "pool." + pool.name + ".runtime = " + quote(pool.runtime) +
                                          ": no such runtime; there must be a [runtime.NAME] table");
  }
  return {};
}

}  // namespace

std::map<std::string, RuntimeConfig> builtin_runtimes() {
  return {{"native", {"native", {"taskpool-runtime"}}},
          {"command", {"command", {"taskpool-runtime", "--commands"}}}};
}

std::vector<PoolConfig> default_pools() {
  PoolConfig standard;
  standard.modules = {"demo"};
  PoolConfig commands;
  commands.name = "command";
  commands.runtime = "command";
  return {standard, commands};
}

Result<Config> parse_config(std::string_view text, std::string_view source) {
  const auto parsed = toml::parse(text, source);
  if (!parsed) {
    const auto& error = parsed.error();
    return fail(Errc::bad_argument, place(source, error.source()) + std::string{error.description()});
  }
  Config config;
  for (const auto& [name, node] : parsed.table()) {
    auto outcome = Result<void>{};
    if (name.str() == "pool") outcome = read_pools(source, node, config);
    else if (name.str() == "runtime") outcome = read_runtimes(source, node, config);
    else if (const auto* key = keys::find(keys::kConfigKeys, name.str())) {
      if (auto refusal = read(*key, config, node)) return refused(source, node, name.str(), *refusal);
    } else {
      return unknown(source, name, "");
    }
    if (!outcome) return outcome.error();
  }
  if (auto checked = check_pools(config); !checked) {
    auto error = checked.error();
    error.detail = std::string{source} + ": " + error.detail;
    return error;
  }
  return config;
}

Result<void> set_key(Config& config, std::string_view key, std::string_view value) {
  const auto apply = [&](const auto* known, auto& owner) -> Result<void> {
    if (known == nullptr) return fail(Errc::bad_argument, std::string{key} + ": unknown key");
    const auto refusal = keys::assign(*known, owner, value);
    if (!refusal) return check_pools(config);
    return fail(Errc::bad_argument, std::string{key} + " = " + quote(value) + ": want " + refusal->want);
  };
  if (!key.starts_with("pool.")) return apply(keys::find(keys::kConfigKeys, key), config);
  const auto dot = std::max(key.rfind('.'), std::size_t{5});  // a pool's name may have dots of its own
  const auto name = key.substr(5, dot - 5);
  for (auto& pool : config.pools)
    if (pool.name == name) return apply(keys::find(keys::kPoolKeys, key.substr(std::min(dot + 1, key.size()))), pool);
  return fail(Errc::bad_argument, std::string{key} + ": no pool " + quote(name));
}

std::string to_toml(const Config& config) {
  std::string text;
  const auto line = [&text](const auto& key, const auto& owner) {
    text += std::string{key.name} + " = " + keys::spell(key, owner) + "\n";
  };
  for (const auto& key : keys::kConfigKeys) line(key, config);
  for (const auto& pool : config.pools) {
    text += "\n[[pool]]\n";
    for (const auto& key : keys::kPoolKeys) line(key, pool);
  }
  for (const auto& [name, runtime] : config.runtimes) {
    text += "\n[runtime." + quote(name) + "]\ncommand = [";
    for (const auto& word : runtime.command) text += (&word == &runtime.command.front() ? "" : ", ") + quote(word);
    text += "]\n";
  }
  return text;
}

ConfigChanges compare(const Config& old, const Config& now) {
  ConfigChanges changes;
  for (const auto& key : keys::kConfigKeys) {
    if (keys::spell(key, old) == keys::spell(key, now)) continue;
    (key.needs_restart ? changes.needs_restart : changes.changed).emplace_back(key.name);
  }
  const auto pool_of = [](const Config& config, const std::string& name) {
    return std::find_if(config.pools.begin(), config.pools.end(), [&](const auto& p) { return p.name == name; });
  };
  for (const auto& pool : now.pools) {
    const auto before = pool_of(old, pool.name);
    if (before == old.pools.end()) {
      changes.changed.push_back("pool." + pool.name);
      continue;
    }
    for (const auto& key : keys::kPoolKeys)
      if (keys::spell(key, *before) != keys::spell(key, pool))
        changes.changed.push_back("pool." + pool.name + "." + std::string{key.name});
  }
  for (const auto& pool : old.pools)
    if (pool_of(now, pool.name) == now.pools.end()) changes.changed.push_back("pool." + pool.name);
  for (const auto& [name, runtime] : now.runtimes)
    if (const auto before = old.runtimes.find(name); before == old.runtimes.end() || before->second != runtime)
      changes.changed.push_back("runtime." + name);
  for (const auto& [name, runtime] : old.runtimes)
    if (!now.runtimes.contains(name)) changes.changed.push_back("runtime." + name);
  return changes;
}

}  // namespace taskpool
