#include "taskpool/stored.hpp"

#include <charconv>

namespace taskpool {
namespace {

constexpr const char* kRefMember = "$ref";

/// The number within its segment: an id ends with "-NUMBER".
std::optional<std::uint64_t> object_number(std::string_view id) {
  const auto dash = id.rfind('-');
  if (dash == std::string_view::npos) return std::nullopt;
  std::uint64_t number = 0;
  const auto* const end = id.data() + id.size();
  const auto [at, error] = std::from_chars(id.data() + dash + 1, end, number);
  if (error != std::errc{} || at != end || number == 0) return std::nullopt;
  return number;
}

/// Appends the numbers of the objects that `json` names, wherever in it.
Result<void> collect_refs(const nlohmann::json& json, std::vector<std::uint64_t>& refs) {
  if (json.is_object()) {
    if (const auto id = json.find(kRefMember); id != json.end() && json.size() == 1) {
      const auto number = id->is_string() ? object_number(id->get_ref<const std::string&>()) : std::nullopt;
      if (!number) return fail(Errc::bad_argument, "value: {\"$ref\": ...} does not name an object");
      refs.push_back(*number);
      return {};
    }
  }
  if (!json.is_structured()) return {};
  for (const auto& each : json)
    if (auto done = collect_refs(each, refs); !done) return done;
  return {};
}

}  // namespace

void to_json(nlohmann::json& json, const ObjectRef& ref) { json = {{kRefMember, ref.id}}; }

void from_json(const nlohmann::json& json, ObjectRef& ref) { json.at(kRefMember).get_to(ref.id); }

Result<void> value_detail::store_json(StoredValue& value, const nlohmann::json& json) {
  if (auto done = append_dump(value.text, json); !done) return done;
  return collect_refs(json, value.refs);
}

Result<void> EncodedKey::fits(bool fitted) {
  if (fitted) return {};
  return fail(Errc::bad_key, "key: above " + std::to_string(kMaxKeyBytes) + " bytes");
}

Result<void> EncodedKey::encode_json(const nlohmann::json& value) {
  const auto key = store::key_from_json(value);
  if (!key) return fail(Errc::bad_key, key.error().detail);
  long_ = key->bytes();
  return {};
}

Result<void> EncodedKey::set_members(std::span<const std::string> members) {
  std::vector<store::KeyView> views;
  for (const auto& each : members) views.push_back(as_bytes(each));
  return fits(buffer_.set_tuple(views));
}

}  // namespace taskpool
