#include <fmt/format.h>
#include <grp.h>

#include <array>
#include <cstdlib>

#include "client/cli/rows.hpp"
#include "client/cli/store_words.hpp"

/// The commands about objects of any type.
namespace taskpool::cli {
namespace {

using nlohmann::json;

constexpr std::array kObjectFields{Field{"NAME", "name"},
                                   Field{"TYPE", "type"},
                                   Field{"ENTRIES", "entries", Shows::number},
                                   Field{"BYTES", "bytes", Shows::bytes},
                                   Field{"OWNER", "owner"},
                                   Field{"SESSIONS", "opened_by"},
                                   Field{"OBJECT", "object"}};
constexpr std::array kUsageFields{Field{"WHOSE", "owner"}, Field{"BYTES", "bytes", Shows::bytes},
                                  Field{"BOUND", "bound_bytes", Shows::bytes},
                                  Field{"OBJECTS", "objects", Shows::number}};
constexpr std::array kLockFields{Field{"NAME", "name"}, Field{"TYPE", "type"}, Field{"WHO", "who"},
                                 Field{"DOES", "does"}, Field{"SINCE", "since_ms", Shows::time}};

std::string group_name(const std::string& gid) {
  const auto* const group = ::getgrgid(static_cast<gid_t>(std::strtoul(gid.c_str(), nullptr, 10)));
  return "group " + (group != nullptr ? std::string{group->gr_name} : gid);
}

/// Adds what people want to see to the daemon's rows.
void explain_objects(json& reply) {
  for (auto& row : reply["objects"]) {
    const auto group = row.value("group", "");
    row["owner"] = group.empty() ? user_name(row.value("uid", std::uint64_t{0})) : group_name(group);
    std::string sessions;
    for (const auto& session : row.value("sessions", json::array()))
      sessions += (sessions.empty() ? "" : " ") + session.dump();
    row["opened_by"] = sessions;
  }
}

/// One line for each segment, and below a group's one for each of its writers.
json usage_lines(const json& reply) {
  auto lines = json::array();
  for (const auto& segment : reply.value("segments", json::array())) {
    auto line = segment;
    const auto group = segment.value("group", "");
    line["owner"] = group.empty() ? user_name(segment.value("uid", std::uint64_t{0})) : group_name(group);
    lines.push_back(line);
    for (const auto& writer : segment.value("writers", json::array()))
      lines.push_back({{"owner", "  " + user_name(writer.value("uid", std::uint64_t{0}))},
                       {"bytes", writer.value("bytes", std::uint64_t{0})},
                       {"bound_bytes", writer.value("bound_bytes", std::uint64_t{0})}});
  }
  return lines;
}

/// One line for each holder and each waiter.
json lock_lines(const json& reply) {
  auto lines = json::array();
  for (const auto& row : reply.value("locks", json::array())) {
    const auto name = row.value("name", "");
    const auto add = [&](const json& who, const std::string& does) {
      lines.push_back({{"name", name.empty() ? row.value("object", "") : name},
                       {"type", row.value("type", "")},
                       {"who", fmt::format("session {} thread {}", who.value("session", 0), who.value("thread", 0))},
                       {"does", does},
                       {"since_ms", who.value("since_ms", std::uint64_t{0})}});
    };
    for (const auto& holder : row.value("holders", json::array())) {
      const auto depth = holder.value("depth", 1);
      add(holder, depth > 1 ? fmt::format("holds x{}", depth) : "holds");
    }
    for (const auto& waiter : row.value("waiters", json::array())) {
      const auto what = waiter.value("for", "");
      add(waiter, what.empty() ? "waits" : "waits: " + what);
    }
  }
  return lines;
}

/// The row of the object of that name.
Result<json> find_object(const Client& client, const std::string& name, const std::string& group) {
  ObjectsOptions options;
  options.name = name;
  options.group = group;
  auto reply = client.objects(options);
  if (!reply) return reply.error();
  const auto rows = reply->find("objects");
  if (rows == reply->end() || rows->empty()) return fail(Errc::unknown_object, "there is no object " + name);
  return rows->front();
}

}  // namespace

Run define_objects(CLI::App& app) {
  const auto options = std::make_shared<ObjectsOptions>();
  app.add_option("-t,--type", options->type, "Of this type only: dict, list, lock, ...")->type_name("TYPE");
  app.add_option("-g,--group", options->group, "Those that this Unix group shares")->type_name("GROUP");
  app.add_option("--after", options->after, "Those made after this one, as OBJECT names it")->type_name("OBJECT");
  app.add_option("--limit", options->limit, "At most N rows (100)")->type_name("N")->check(CLI::Range(1u, kMaxRows));
  const auto usage = std::make_shared<bool>(false);
  app.add_flag("-u,--usage", *usage, "Instead: how full the store is, and who has how much of a group's");
  return [options, usage](const Invocation& invocation) -> Result<int> {
    invocation.expect_words(0, *usage ? 0 : 1);
    if (*usage) options->limit = 1;
    if (!invocation.words.empty()) options->name = invocation.words[0];
    const auto client = connect(invocation.globals, Autostart::no);
    if (!client) return client.error();
    auto reply = client->objects(*options);
    if (reply && *usage) {
      *reply = {{"segments", invocation.globals.json ? (*reply)["segments"] : usage_lines(*reply)}};
      return show_rows(invocation, reply, "segments", kUsageFields);
    }
    if (reply && !invocation.globals.json) explain_objects(*reply);
    return show_rows(invocation, reply, "objects", kObjectFields);
  };
}

Run define_locks(CLI::App& app) {
  const auto group = std::make_shared<std::string>();
  app.add_option("-g,--group", *group, "Those that this Unix group shares")->type_name("GROUP");
  return [group](const Invocation& invocation) -> Result<int> {
    invocation.expect_words(0, 1);
    const auto client = connect(invocation.globals, Autostart::no);
    if (!client) return client.error();
    auto reply = client->locks(invocation.words.empty() ? "" : invocation.words[0], *group, kMaxRows);
    if (reply && !invocation.globals.json) *reply = {{"locks", lock_lines(*reply)}};
    return show_rows(invocation, reply, "locks", kLockFields);
  };
}

Run define_watch(CLI::App& app) {
  const auto flags = std::make_shared<StoreFlags>();
  flags->define(app);
  return [flags](const Invocation& invocation) -> Result<int> {
    invocation.expect_words(1, 2);
    const auto& name = invocation.words[0];
    const auto client = connect(invocation.globals, Autostart::no);
    if (!client) return client.error();
    const auto row = find_object(*client, name, flags->options.group);
    if (!row) return row.error();
    const auto object = client->open<Entries>(ObjectRef{row->value("object", "")});
    if (!object) return object.error();
    const ActionCall call{*client, invocation, name, {}, {}, *flags};
    if (invocation.words.size() == 1) return print_changes(object->watch(), call);
    const auto key = parse_word(invocation.words[1], flags->format);
    if (!key) return key.error();
    return print_changes(object->watch(*key), call);
  };
}

Run define_remove(CLI::App& app) {
  const auto group = std::make_shared<std::string>();
  app.add_option("-g,--group", *group, "Those that this Unix group shares")->type_name("GROUP");
  return [group](const Invocation& invocation) -> Result<int> {
    invocation.expect_words(1, kMaxRows);
    const auto client = connect(invocation.globals, Autostart::no);
    if (!client) return client.error();
    int code = kDone;
    for (const auto& name : invocation.words) {
      const auto row = find_object(*client, name, *group);
      const auto object =
          row ? client->open<Entries>(ObjectRef{row->value("object", "")}) : Result<Entries>{row.error()};
      const auto removed = object ? object->remove() : Result<void>{object.error()};
      if (removed) continue;
      complain(removed.error());
      code = exit_code(removed.error());
    }
    return code;
  };
}

}  // namespace taskpool::cli
