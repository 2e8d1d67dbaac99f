#include "proto/fields.hpp"

#include <utility>

namespace taskpool {
namespace {

/// True if no value lies deeper than kMaxJsonDepth. Reads brackets only, so it may be wrong about what is no JSON
/// anyway.
bool is_shallow(std::string_view text) {
  std::size_t depth = 0;
  bool quoted = false;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (quoted) {
      if (c == '\\') ++at;
      if (c == '"') quoted = false;
    } else if (c == '"') {
      quoted = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kMaxJsonDepth) return false;
    } else if ((c == ']' || c == '}') && depth > 0) {
      --depth;
    }
  }
  return true;
}

std::string above(std::uint64_t limit) { return "above " + std::to_string(limit); }
std::string longer(std::size_t limit) { return "longer than " + std::to_string(limit) + " bytes"; }

}  // namespace

std::optional<Json> parse_json(std::string_view text) {
  if (!is_shallow(text)) return std::nullopt;
  auto value = Json::parse(text, nullptr, false);
  if (value.is_discarded()) return std::nullopt;
  return value;
}

std::string dump_json(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

Fields::Fields(std::string_view head) {
  if (head.empty()) return;
  auto parsed = parse_json(head);
  if (parsed && parsed->is_object())
    object_ = std::move(*parsed);
  else
    error_ = fail(Errc::bad_message, "head: not a JSON object");
}

Fields::Fields(Json object) {
  if (object.is_object())
    object_ = std::move(object);
  else
    error_ = fail(Errc::bad_message, "not a JSON object");
}

Json* Fields::find(const char* key) {
  if (error_ || !object_.is_object()) return nullptr;
  const auto found = object_.find(key);
  return found == object_.end() ? nullptr : &*found;
}

std::optional<Json> Fields::take(const char* key) {
  Json* const field = find(key);
  if (field == nullptr) return std::nullopt;
  return std::exchange(*field, Json(Json::value_t::discarded));
}

void Fields::text(const char* key, std::string& into, std::size_t max_bytes) {
  auto field = take(key);
  if (!field) return;
  if (!field->is_string()) return reject(key, "want a text");
  auto& text = field->get_ref<std::string&>();
  if (text.size() > max_bytes) return reject(key, longer(max_bytes));
  into = std::move(text);
}

void Fields::integer(const char* key, std::uint64_t& into, std::uint64_t max) {
  const auto field = take(key);
  if (!field) return;
  if (!field->is_number_unsigned()) return reject(key, "want an integer >= 0");
  const auto value = field->get<std::uint64_t>();
  if (value > max) return reject(key, above(max));
  into = value;
}

void Fields::integer(const char* key, std::uint32_t& into, std::uint32_t max) {
  std::uint64_t value = into;
  integer(key, value, std::uint64_t{max});
  into = static_cast<std::uint32_t>(value);
}

void Fields::integer(const char* key, std::int64_t& into) {
  const auto field = take(key);
  if (!field) return;
  if (!field->is_number_integer()) return reject(key, "want an integer");
  if (field->is_number_unsigned() && field->get<std::uint64_t>() > INT64_MAX) return reject(key, above(INT64_MAX));
  into = field->get<std::int64_t>();
}

void Fields::integer(const char* key, int& into, int min, int max) {
  std::int64_t value = into;
  integer(key, value);
  if (value < min || value > max)
    return reject(key, "want an integer from " + std::to_string(min) + " to " + std::to_string(max));
  into = static_cast<int>(value);
}

void Fields::number(const char* key, double& into) {
  const auto field = take(key);
  if (!field) return;
  if (!field->is_number()) return reject(key, "want a number");
  into = field->get<double>();
}

void Fields::boolean(const char* key, bool& into) {
  const auto field = take(key);
  if (!field) return;
  if (!field->is_boolean()) return reject(key, "want true or false");
  into = field->get<bool>();
}

void Fields::texts(const char* key, std::vector<std::string>& into, std::size_t max_count, std::size_t max_bytes) {
  auto field = take(key);
  if (!field) return;
  if (!field->is_array()) return reject(key, "want a list of texts");
  if (field->size() > max_count) return reject(key, "more than " + std::to_string(max_count));
  into.clear();
  for (auto& element : *field) {
    if (!element.is_string()) return reject(key, "want a list of texts");
    auto& text = element.get_ref<std::string&>();
    if (text.size() > max_bytes) return reject(key, longer(max_bytes));
    into.push_back(std::move(text));
  }
}

void Fields::text_map(const char* key, std::map<std::string, std::string>& into, std::size_t max_count,
                      std::size_t max_bytes) {
  auto field = take(key);
  if (!field) return;
  if (!field->is_object()) return reject(key, "want an object of texts");
  if (field->size() > max_count) return reject(key, "more than " + std::to_string(max_count));
  into.clear();
  for (auto& [name, value] : field->get_ref<Json::object_t&>()) {
    if (!value.is_string()) return reject(key, "want an object of texts");
    auto& text = value.get_ref<std::string&>();
    if (name.size() > max_bytes || text.size() > max_bytes) return reject(key, longer(max_bytes));
    into.emplace(name, std::move(text));
  }
}

void Fields::raw(const char* key, std::string& into, Json::value_t kind) {
  const auto field = take(key);
  if (!field) return;
  if (field->type() != kind) return reject(key, std::string{"want an "} + Json(kind).type_name());
  into = dump_json(*field);
}

std::optional<Fields> Fields::object(const char* key) {
  auto field = take(key);
  if (!field) return std::nullopt;
  return Fields{std::move(*field)};
}

std::vector<Fields> Fields::objects(const char* key, std::size_t max_count) {
  std::vector<Fields> all;
  auto field = take(key);
  if (!field) return all;
  if (!field->is_array())
    reject(key, "want a list of objects");
  else if (field->size() > max_count)
    reject(key, "more than " + std::to_string(max_count));
  else
    for (auto& element : *field) all.emplace_back(std::move(element));
  return all;
}

void Fields::join(const char* key, const Result<void>& inner) {
  if (!inner) reject(key, inner.error().detail);
}

void Fields::require(const char* key) {
  if (find(key) == nullptr) reject(key, "missing");
}

void Fields::reject(const char* key, std::string why) {
  if (!error_) error_ = fail(Errc::bad_message, std::string{key} + ": " + std::move(why));
}

Result<void> Fields::finish(bool strict) {
  if (strict && object_.is_object())
    for (const auto& [key, value] : object_.get_ref<const Json::object_t&>())
      if (!value.is_discarded()) reject(key.c_str(), "unknown field");
  if (error_) return *error_;
  return {};
}

}  // namespace taskpool
