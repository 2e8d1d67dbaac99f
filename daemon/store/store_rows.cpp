#include <fmt/core.h>

#include <charconv>
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

/// How full a segment is, and by whom.
Json describe(Home& home, const Config& config) {
  const auto usage = home.writer().usage();
  Json row{{"group", group_text(home.key())},
           {"bytes", usage.live_bytes},
           {"used_bytes", usage.used_bytes},
           {"bound_bytes", usage.bound_bytes},
           {"objects", home.objects().size()}};
  auto writers = Json::array();
  for (const auto& [uid, bytes] : home.writer().writers())
    writers.push_back({{"uid", uid}, {"bytes", bytes}, {"bound_bytes", config.store_max_writer_bytes}});
  if (home.key().is_group)
    row["writers"] = std::move(writers);
  else
    row["uid"] = home.key().number;
  return row;
}

/// "buffer" where `objects` names a type, and the ids of buffers are this and their number: of the daemon that made
/// them.
constexpr std::string_view kBuffer = "buffer";

std::string buffer_text(std::uint64_t number) { return fmt::format("{}-{}", kBuffer, number); }

/// The number of a buffer's id; 0 if it is none.
std::uint64_t parse_buffer_text(std::string_view text) {
  std::uint64_t number = 0;
  if (!text.starts_with(kBuffer) || text.size() < kBuffer.size() + 2 || text[kBuffer.size()] != '-') return 0;
  const auto* const end = text.data() + text.size();
  const auto [stop, failed] = std::from_chars(text.data() + kBuffer.size() + 1, end, number);
  return failed == std::errc{} && stop == end ? number : 0;
}

}  // namespace

bool Store::list_buffers(const Client& client, const ObjectsRequest& request, Json& rows) const {
  if (!request.group.empty() || (!request.type.empty() && request.type != kBuffer)) return false;
  for (const auto* const buffer : buffers_.of(client.state.uid, parse_buffer_text(request.after))) {
    if (!request.name.empty() && buffer->name != request.name) continue;
    if (rows.size() == request.limit) return true;
    auto sessions = Json::array();
    for (const auto& [session, times] : buffer->openers) sessions.push_back(session);
    rows.push_back({{"object", buffer_text(buffer->number)},
                    {"name", buffer->name},
                    {"type", kBuffer},
                    {"group", ""},
                    {"uid", buffer->uid},
                    {"entries", 0},
                    {"bytes", buffer->bytes},
                    {"version", 0},
                    {"created", buffer->created},
                    {"sessions", std::move(sessions)}});
  }
  return false;
}

Result<Json> Store::list(Client& client, const ObjectsRequest& request) {
  std::optional<DomainKey> only;
  if (!request.group.empty()) {
    const auto key = domain_for(client, request.group);
    if (!key) return key.error();
    only = *key;
  }
  auto rows = Json::array();
  if (request.type == kBuffer || parse_buffer_text(request.after) > 0) {
    const bool more = list_buffers(client, request, rows);
    return Json{{"objects", std::move(rows)}, {"more", more}};
  }
  const auto type = find_object_type(request.type);
  if (!request.type.empty() && !type) return fail(Errc::bad_argument, "type: unknown");
  const auto after = parse_object_text(request.after);
  if (!request.after.empty() && !after) return fail(Errc::bad_argument, "after: not an object's id");
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
  if (!more) more = list_buffers(client, request, rows);
  auto segments = Json::array();
  for (const auto& [key, home] : homes_)
    if (may_see(client, key) && (!only || *only == key)) segments.push_back(describe(*home, config_));
  return Json{{"objects", std::move(rows)}, {"more", more}, {"segments", std::move(segments)}};
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
      row["pid"] = session == nullptr ? Json() : Json(session->state.pid);
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
