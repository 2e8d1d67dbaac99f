#include "daemon/config.hpp"

#include <boost/test/unit_test.hpp>
#include <fstream>
#include <sstream>

namespace taskpool {
namespace {

using namespace std::chrono_literals;

std::string error_of(std::string_view toml) {
  const auto config = parse_config(toml, "test.toml");
  BOOST_REQUIRE_MESSAGE(!config, "was accepted: " << toml);
  BOOST_TEST(config.error().errc() == Errc::bad_argument);
  return config.error().detail;
}

std::string set_error(std::string_view key, std::string_view value) {
  Config config;
  const auto set = set_key(config, key, value);
  BOOST_REQUIRE_MESSAGE(!set, "was accepted: " << key << "=" << value);
  return set.error().detail;
}

std::string example() {
  std::ifstream file{SOURCE_DIRECTORY "/daemon/taskpool.example.toml"};
  std::ostringstream text;
  text << file.rdbuf();
  return std::move(text).str();
}

BOOST_AUTO_TEST_SUITE(config)

BOOST_AUTO_TEST_CASE(the_example_file_holds_the_defaults) {
  const auto parsed = parse_config(example(), "taskpool.example.toml");
  BOOST_REQUIRE_MESSAGE(parsed, (parsed ? "" : parsed.error().detail));
  BOOST_TEST((*parsed == Config{}));
  BOOST_TEST(to_toml(*parsed) == to_toml(Config{}));
}

BOOST_AUTO_TEST_CASE(the_example_file_has_every_key) {
  const auto text = "\n" + example();
  std::istringstream lines{to_toml(Config{})};
  for (std::string line; std::getline(lines, line);)
    if (const auto equals = line.find(" = "); equals != std::string::npos)
      BOOST_TEST(text.find("\n" + line.substr(0, equals) + " = ") != std::string::npos, "missing: " << line);
}

BOOST_AUTO_TEST_CASE(nothing_is_the_defaults) {
  BOOST_TEST((parse_config("", "test.toml").value() == Config{}));
  const Config config;
  BOOST_REQUIRE(config.pools.size() == 3u);
  BOOST_TEST(config.pools[0].name == "default");
  BOOST_TEST(config.pools[1].runtime == "command");
  BOOST_TEST(config.pools[2].runtime == "python");
  BOOST_TEST(config.pools[2].on_demand);
  BOOST_TEST(!config.pools[0].on_demand);
  BOOST_TEST(config.runtimes.contains("native"));
}

BOOST_AUTO_TEST_CASE(every_kind_of_value_is_read) {
  const auto config = parse_config(R"(
socket = "/tmp/s"
socket_mode = "0660"
log_level = "debug"
stop_timeout = "2m"
idle_exit = "0"
arena_bytes = "64MiB"
kept_result_bytes = 12345
prefetch = 64
[[pool]]
name = "fast.one"
workers = 3
modules = ["demo", "/opt/mine.so"]
environment = { LANG = "C", EMPTY = "" }
priority = -5
timeout = "1500ms"
initializer_arguments = '[1, "two"]'
[[pool]]
name = "py"
runtime = "python"
[runtime.python]
command = ["python3", "-m", "taskpool.runtime"]
[quota.default]
sessions = 5
[quota."@the staff"]
queued_bytes = "1MiB"
store_bytes = 70000
running_slots = 0
)",
                                   "test.toml")
                          .value();
  BOOST_TEST(config.socket == "/tmp/s");
  BOOST_TEST(config.socket_mode == 0660u);
  BOOST_TEST(config.log_level == "debug");
  BOOST_TEST((config.stop_timeout == 2min));
  BOOST_TEST((config.idle_exit == 0ms));
  BOOST_TEST(config.arena_bytes == 64u << 20);
  BOOST_TEST(config.kept_result_bytes == 12345u);
  BOOST_TEST(config.prefetch == 64u);
  BOOST_REQUIRE(config.pools.size() == 2u);
  const auto& pool = config.pools[0];
  BOOST_TEST(pool.name == "fast.one");
  BOOST_TEST(pool.workers == 3u);
  BOOST_TEST((pool.modules == std::vector<std::string>{"demo", "/opt/mine.so"}));
  BOOST_TEST((pool.environment == std::map<std::string, std::string>{{"LANG", "C"}, {"EMPTY", ""}}));
  BOOST_TEST(pool.priority == -5);
  BOOST_TEST((pool.timeout == 1500ms));
  BOOST_TEST(pool.initializer_arguments == "[1, \"two\"]");
  BOOST_TEST((config.runtimes.at("python").command == std::vector<std::string>{"python3", "-m", "taskpool.runtime"}));
  BOOST_TEST(config.runtimes.contains("command"));
  BOOST_TEST(config.quotas.at("default").sessions.value() == 5u);
  BOOST_TEST(config.quotas.at("default").queued_tasks.value() == 0u);  // as it was
  const auto& staff = config.quotas.at("@the staff");
  BOOST_TEST(!staff.sessions.has_value());
  BOOST_TEST(staff.queued_bytes.value() == 1u << 20);
  BOOST_TEST(staff.store_bytes.value() == 70'000u);
  BOOST_TEST(staff.running_slots.value() == 0u);
  BOOST_TEST((parse_config(to_toml(config), "again").value() == config));
}

BOOST_AUTO_TEST_CASE(odd_text_survives_being_written_and_read) {
  Config config;
  config.socket = "/tmp/\"quoted\\ \n\x01\x7f caf\xc3\xa9";
  config.pools[0].environment = {{"a key", "x\ty"}};
  config.runtimes["odd name"] = {"odd name", {"a \"b\""}};
  BOOST_TEST((parse_config(to_toml(config), "again").value() == config));
}

BOOST_AUTO_TEST_CASE(an_unknown_key_is_named_with_its_line) {
  BOOST_TEST(error_of("prefetch = 1\n\nsokcet = \"x\"\n") == "test.toml:3: sokcet: unknown key");
  BOOST_TEST(error_of("[[pool]]\nwrokers = 1\n") == "test.toml:2: pool.wrokers: unknown key");
  BOOST_TEST(error_of("[runtime.x]\ncommand = [\"a\"]\nargs = 1\n") == "test.toml:3: runtime.x.args: unknown key");
}

BOOST_AUTO_TEST_CASE(a_bad_value_is_shown_with_what_was_wanted) {
  BOOST_TEST(error_of("prefetch = 0") == "test.toml:1: prefetch = 0: want a number from 1 to 65536");
  BOOST_TEST(error_of("prefetch = -1") == "test.toml:1: prefetch = -1: want a number from 1 to 65536");
  BOOST_TEST(error_of("prefetch = \"5\"") == "test.toml:1: prefetch = \"5\": want a number");
  BOOST_TEST(error_of("prefetch = 3.5").find("prefetch = 3.500000: want a number") != std::string::npos);
  BOOST_TEST(error_of("stop_timeout = 10").find("want a text in quotes") != std::string::npos);
  BOOST_TEST(error_of("stop_timeout = \"10\"").find("want a time of at most 24d") != std::string::npos);
  BOOST_TEST(error_of("stop_timeout = \"25d\"").find("want a time of at most 24d") != std::string::npos);
  BOOST_TEST(error_of("stop_timeout = \"99999999999999999999s\"").find("want a time") != std::string::npos);
  BOOST_TEST(error_of("stop_timeout = \"-1s\"").find("want a time") != std::string::npos);
  BOOST_TEST(error_of("arena_bytes = \"9999999999GiB\"").find("want a size") != std::string::npos);
  BOOST_TEST(error_of("arena_bytes = \"65GiB\"").find("want a number from 0 to 68719476736") != std::string::npos);
  BOOST_TEST(error_of("arena_bytes = true").find("arena_bytes = true: want a number or a text") != std::string::npos);
  BOOST_TEST(error_of("socket_mode = \"0999\"").find("want an octal mode") != std::string::npos);
  BOOST_TEST(error_of("socket_mode = \"1777\"").find("want an octal mode") != std::string::npos);
  BOOST_TEST(error_of("log_level = \"loud\"").find("log_level = \"loud\": want trace") != std::string::npos);
  BOOST_TEST(error_of("socket = \"a\\u0000b\"").find("without zero bytes") != std::string::npos);
  BOOST_TEST(error_of("socket = 1979-05-27").find("a date or time") != std::string::npos);
  BOOST_TEST(error_of("spool = \"" + std::string(500, 'x') + "\\u0000\"").size() < 200u);
}

BOOST_AUTO_TEST_CASE(pools_and_runtimes_are_checked) {
  BOOST_TEST(error_of("pool = 1").find("[[pool]]") != std::string::npos);
  BOOST_TEST(error_of("pool = []").find("[[pool]]") != std::string::npos);
  BOOST_TEST(error_of("pool = [1]").find("[[pool]]") != std::string::npos);
  BOOST_TEST(error_of("[[pool]]\nname = \"\"").find("pool.name = \"\"") != std::string::npos);
  BOOST_TEST(error_of("[[pool]]\n[[pool]]").find("two pools") != std::string::npos);
  BOOST_TEST(error_of("[[pool]]\nruntime = \"cobol\"").find("no such runtime") != std::string::npos);
  BOOST_TEST(error_of("[[pool]]\nworkers = 1025").find("0 to 1024") != std::string::npos);
  BOOST_TEST(error_of("[[pool]]\npriority = 101").find("-100 to 100") != std::string::npos);
  BOOST_TEST(error_of("[[pool]]\nnice = 20").find("0 to 19") != std::string::npos);
  BOOST_TEST(error_of("[[pool]]\nmax_task_files = 31").find("want 0 or at least 32") != std::string::npos);
  BOOST_TEST(error_of("[[pool]]\nmodules = \"demo\"").find("a list of texts") != std::string::npos);
  BOOST_TEST(error_of("[[pool]]\nmodules = [1]").find("a list of texts") != std::string::npos);
  BOOST_TEST(error_of("[[pool]]\nenvironment = 1").find("a table of texts") != std::string::npos);
  BOOST_TEST(error_of("[[pool]]\nenvironment = {A = 1}").find("a table of texts") != std::string::npos);
  BOOST_TEST(error_of("[[pool]]\nenvironment = {\"A=B\" = \"\"}").find("no =") != std::string::npos);
  BOOST_TEST(error_of("[[pool]]\ninitializer_arguments = \"{}\"").find("a JSON array") != std::string::npos);
  BOOST_TEST(error_of("[[pool]]\ninitializer_arguments = \"[\"").find("a JSON array") != std::string::npos);
  BOOST_TEST(error_of("runtime = 1").find("[runtime.NAME]") != std::string::npos);
  BOOST_TEST(error_of("runtime = {x = 1}").find("[runtime.NAME]") != std::string::npos);
  BOOST_TEST(error_of("[runtime.x]").find("command") != std::string::npos);
  BOOST_TEST(error_of("[runtime.x]\ncommand = \"sh\"").find("a list of texts") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(quotas_are_checked) {
  BOOST_TEST(error_of("quota = 1").find("[quota.default]") != std::string::npos);
  BOOST_TEST(error_of("[quota]\nsessions = 1").find("[quota.default]") != std::string::npos);
  BOOST_TEST(error_of("[quota.alice]\nsesions = 1") == "test.toml:2: quota.alice.sesions: unknown key");
  BOOST_TEST(error_of("[quota.alice]\nsessions = -1") ==
             "test.toml:2: quota.alice.sessions = -1: want a number; 0: no limit");
  BOOST_TEST(
      error_of("[quota.alice]\nqueued_bytes = \"1MB\"").find("quota.alice.queued_bytes = \"1MB\": want a size") !=
      std::string::npos);
  Config config;
  BOOST_TEST(set_key(config, "quota.john.doe.sessions", "3").has_value());
  BOOST_TEST(config.quotas.at("john.doe").sessions.value() == 3u);
  BOOST_TEST(set_error("quota.alice", "3") == "quota.alice: unknown key");
  BOOST_TEST(set_error("quota.alice.sessions", "many").find("want a number") != std::string::npos);
  auto now = config;
  now.quotas["john.doe"].sessions = 4;
  now.quotas["@staff"].store_bytes = 1;
  BOOST_TEST(
      compare(config, now).changed == (std::vector<std::string>{"quota.@staff.store_bytes", "quota.john.doe.sessions"}),
      boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(text_that_is_not_toml_is_an_error_with_its_line) {
  BOOST_TEST(error_of("a = 1\nb = = 2").starts_with("test.toml:2: "));
  BOOST_TEST(error_of("\xff").starts_with("test.toml:1: "));
}

BOOST_AUTO_TEST_CASE(keys_are_set_from_text) {
  Config config;
  BOOST_TEST(set_key(config, "prefetch", "7").has_value());
  BOOST_TEST(set_key(config, "arena_bytes", "1KiB").has_value());
  BOOST_TEST(set_key(config, "pool.default.workers", "5").has_value());
  BOOST_TEST(set_key(config, "pool.default.modules", "a,,b").has_value());
  BOOST_TEST(config.prefetch == 7u);
  BOOST_TEST(config.arena_bytes == 1024u);
  BOOST_TEST(config.pools[0].workers == 5u);
  BOOST_TEST((config.pools[0].modules == std::vector<std::string>{"a", "b"}));
  BOOST_TEST(set_error("prefetch", "many") == "prefetch = \"many\": want a number from 1 to 65536");
  BOOST_TEST(set_error("nothing", "1") == "nothing: unknown key");
  BOOST_TEST(set_error("pool.", "1").find("no pool") != std::string::npos);
  BOOST_TEST(set_error("pool.default.nothing", "1").find("unknown key") != std::string::npos);
  BOOST_TEST(set_error("pool.other.workers", "1") == "pool.other.workers: no pool \"other\"");
  BOOST_TEST(set_error("pool.default.environment", "1").find("only a file") != std::string::npos);
  BOOST_TEST(set_error("pool.default.priority", "x").find("-100 to 100") != std::string::npos);
  BOOST_TEST(set_error("pool.default.name", "command").find("two pools") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_reload_knows_what_changed_and_what_must_wait) {
  const Config old;
  BOOST_TEST(compare(old, old).changed.empty());
  Config now = old;
  now.socket = "/elsewhere";
  now.prefetch = 1;
  now.pools[0].workers = 9;
  now.pools[1].name = "programs";
  now.runtimes["native"].command = {"other"};
  now.runtimes["new"] = {"new", {"x"}};
  now.runtimes.erase("command");
  const auto changes = compare(old, now);
  BOOST_TEST(changes.needs_restart == std::vector<std::string>{"socket"}, boost::test_tools::per_element());
  const std::vector<std::string> changed{"prefetch",       "pool.default.workers", "pool.programs",  "pool.command",
                                         "runtime.native", "runtime.new",          "runtime.command"};
  BOOST_TEST(changes.changed == changed, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(metrics_are_for_this_host_alone) {
  for (const auto* const text : {"127.0.0.1:9464", "127.9.9.9:1", "localhost:80"}) {
    const auto address = parse_local_address(text);
    BOOST_REQUIRE_MESSAGE(address, text);
    BOOST_TEST(address->path.empty());
    BOOST_TEST(address->host.starts_with("127."));
  }
  BOOST_TEST(parse_local_address("[::1]:65535")->port == 65535u);
  BOOST_TEST(parse_local_address("/run/taskpool/metrics")->path == "/run/taskpool/metrics");
  for (const auto* const text :
       {"", "0.0.0.0:9464", "10.0.0.1:9464", "128.0.0.1:1", "[::]:9464", "::1:9464", "host:9464", "127.0.0.1",
        "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:9464x", "127.1:9464", "metrics.sock"})
    BOOST_TEST(!parse_local_address(text), "was accepted: " << text);
  BOOST_TEST(set_error("metrics_listen", "0.0.0.0:9464")
                 .starts_with("metrics_listen = \"0.0.0.0:9464\": want an address of this host's own"));
  BOOST_TEST(parse_config("metrics_listen = '127.0.0.1:9464'", "test.toml").value().metrics_listen == "127.0.0.1:9464");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool
