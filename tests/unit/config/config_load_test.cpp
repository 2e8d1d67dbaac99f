#include <boost/test/unit_test.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <initializer_list>

#include "daemon/config.hpp"

namespace taskpool {
namespace {

namespace fs = std::filesystem;
using Action = CommandLine::Action;

CommandLine arguments(std::initializer_list<const char*> words) {
  std::vector<const char*> argv{"taskpoold"};
  argv.insert(argv.end(), words);
  return parse_command_line(static_cast<int>(argv.size()), argv.data());
}

/// A directory with a config file. Its runtimes are programs that exist wherever the tests run.
struct Files {
  fs::path directory;
  std::string config;
  Files() {
    char name[] = "/tmp/taskpool-config-XXXXXX";
    directory = ::mkdtemp(name);
    config = (directory / "taskpool.toml").string();
  }
  ~Files() { fs::remove_all(directory); }
  void write(const std::string& text) const {
    std::ofstream{config} << text << "\n[runtime.native]\ncommand = [\"sh\"]\n[runtime.command]\ncommand = [\"sh\"]\n";
  }
  std::string error(std::initializer_list<const char*> words) const {
    const auto loaded = load_config(arguments(words));
    BOOST_REQUIRE(!loaded);
    return loaded.error().detail;
  }
};

BOOST_AUTO_TEST_SUITE(config_load)

BOOST_AUTO_TEST_CASE(actions_are_told_apart) {
  BOOST_TEST((arguments({}).action == Action::run));
  BOOST_TEST((arguments({"--check-config"}).action == Action::check_config));
  BOOST_TEST((arguments({"--print-config"}).action == Action::print_config));
  BOOST_TEST((arguments({"--version"}).action == Action::help));
  const auto help = arguments({"--help"});
  BOOST_TEST((help.action == Action::help));
  for (const auto* flag : {"--config", "--stop-timeout", "--workers", "--set"})
    BOOST_TEST(help.text.find(flag) != std::string::npos, flag);
  for (const auto* word : {"--nonsense", "stray", "--prefetch"}) {
    const auto refused = arguments({word});
    BOOST_TEST((refused.action == Action::refused), word);
    BOOST_TEST(!refused.text.empty());
  }
  BOOST_TEST((arguments({"--set", "prefetch"}).action == Action::refused));
}

BOOST_FIXTURE_TEST_CASE(flags_override_the_file, Files) {
  write("prefetch = 3\nstop_timeout = \"1s\"\n[[pool]]\nname = \"main\"\nworkers = 4\n");
  const auto loaded = load_config(arguments({"--config", config.c_str(), "--stop-timeout", "7s", "--workers=2",
                                             "--modules", "a,b", "--set", "pool.main.max_queued=10"}));
  BOOST_REQUIRE_MESSAGE(loaded, (loaded ? "" : loaded.error().detail));
  BOOST_TEST(loaded->prefetch == 3u);
  BOOST_TEST((loaded->stop_timeout == std::chrono::seconds{7}));
  BOOST_TEST(loaded->pools[0].workers == 2u);
  BOOST_TEST(loaded->pools[0].max_queued == 10u);
  BOOST_TEST((loaded->pools[0].modules == std::vector<std::string>{"a", "b"}));
}

BOOST_FIXTURE_TEST_CASE(paths_are_made_absolute_and_programs_found, Files) {
  write("[[pool]]\nmodules = [\"./x.so\", \"demo\"]\ncwd = \"sub\"\n");
  const auto loaded = load_config(arguments({"--config", config.c_str(), "--socket", "here"})).value();
  const auto here = fs::current_path();
  BOOST_TEST(loaded.socket == (here / "here").string());
  BOOST_TEST(loaded.spool == (here / "here.spool").string());
  BOOST_TEST(loaded.pools[0].cwd == (here / "sub").string());
  BOOST_TEST(loaded.pools[0].modules[0] == (here / "x.so").string());
  BOOST_TEST(loaded.pools[0].modules[1] == "demo");
  BOOST_TEST(loaded.runtimes.at("native").command[0].ends_with("/sh"));
}

BOOST_FIXTURE_TEST_CASE(errors_name_the_file_or_the_flag, Files) {
  const auto flag = "--config";
  BOOST_TEST(error({flag, "/nonexistent.toml"}).find("/nonexistent.toml: No such file") != std::string::npos);
  BOOST_TEST(error({flag, "/tmp"}).find("/tmp: Is a directory") != std::string::npos);
  write("prefetch = 0");
  BOOST_TEST(error({flag, config.c_str()}).starts_with(config + ":1: prefetch = 0"));
  write("");
  BOOST_TEST(
      error({flag, config.c_str(), "--arena-bytes", "much"}).starts_with("command line: arena_bytes = \"much\""));
  BOOST_TEST(error({flag, config.c_str(), "--set", "pool.x.workers=1"}).find("no pool \"x\"") != std::string::npos);
  const auto long_path = "/" + std::string(200, 'x');
  BOOST_TEST(error({flag, config.c_str(), "--socket", long_path.c_str()}).find("at most 107") != std::string::npos);
  write("[[pool]]\nruntime = \"x\"\n[runtime.x]\ncommand = [\"no-such-program\"]\n");
  BOOST_TEST(error({flag, config.c_str()}).find("no-such-program") != std::string::npos);
}

BOOST_FIXTURE_TEST_CASE(a_pool_that_starts_on_demand_may_lack_its_program, Files) {
  write("[[pool]]\nruntime = \"x\"\non_demand = true\n[runtime.x]\ncommand = [\"no-such-program\"]\n");
  BOOST_TEST(load_config(arguments({"--config", config.c_str()})).has_value());
}

BOOST_AUTO_TEST_CASE(the_default_socket_follows_the_environment) {
  ::setenv("TASKPOOL_SOCKET", "/named", 1);
  BOOST_TEST(default_socket() == "/named");
  ::unsetenv("TASKPOOL_SOCKET");
  BOOST_TEST(default_socket().ends_with("/taskpool/taskpool.sock"));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool
