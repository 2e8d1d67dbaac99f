#include <fmt/format.h>

#include <array>

#include "client/cli/store_words.hpp"

/// The actions of `taskpool dict`.
namespace taskpool::cli {
namespace dict_actions {
namespace {

using nlohmann::json;

struct DictFlags : StoreFlags {
  std::chrono::milliseconds ttl{0};  ///< 0: for ever.
  bool absent = false;
};

Result<Entries> open(const ActionCall& call) { return call.client.dict<json, Body>(call.name, call.options); }

Entries::Ttl ttl_of(const ActionCall& call) {
  const auto ttl = static_cast<const DictFlags&>(call.flags).ttl;
  return ttl.count() > 0 ? Entries::Ttl{ttl} : std::nullopt;
}

std::string missing(const ActionCall& call, std::size_t word = 0) {
  return fmt::format("dict {} has no entry {}", call.name, call.words[word]);
}

Result<int> get(const ActionCall& call) {
  const auto key = parse_word(call.words[0], call.flags.format);
  if (!key) return key.error();
  const auto dict = open(call);
  if (!dict) return dict.error();
  return print_value(dict->get(*key), call.flags.format, missing(call));
}

/// Several entries are set as one.
Result<int> set(const ActionCall& call) {
  if (call.words.size() % 2 != 0) throw UsageError("want: set KEY VALUE [KEY VALUE]...");
  const auto ttl = ttl_of(call);
  if (ttl && call.words.size() > 2) throw UsageError("--ttl is for one entry");
  const auto dict = open(call);
  if (!dict) return dict.error();
  auto batch = call.client.batch();
  for (std::size_t i = 0; i < call.words.size(); i += 2) {
    const auto key = parse_word(call.words[i], call.flags.format);
    if (!key) return key.error();
    const auto value = value_of(call.words[i + 1], call.flags.format);
    if (!value) return value.error();
    if (call.words.size() == 2) return finished(dict->set(*key, *value, ttl));
    batch.set(*dict, *key, *value);
  }
  return finished(batch.commit());
}

Result<int> erase(const ActionCall& call) {
  const auto dict = open(call);
  if (!dict) return dict.error();
  std::uint64_t deleted = 0;
  for (const auto& word : call.words) {
    const auto key = parse_word(word, call.flags.format);
    if (!key) return key.error();
    const auto done = dict->erase(*key);
    if (!done) return done.error();
    deleted += *done ? 1 : 0;
  }
  if (call.invocation.globals.quiet) return kDone;
  return print_line(call.json() ? json{{"deleted", deleted}}.dump() : fmt::format("deleted {}", deleted));
}

Result<int> has(const ActionCall& call) {
  const auto key = parse_word(call.words[0], call.flags.format);
  if (!key) return key.error();
  const auto dict = open(call);
  if (!dict) return dict.error();
  return finished_if(dict->contains(*key));
}

Result<int> pop(const ActionCall& call) {
  const auto dict = open(call);
  if (!dict) return dict.error();
  if (call.words.empty()) {
    const auto item = dict->pop_item();
    if (!item) return item.error();
    if (!*item) return fail(Errc::unknown_key, fmt::format("dict {} is empty", call.name));
    const auto& [key, value] = **item;
    const auto text = render_value(value, call.flags.format);
    if (!text) return text.error();
    return print_line(key_text(key, call.flags.format) + "\t" + *text);
  }
  const auto key = parse_word(call.words[0], call.flags.format);
  if (!key) return key.error();
  return print_value(dict->pop(*key), call.flags.format, missing(call));
}

/// The sum is printed.
Result<int> incr(const ActionCall& call) {
  const auto key = parse_word(call.words[0], call.flags.format);
  if (!key) return key.error();
  const auto by = value_of(call.words.size() > 1 ? call.words[1] : "1", Format::json);
  if (!by) return by.error();
  const auto dict = open(call);
  if (!dict) return dict.error();
  auto batch = call.client.batch();
  auto sums = batch.incr(*dict, *key, *by).commit();
  if (!sums) return sums.error();
  auto sum = sums->get<Body>(0);
  if (!sum) return sum.error();
  return print_value(std::optional{std::move(*sum)}, call.flags.format, "");
}

/// --absent KEY VALUE, or KEY EXPECTED VALUE. Exit code 1: it was something else.
Result<int> compare_and_set(const ActionCall& call) {
  const bool absent = static_cast<const DictFlags&>(call.flags).absent;
  if (call.words.size() != (absent ? 2 : 3))
    throw UsageError("want: cas KEY EXPECTED VALUE, or cas --absent KEY VALUE");
  const auto key = parse_word(call.words[0], call.flags.format);
  if (!key) return key.error();
  std::optional<Body> expected;
  if (!absent) {
    auto value = value_of(call.words[1], call.flags.format);
    if (!value) return value.error();
    expected = std::move(*value);
  }
  const auto value = value_of(call.words.back(), call.flags.format);
  if (!value) return value.error();
  const auto dict = open(call);
  if (!dict) return dict.error();
  return finished_if(dict->compare_and_set(*key, expected, *value));
}

Result<int> get_or_set(const ActionCall& call) {
  const auto key = parse_word(call.words[0], call.flags.format);
  if (!key) return key.error();
  const auto value = value_of(call.words[1], call.flags.format);
  if (!value) return value.error();
  const auto dict = open(call);
  if (!dict) return dict.error();
  auto now = dict->get_or_set(*key, *value, ttl_of(call));
  if (!now) return now.error();
  return print_value(std::optional{std::move(*now)}, call.flags.format, "");
}

Result<int> expire(const ActionCall& call) {
  const auto key = parse_word(call.words[0], call.flags.format);
  if (!key) return key.error();
  const auto time = parse_duration(call.words[1]);
  if (!time) throw UsageError(time.error().detail);
  const auto dict = open(call);
  if (!dict) return dict.error();
  const auto found = dict->expire(*key, time->count() > 0 ? Entries::Ttl{*time} : std::nullopt);
  if (!found) return found.error();
  if (!*found) return fail(Errc::unknown_key, missing(call));
  return kDone;
}

Result<int> keys(const ActionCall& call) {
  const auto dict = open(call);
  if (!dict) return dict.error();
  const auto all = dict->keys();
  if (!all) return all.error();
  if (call.json()) return print_line(json(*all).dump());
  std::string out;
  for (const auto& key : *all) out += key_text(key, call.flags.format) + "\n";
  if (auto printed = print(out); !printed) return printed.error();
  return kDone;
}

Result<int> values(const ActionCall& call) {
  const auto dict = open(call);
  if (!dict) return dict.error();
  const auto all = dict->values();
  if (!all) return all.error();
  return print_values(*all, call);
}

Result<int> items(const ActionCall& call) {
  const auto dict = open(call);
  if (!dict) return dict.error();
  const auto all = dict->items();
  if (!all) return all.error();
  std::string out = call.json() ? "[" : "";
  for (const auto& [key, value] : *all) {
    const auto text = render_value(value, call.json() ? Format::json : call.flags.format);
    if (!text) return text.error();
    if (call.json())
      out += fmt::format("{}[{}, {}]", out.size() > 1 ? ", " : "", key.dump(), *text);
    else
      out += fmt::format("{}\t{}\n", key_text(key, call.flags.format), *text);
  }
  if (call.json()) out += "]\n";
  if (auto printed = print(out); !printed) return printed.error();
  return kDone;
}

Result<int> length(const ActionCall& call) {
  const auto dict = open(call);
  if (!dict) return dict.error();
  const auto size = dict->size();
  if (!size) return size.error();
  return print_line(std::to_string(*size));
}

Result<int> clear(const ActionCall& call) {
  const auto dict = open(call);
  if (!dict) return dict.error();
  return finished(dict->clear());
}

Result<int> watch(const ActionCall& call) {
  const auto dict = open(call);
  if (!dict) return dict.error();
  if (call.words.empty()) return print_changes(dict->watch(), call);
  const auto key = parse_word(call.words[0], call.flags.format);
  if (!key) return key.error();
  return print_changes(dict->watch(*key), call);
}

const std::array kActions{Action{"get", "KEY", 1, 1, false, get},
                          Action{"set", "KEY VALUE [KEY VALUE]...", 2, kManyWords, true, set},
                          Action{"del", "KEY...", 1, kManyWords, false, erase},
                          Action{"has", "KEY", 1, 1, false, has},
                          Action{"pop", "[KEY]", 0, 1, false, pop},
                          Action{"incr", "KEY [BY]", 1, 2, true, incr},
                          Action{"cas", "KEY EXPECTED VALUE", 2, 3, true, compare_and_set},
                          Action{"default", "KEY VALUE", 2, 2, true, get_or_set},
                          Action{"expire", "KEY TIME", 2, 2, false, expire},
                          Action{"keys", "", 0, 0, false, keys},
                          Action{"values", "", 0, 0, false, values},
                          Action{"items", "", 0, 0, false, items},
                          Action{"len", "", 0, 0, false, length},
                          Action{"clear", "", 0, 0, false, clear},
                          Action{"watch", "[KEY]", 0, 1, true, watch}};

}  // namespace
}  // namespace dict_actions

Run define_dict(CLI::App& app) {
  using dict_actions::DictFlags;
  const auto flags = std::make_shared<DictFlags>();
  flags->define(app);
  add_duration(
      app, "--ttl", [flags](auto time) { flags->ttl = time; }, "set, default: the entry is gone after this time");
  app.add_flag("--absent", flags->absent, "cas: only if there is no such entry");
  return [flags](const Invocation& invocation) { return run_action(invocation, *flags, dict_actions::kActions); };
}

}  // namespace taskpool::cli
