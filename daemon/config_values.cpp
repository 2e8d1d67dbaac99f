#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "daemon/config_keys.hpp"

namespace taskpool::keys {
namespace {

template <class Number>
std::optional<Number> to_number(std::string_view text, int base = 10) {
  Number number{};
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number, base);
  if (text.empty() || failed != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

/// A number and its unit, as in "10s" or "16MiB".
struct Unit {
  std::string_view name;
  std::uint64_t factor;
};
constexpr std::array<Unit, 4> kSizes{{{"GiB", 1u << 30}, {"MiB", 1u << 20}, {"KiB", 1u << 10}, {"B", 1}}};
constexpr std::array<Unit, 5> kTimes{{{"d", 86'400'000}, {"h", 3'600'000}, {"ms", 1}, {"m", 60'000}, {"s", 1000}}};

std::optional<std::uint64_t> with_unit(std::string_view text, std::span<const Unit> units) {
  for (const auto& unit : units) {
    if (!text.ends_with(unit.name)) continue;
    const auto number = to_number<std::uint64_t>(text.substr(0, text.size() - unit.name.size()));
    if (number && *number <= kAnySize / unit.factor) return *number * unit.factor;
  }
  return std::nullopt;
}

std::string spell_with_unit(std::uint64_t value, std::span<const Unit> units) {
  const Unit* best = nullptr;  // the largest that divides the value
  for (const auto& unit : units)
    if (value % unit.factor == 0 && (best == nullptr || unit.factor > best->factor)) best = &unit;
  if (value == 0) best = &units.back();
  return '"' + std::to_string(value / best->factor) + std::string{best->name} + '"';
}

std::optional<std::uint64_t> to_bytes(std::string_view text) {
  auto bytes = with_unit(text, kSizes);
  if (!bytes) bytes = to_number<std::uint64_t>(text);
  return bytes && *bytes <= kAnySize ? bytes : std::nullopt;
}

// Checks on values, wherever they came from.

template <class Kind>
Checked ranged(const Kind& kind, auto& owner, std::int64_t value) {
  if (value < 0 ? value < static_cast<std::int64_t>(kind.min)
                : static_cast<std::uint64_t>(value) > static_cast<std::uint64_t>(kind.max) ||
                      value < static_cast<std::int64_t>(kind.min))
    return Refusal{"a number from " + std::to_string(kind.min) + " to " + std::to_string(kind.max)};
  owner.*kind.field = static_cast<std::remove_cvref_t<decltype(owner.*kind.field)>>(value);
  return std::nullopt;
}

template <class Owner>
Checked set(const Text<Owner>& kind, Owner& owner, std::string_view text) {
  if (has_nul(text)) return Refusal{"text without zero bytes"};
  owner.*kind.field = text;
  return std::nullopt;
}
template <class Owner>
Checked set(const Count<Owner>& kind, Owner& owner, std::string_view text) {
  return ranged(kind, owner, to_number<std::int64_t>(text).value_or(-1));
}
template <class Owner>
Checked set(const Integer<Owner>& kind, Owner& owner, std::string_view text) {
  return ranged(kind, owner, to_number<std::int64_t>(text).value_or(std::int64_t{kind.max} + 1));
}
template <class Owner>
Checked set(const Size<Owner>& kind, Owner& owner, std::string_view text) {
  const auto bytes = to_bytes(text);
  if (!bytes) return Refusal{"a size such as 65536 or \"16MiB\""};
  return ranged(kind, owner, static_cast<std::int64_t>(*bytes));
}
template <class Owner>
Checked set(const Limit<Owner>& kind, Owner& owner, std::string_view text) {
  const auto number = to_number<std::uint64_t>(text);
  if (!number || *number > kAnySize) return Refusal{"a number; 0: no limit"};
  owner.*kind.field = *number;
  return std::nullopt;
}
template <class Owner>
Checked set(const SizeLimit<Owner>& kind, Owner& owner, std::string_view text) {
  const auto bytes = to_bytes(text);
  if (!bytes) return Refusal{"a size such as 65536 or \"16MiB\"; 0: no limit"};
  owner.*kind.field = *bytes;
  return std::nullopt;
}
template <class Owner>
Checked set(const Duration<Owner>& kind, Owner& owner, std::string_view text) {
  const auto time = text == "0" ? std::optional<std::uint64_t>{0} : with_unit(text, kTimes);
  if (!time || *time > static_cast<std::uint64_t>(kMaxDuration.count()))
    return Refusal{"a time of at most 24d, such as \"500ms\" or \"10s\""};
  owner.*kind.field = std::chrono::milliseconds{static_cast<std::int64_t>(*time)};
  return std::nullopt;
}
template <class Owner>
Checked set(const Mode<Owner>& kind, Owner& owner, std::string_view text) {
  const auto mode = to_number<mode_t>(text, 8);
  if (!mode || *mode > 0777) return Refusal{"an octal mode such as \"0660\""};
  owner.*kind.field = *mode;
  return std::nullopt;
}
template <class Owner>
Checked set(const Choice<Owner>& kind, Owner& owner, std::string_view text) {
  if (std::find(kind.words.begin(), kind.words.end(), text) == kind.words.end()) {
    std::string all;
    for (const auto& word : kind.words)
      all += (all.empty() ? "" : &word == &kind.words.back() ? " or " : ", ") + std::string{word};
    return Refusal{all};
  }
  owner.*kind.field = text;
  return std::nullopt;
}
template <class Owner>
Checked set(const Local<Owner>& kind, Owner& owner, std::string_view text) {
  if (!text.empty() && !parse_local_address(text))
    return Refusal{"an address of this host's own such as \"127.0.0.1:9464\" or \"[::1]:9464\", which no other host "
                   "can reach, or a path"};
  owner.*kind.field = text;
  return std::nullopt;
}
template <class Owner>
Checked set(const JsonArray<Owner>& kind, Owner& owner, std::string_view text) {
  if (!text.empty() && !nlohmann::json::parse(text, nullptr, false).is_array())
    return Refusal{"text that is a JSON array"};
  owner.*kind.field = text;
  return std::nullopt;
}
template <class Owner>
Checked set(const Truth<Owner>& kind, Owner& owner, std::string_view text) {
  if (text != "true" && text != "false") return Refusal{"true or false"};
  owner.*kind.field = text == "true";
  return std::nullopt;
}
/// A flag's text: elements with commas between them.
template <class Owner>
Checked set(const Texts<Owner>& kind, Owner& owner, std::string_view text) {
  std::vector<std::string> elements;
  while (!text.empty()) {
    const auto end = std::min(text.find(','), text.size());
    if (end > 0) elements.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  owner.*kind.field = std::move(elements);
  return std::nullopt;
}
template <class Owner>
Checked set(const TextMap<Owner>&, Owner&, std::string_view) {
  return Refusal{"a table, which only a file can hold"};
}

}  // namespace

}  // namespace taskpool::keys

namespace taskpool {

std::optional<LocalAddress> parse_local_address(std::string_view text) {
  if (keys::has_nul(text)) return std::nullopt;
  LocalAddress address;
  if (text.starts_with('/')) {
    address.path = text;
    return address;
  }
  const auto colon = text.rfind(':');
  if (colon == text.npos) return std::nullopt;
  const auto port = keys::to_number<std::uint16_t>(text.substr(colon + 1));
  if (!port) return std::nullopt;
  address.port = *port;
  address.host = text.substr(0, colon);
  if (address.host == "localhost") address.host = "127.0.0.1";
  in_addr four{};
  if (::inet_pton(AF_INET, address.host.c_str(), &four) == 1) {
    if ((ntohl(four.s_addr) >> 24) != IN_LOOPBACKNET) return std::nullopt;
    return address;
  }
  if (address.host != "[::1]") return std::nullopt;
  address.host = "::1";
  return address;
}

}  // namespace taskpool

namespace taskpool::keys {

std::string quote(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      constexpr std::string_view digits = "0123456789ABCDEF";
      out += "\\u00";
      out += digits[byte >> 4];
      out += digits[byte & 15];
    } else {
      out += c;
    }
  }
  return out + '"';
}

bool has_nul(std::string_view text) { return text.find('\0') != std::string_view::npos; }

template <class Owner>
Checked assign(const Key<Owner>& key, Owner& owner, std::string_view text) {
  return std::visit([&](const auto& kind) { return set(kind, owner, text); }, key.value);
}
template Checked assign(const Key<Config>&, Config&, std::string_view);
template Checked assign(const Key<PoolConfig>&, PoolConfig&, std::string_view);
template Checked assign(const Key<QuotaConfig>&, QuotaConfig&, std::string_view);

template <class Owner>
std::string spell(const Key<Owner>& key, const Owner& owner) {
  struct Speller {
    const Owner& from;
    std::string operator()(const Text<Owner>& kind) { return quote(from.*kind.field); }
    std::string operator()(const Choice<Owner>& kind) { return quote(from.*kind.field); }
    std::string operator()(const Local<Owner>& kind) { return quote(from.*kind.field); }
    std::string operator()(const JsonArray<Owner>& kind) { return quote(from.*kind.field); }
    std::string operator()(const Truth<Owner>& kind) { return from.*kind.field ? "true" : "false"; }
    std::string operator()(const Count<Owner>& kind) { return std::to_string(from.*kind.field); }
    std::string operator()(const Integer<Owner>& kind) { return std::to_string(from.*kind.field); }
    std::string operator()(const Size<Owner>& kind) { return spell_with_unit(from.*kind.field, kSizes); }
    std::string operator()(const Limit<Owner>& kind) {
      const auto& limit = from.*kind.field;
      return limit ? std::to_string(*limit) : "";
    }
    std::string operator()(const SizeLimit<Owner>& kind) {
      const auto& limit = from.*kind.field;
      return limit ? spell_with_unit(*limit, kSizes) : "";
    }
    std::string operator()(const Duration<Owner>& kind) {
      return spell_with_unit(static_cast<std::uint64_t>((from.*kind.field).count()), kTimes);
    }
    std::string operator()(const Mode<Owner>& kind) {
      std::string octal;
      for (auto bits : {9, 6, 3, 0}) octal += static_cast<char>('0' + ((from.*kind.field >> bits) & 7));
      return '"' + octal + '"';
    }
    std::string operator()(const Texts<Owner>& kind) {
      std::string list;
      for (const auto& text : from.*kind.field) list += (list.empty() ? "" : ", ") + quote(text);
      return "[" + list + "]";
    }
    std::string operator()(const TextMap<Owner>& kind) {
      std::string table;
      for (const auto& [name, text] : from.*kind.field)
        table += (table.empty() ? " " : ", ") + quote(name) + " = " + quote(text);
      return "{" + table + (table.empty() ? "}" : " }");
    }
  };
  return std::visit(Speller{owner}, key.value);
}
template std::string spell(const Key<Config>&, const Config&);
template std::string spell(const Key<PoolConfig>&, const PoolConfig&);
template std::string spell(const Key<QuotaConfig>&, const QuotaConfig&);

}  // namespace taskpool::keys
