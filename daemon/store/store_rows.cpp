#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "daemon/store/store.hpp"

/// What `objects` and `locks` show.
namespace taskpool::store {
namespace {

using Json = nlohmann::json;

std::string group_text(DomainKey key) { return key.is_group ? std::to_string(key.number) : ""; }

std::string_view what(Code code) {
  const auto* const info = find_operation(static_cast<std::uint16_t>(code));
  return info == nullptr ? std::string_view{} : info->name;
}

Json describe(Object& object) {
  ObjectStat stat;
  (void)object.home->domain().reader().stat({object.offset, object.id, object.type}, stat);
  auto sessions = Json::array();
  for (const auto& [client, times] : object.openers) sessions.push_back(client->state.number);
  return {{"object", object_text(object.home->key(), object.id)},
          {"name", object.name},
          {"type", name(object.type)},
          {"group", group_text(object.home->key())},
          {"uid", object.uid},
          {"entries", stat.count},
          {"bytes", stat.bytes},
          {"version", stat.version},
          {"created", stat.created},
          {"sessions", std::move(sessions)}};
}

}  // namespace

Result<Json> Store::list(Client& client, const ObjectsRequest& request) {
  std::optional<DomainKey> only;
  if (!request.group.empty()) {
    const auto key = domain_for(client, request.group);
    if (!key) return key.error();
    only = *key;
  }
  const auto type = find_object_type(request.type);
  if (!request.type.empty() && !type) return fail(Errc::bad_argument, "type: unknown");
  const auto after = parse_object_text(request.after);
  if (!request.after.empty() && !after) return fail(Errc::bad_argument, "after: not an object's id");
  auto rows = Json::array();
  bool more = false;
  for (const auto& [key, home] : homes_) {
    if (!may_see(client, key) || (only && *only != key)) continue;
    if (after && key < after->first) continue;
    const auto& objects = home->objects();
    auto next = after && key == after->first ? objects.upper_bound(after->second) : objects.begin();
    for (; next != objects.end(); ++next) {
      auto& object = *next->second;
      if ((type && object.type != *type) || (!request.name.empty() && object.name != request.name)) continue;
      if (rows.size() == request.limit) {
        more = true;
        break;
      }
      rows.push_back(describe(object));
    }
  }
  return Json{{"objects", std::move(rows)}, {"more", more}};
}

Result<Json> Store::locks(Client& client, const LocksRequest& request) {
  std::optional<DomainKey> only;
  if (!request.group.empty()) {
    const auto key = domain_for(client, request.group);
    if (!key) return key.error();
    only = *key;
  }
  auto rows = Json::array();
  const auto now = unix_ms();
  for (const auto& [key, home] : homes_) {
    if (!may_see(client, key) || (only && *only != key)) continue;
    std::map<ObjectId, std::pair<Json, Json>> found;  // by object: holders and waiters
    const auto party = [&, kept = home.get()](const Owner& owner, std::uint64_t since_ms) {
      const auto* const session = kept->client_of(owner.session);
      Json row{{"thread", owner.thread}, {"since_ms", since_ms == 0 || since_ms > now ? 0 : now - since_ms}};
      row["session"] = session == nullptr ? Json() : Json(session->state.number);  // null: it has not resumed yet
      return row;
    };
    for (const auto& holding : home->sync().holdings()) {
      auto row = party(holding.owner, holding.since_ms);
      row["depth"] = holding.depth;
      found[holding.object].first.push_back(std::move(row));
    }
    for (const auto& waiting : home->sync().waiting()) {
      auto row = party(waiting.owner, waiting.since_ms);
      row["for"] = what(waiting.code);
      found[waiting.object].second.push_back(std::move(row));
    }
    for (auto& [id, parties] : found) {
      const auto object = home->find(id);
      if (!object || (!request.name.empty() && object->name != request.name)) continue;
      if (rows.size() == request.limit) break;
      rows.push_back({{"object", object_text(key, id)},
                      {"name", object->name},
                      {"type", name(object->type)},
                      {"holders", parties.first.is_null() ? Json::array() : std::move(parties.first)},
                      {"waiters", parties.second.is_null() ? Json::array() : std::move(parties.second)}});
    }
  }
  return Json{{"locks", std::move(rows)}};
}

}  // namespace taskpool::store
