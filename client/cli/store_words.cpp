#include "client/cli/store_words.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

namespace taskpool::cli {
namespace {

using nlohmann::json;

constexpr std::array kDictNames{std::string_view{"get"},  std::string_view{"set"},     std::string_view{"del"},
                                std::string_view{"has"},  std::string_view{"pop"},     std::string_view{"incr"},
                                std::string_view{"cas"},  std::string_view{"default"}, std::string_view{"expire"},
                                std::string_view{"keys"}, std::string_view{"values"},  std::string_view{"items"},
                                std::string_view{"len"},  std::string_view{"clear"},   std::string_view{"watch"}};
constexpr std::array kListNames{std::string_view{"get"},    std::string_view{"set"},  std::string_view{"append"},
                                std::string_view{"insert"}, std::string_view{"pop"},  std::string_view{"del"},
                                std::string_view{"items"},  std::string_view{"len"},  std::string_view{"reverse"},
                                std::string_view{"clear"},  std::string_view{"watch"}};
constexpr std::array kValueNames{std::string_view{"get"}, std::string_view{"set"}, std::string_view{"incr"},
                                 std::string_view{"cas"}, std::string_view{"watch"}};
constexpr std::array kQueueNames{std::string_view{"put"}, std::string_view{"get"}, std::string_view{"len"},
                                 std::string_view{"clear"}};
constexpr std::array kEventNames{std::string_view{"set"}, std::string_view{"clear"}, std::string_view{"is-set"},
                                 std::string_view{"wait"}};

bool begins_like_json(std::string_view word) {
  return !word.empty() && (word[0] == '{' || word[0] == '[' || word[0] == '"');
}

}  // namespace

Result<json> parse_word(std::string_view word, Format format) {
  if (format == Format::json) {
    auto parsed = json::parse(word, nullptr, false);
    if (!parsed.is_discarded()) return parsed;
    if (begins_like_json(word))
      return fail(Errc::bad_argument, fmt::format("'{}' begins like JSON and is none (with --lines it is text)", word));
  }
  const auto quoted = to_item(word, Format::text);
  if (!quoted) return quoted.error();
  return json::parse(*quoted);
}

Result<Body> value_of(std::string_view word, Format format) {
  const auto parsed = parse_word(word, format);
  if (!parsed) return parsed.error();
  const auto text = parsed->dump();
  const auto bytes = as_bytes(text);
  return Body{Encoding::json, 1, Bytes(bytes.begin(), bytes.end())};
}

Result<std::int64_t> parse_integer(std::string_view word) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (error == std::errc{} && end == word.data() + word.size()) return value;
  return fail(Errc::bad_argument, fmt::format("'{}' is no whole number", word));
}

std::string key_text(const json& key, Format format) {
  return format == Format::text && key.is_string() ? key.get<std::string>() : key.dump();
}

void StoreFlags::define(CLI::App& app) {
  app.add_option("-g,--group", options.group, "The one that this Unix group shares, not one's own")->type_name("GROUP");
  app.add_flag_callback(
      "-l,--lines", [this] { format = Format::text; },
      "Words are text, not JSON, and values that are text are printed as they are");
}

Result<int> run_action(const Invocation& invocation, const StoreFlags& flags, std::span<const Action> actions) {
  const auto words = invocation.all_words();
  if (words.size() < 2) throw UsageError(words.empty() ? "which object?" : "do what with '" + words[0] + "'?");
  const auto action = std::find_if(actions.begin(), actions.end(), [&](const Action& a) { return a.name == words[1]; });
  if (action == actions.end()) throw UsageError("there is no action '" + words[1] + "' here");
  const std::span rest{words.begin() + 2, words.end()};
  if (rest.size() < action->least || rest.size() > action->most)
    throw UsageError(fmt::format("want: {} {}", action->name, action->words));
  const auto client = connect(invocation.globals, action->makes ? Autostart::yes : Autostart::no);
  if (!client) return client.error();
  auto options = flags.options;
  if (!action->makes) options.create = ObjectOptions::Create::never;
  return action->run({*client, invocation, words[0], rest, std::move(options), flags});
}

std::span<const std::string_view> action_names(std::string_view command) {
  if (command == "dict") return kDictNames;
  if (command == "list") return kListNames;
  if (command == "value") return kValueNames;
  if (command == "queue") return kQueueNames;
  if (command == "event") return kEventNames;
  return {};
}

Result<std::string> render_value(const Body& value, Format format) {
  auto text = render({value.encoding(), value.bytes(), value.count()}, format);
  if (text && is_array(value.encoding()) && value.count() == 1) *text = text->substr(1, text->size() - 2);
  return text;
}

Result<int> print_line(const std::string& text) {
  if (auto printed = print(text + "\n"); !printed) return printed.error();
  return kDone;
}

Result<int> print_value(const Result<std::optional<Body>>& value, Format format, const std::string& missing) {
  if (!value) return value.error();
  if (!*value) return fail(Errc::unknown_key, missing);
  const auto text = render_value(**value, format);
  if (!text) return text.error();
  return print_line(*text);
}

Result<int> print_values(const std::vector<Body>& values, const ActionCall& call) {
  std::string out = call.json() ? "[" : "";
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto text = render_value(values[i], call.json() ? Format::json : call.flags.format);
    if (!text) return text.error();
    if (call.json() && i > 0) out += ", ";
    out += *text;
    if (!call.json()) out += '\n';
  }
  if (call.json()) out += "]\n";
  if (auto printed = print(out); !printed) return printed.error();
  return kDone;
}

Result<int> print_changes(const Result<Watch>& watch, const ActionCall& call) {
  if (!watch) return watch.error();
  auto& changes = const_cast<Watch&>(*watch);
  for (;;) {
    const auto change = changes.next();
    if (!change) return change.error();
    std::string line;
    const auto key = change->key ? store::key_to_json(change->key->view()) : json{};
    if (call.json()) {
      json fields{{"kind", name(change->kind)}, {"version", change->version}};
      if (change->key) fields["key"] = key;
      line = fields.dump();
    } else {
      line = std::string{name(change->kind)};
      if (change->key) line += " " + printable(key_text(key, call.flags.format));
    }
    if (auto printed = print_line(line); !printed) return printed.error();
    if (change->kind == Change::Kind::removed) return kDone;
  }
}

}  // namespace taskpool::cli
