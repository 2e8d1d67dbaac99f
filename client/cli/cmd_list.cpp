#include <fmt/format.h>

#include <array>
#include <memory>

#include "client/cli/rows.hpp"

/// The commands that show one of the daemon's tables.
namespace taskpool::cli {
namespace {

using nlohmann::json;

/// The word, or "" without one.
std::string only_word(const Invocation& invocation) {
  invocation.expect_words(0, 1);
  return invocation.words.empty() ? "" : invocation.words.front();
}

constexpr std::array kPsFields{Field{"TASK", "task"},
                               Field{"STATE", "state"},
                               Field{"POOL", "pool"},
                               Field{"OWNER", "uid", Shows::user},
                               Field{"DONE", "", Shows::progress},
                               Field{"FAILED", "failed", Shows::number},
                               Field{"RUN", "run_ms", Shows::time},
                               Field{"AGE", "age_ms", Shows::time},
                               Field{"NAME", "name"}};
constexpr std::array kWorkerFields{Field{"WORKER", "worker", Shows::number},
                                   Field{"PID", "pid", Shows::number},
                                   Field{"POOL", "pool"},
                                   Field{"STATE", "state"},
                                   Field{"DONE", "tasks_done", Shows::number},
                                   Field{"RSS", "rss_bytes", Shows::bytes},
                                   Field{"AGE", "age_ms", Shows::time},
                                   Field{"RUN", "run_ms", Shows::time},
                                   Field{"FOR", "uid", Shows::user},
                                   Field{"TASK", "task"},
                                   Field{"FUNCTION", "function"}};
constexpr std::array kPoolFields{Field{"POOL", "pool"},
                                 Field{"RUNTIME", "runtime"},
                                 Field{"WORKERS", "workers", Shows::number},
                                 Field{"BUSY", "busy", Shows::number},
                                 Field{"IDLE", "idle", Shows::number},
                                 Field{"QUEUED", "queued_tasks", Shows::number},
                                 Field{"RUNNING", "running_tasks", Shows::number},
                                 Field{"PAUSED", "paused"},
                                 Field{"DRAINING", "draining"},
                                 Field{"OWNER", "uid", Shows::user},
                                 Field{"LAST ERROR", "last_error"}};
constexpr std::array kFunctionFields{Field{"FUNCTION", "name"}, Field{"SIGNATURE", "signature"},
                                     Field{"WHAT IT DOES", "doc"}};
constexpr std::array kFailureFields{
    Field{"TASK", "task"},         Field{"ITEM", "index", Shows::number},           Field{"POOL", "pool"},
    Field{"FUNCTION", "function"}, Field{"ENDED AGO", "ended_ms_ago", Shows::time}, Field{"CODE", "code"},
    Field{"DETAIL", "detail"}};
constexpr std::array kStatFields{Field{"COUNTER", "name"}, Field{"VALUE", "value", Shows::number},
                                 Field{"UNIT", "unit"}, Field{"MEANING", "help"}};

constexpr std::array kQuotaFields{Field{"QUOTA", "name"}, Field{"USED", "used", Shows::number},
                                  Field{"LIMIT", "limit", Shows::number}, Field{"RULE", "rule"}};
constexpr std::array kUserFields{Field{"USER", "uid", Shows::user},
                                 Field{"SESSIONS", "sessions", Shows::number},
                                 Field{"QUEUED", "queued_tasks", Shows::number},
                                 Field{"BYTES", "queued_bytes", Shows::bytes},
                                 Field{"SLOTS", "running_slots", Shows::number},
                                 Field{"STORE", "store_bytes", Shows::bytes}};

/// Who the daemon takes this user for, in words.
std::string introduce(const json& reply, const std::string& socket) {
  const auto uid = reply.value("uid", std::uint64_t{0});
  auto groups = group_name(reply.value("gid", std::uint64_t{0}));
  for (const auto& gid : reply.value("groups", json::array()))
    if (const auto name = group_name(gid.get<std::uint64_t>()); gid != reply.value("gid", json())) groups += " " + name;
  return fmt::format("user {} (uid {}), groups {}\nrole {} on the {}socket {}{}\n", user_name(uid), uid, groups,
                     reply.value("role", "user"), reply.value("socket", "") == "admin" ? "admin " : "",
                     printable(socket), reply.value("trusted", false) ? ", pickles are taken" : "");
}

}  // namespace

Run define_whoami(CLI::App& app) {
  auto all = std::make_shared<bool>(false);
  app.add_flag("-a,--all", *all, "What each user has, instead; for operators and admins");
  return [all](const Invocation& invocation) -> Result<int> {
    invocation.expect_words(0, 0);
    const auto client = connect(invocation.globals, Autostart::no);
    if (!client) return client.error();
    const auto reply = client->whoami(*all);
    if (*all) return show_rows(invocation, reply, "users", kUserFields);
    if (reply && !invocation.globals.json)
      if (auto printed = print(introduce(*reply, client->server().socket)); !printed) return printed.error();
    return show_rows(invocation, reply, "quotas", kQuotaFields);
  };
}

Run define_ps(CLI::App& app) {
  auto options = std::make_shared<PsOptions>();
  app.add_flag("-a,--all", options->all, "Other users' tasks as well");
  app.add_option("-p,--pool", options->pool, "Of this pool only")->type_name("POOL");
  app.add_option("--state", options->state, "In this state only: waiting, queued, running, ...")->type_name("STATE");
  app.add_option("--limit", options->limit, "At most N rows (100)")->type_name("N")->check(CLI::Range(1u, kMaxRows));
  return [options](const Invocation& invocation) -> Result<int> {
    options->task = only_word(invocation);
    const auto client = connect(invocation.globals, Autostart::no);
    if (!client) return client.error();
    const auto reply = client->ps(*options);
    const auto shown = show_rows(invocation, reply, "tasks", kPsFields);
    if (shown && options->all && !invocation.globals.quiet && reply->value("visible", "all") == "own")
      complain("these are your own: seeing others' tasks takes the role 'operator'");
    return shown;
  };
}

Run define_workers(CLI::App&) {
  return [](const Invocation& invocation) -> Result<int> {
    const auto pool = only_word(invocation);
    const auto client = connect(invocation.globals, Autostart::no);
    if (!client) return client.error();
    return show_rows(invocation, client->workers(pool), "workers", kWorkerFields);
  };
}

Run define_pools(CLI::App&) {
  return [](const Invocation& invocation) -> Result<int> {
    invocation.expect_words(0, 0);
    const auto client = connect(invocation.globals, Autostart::no);
    if (!client) return client.error();
    return show_rows(invocation, client->pools(), "pools", kPoolFields);
  };
}

Run define_functions(CLI::App&) {
  return [](const Invocation& invocation) -> Result<int> {
    const auto pool = only_word(invocation);
    const auto client = connect(invocation.globals, Autostart::yes);
    if (!client) return client.error();
    return show_rows(invocation, client->functions(pool), "functions", kFunctionFields);
  };
}

Run define_failures(CLI::App& app) {
  auto limit = std::make_shared<std::uint32_t>(100);
  app.add_option("--limit", *limit, "At most N rows (100)")->type_name("N")->check(CLI::Range(1u, kMaxRows));
  return [limit](const Invocation& invocation) -> Result<int> {
    invocation.expect_words(0, 0);
    const auto client = connect(invocation.globals, Autostart::no);
    if (!client) return client.error();
    return show_rows(invocation, client->failures(*limit), "failures", kFailureFields);
  };
}

Run define_stats(CLI::App&) {
  return [](const Invocation& invocation) -> Result<int> {
    invocation.expect_words(0, 0);
    const auto client = connect(invocation.globals, Autostart::no);
    if (!client) return client.error();
    const auto reply = client->stats();
    if (reply && !invocation.globals.json) {
      const std::chrono::milliseconds uptime{reply->value("uptime_ms", std::int64_t{0})};
      const auto head =
          fmt::format("taskpoold {} pid {} of {} {} for {}, listening on {}\n", reply->value("version", "?"),
                      reply->value("pid", 0), user_name(reply->value("uid", std::uint64_t{0})),
                      reply->value("state", "up"), human_duration(uptime), printable(reply->value("socket", "?")));
      if (auto printed = print(head); !printed) return printed.error();
    }
    return show_rows(invocation, reply, "counters", kStatFields);
  };
}

}  // namespace taskpool::cli
