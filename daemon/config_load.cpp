#include <sys/un.h>
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "daemon/config_keys.hpp"
#include "daemon/os/process.hpp"
#include "proto/version.hpp"

namespace taskpool {
namespace {

namespace fs = std::filesystem;

/// "--stop-timeout" for the key stop_timeout.
std::string flag_of(std::string_view key) {
  std::string flag = "--" + std::string{key};
  std::replace(flag.begin() + 2, flag.end(), '_', '-');
  return flag;
}

template <class Owner>
const char* placeholder(const keys::Key<Owner>& key) {
  struct Namer {
    const char* operator()(const keys::Count<Owner>&) { return "N"; }
    const char* operator()(const keys::Integer<Owner>&) { return "N"; }
    const char* operator()(const keys::Size<Owner>&) { return "SIZE"; }
    const char* operator()(const keys::Limit<Owner>&) { return "N"; }
    const char* operator()(const keys::SizeLimit<Owner>&) { return "SIZE"; }
    const char* operator()(const keys::Duration<Owner>&) { return "TIME"; }
    const char* operator()(const keys::Mode<Owner>&) { return "MODE"; }
    const char* operator()(const keys::Text<Owner>&) { return "TEXT"; }
    const char* operator()(const keys::Choice<Owner>&) { return "WORD"; }
    const char* operator()(const keys::Local<Owner>&) { return "ADDRESS"; }
    const char* operator()(const keys::JsonArray<Owner>&) { return "JSON"; }
    const char* operator()(const keys::Truth<Owner>&) { return "BOOL"; }
    const char* operator()(const keys::Texts<Owner>&) { return "LIST"; }
    const char* operator()(const keys::TextMap<Owner>&) { return "TABLE"; }
  };
  return std::visit(Namer{}, key.value);
}

Error in_flags(const Error& error) { return Error{error.code, "command line: " + error.detail}; }

/// The flags --workers, --module and --runtime are about the pool that calls get which name none.
Result<void> apply(Config& config, std::string_view key, std::string_view value) {
  constexpr std::string_view kFirstPool = "first_pool.";
  if (!key.starts_with(kFirstPool)) return set_key(config, key, value);
  return set_key(config, "pool." + config.pools.front().name + "." + std::string{key.substr(kFirstPool.size())}, value);
}

bool demo_module_is_installed() {
  const fs::path beside{os::program_directory()};
  std::error_code failed;
  return fs::exists(beside / "../modules/demo.so", failed) ||
         fs::exists(beside / "../lib/taskpool/modules/demo.so", failed);
}

Result<std::string> contents(const std::string& path) {
  std::error_code failed;
  if (fs::is_directory(path, failed)) return errno_error(path, EISDIR);
  std::ifstream file{path, std::ios::binary};
  if (!file) return errno_error(path);
  std::ostringstream text;
  text << file.rdbuf();
  return std::move(text).str();
}

Result<void> look_up_socket(std::string_view key, std::string& path) {
  path = fs::absolute(path).lexically_normal().string();
  constexpr auto kLongest = sizeof(sockaddr_un::sun_path) - 1;
  if (path.size() <= kLongest) return {};
  return fail(Errc::bad_argument, std::string{key} + " = " + keys::quote(path) + ": want a path of at most " +
                                      std::to_string(kLongest) + " bytes");
}

/// Makes the paths independent of the working directory, and finds the programs.
Result<void> look_up(Config& config) {
  if (config.socket.empty()) config.socket = default_socket();
  if (const auto good = look_up_socket("socket", config.socket); !good) return good;
  if (!config.admin_socket.empty())
    if (const auto good = look_up_socket("admin_socket", config.admin_socket); !good) return good;
  if (config.admin_socket == config.socket)
    return fail(Errc::bad_argument,
                "admin_socket = " + keys::quote(config.admin_socket) + ": want another path than socket's");
  if (config.admin_requests == "admin_socket" && config.admin_socket.empty())
    return fail(Errc::bad_argument, "admin_requests = \"admin_socket\": there is no admin_socket");
  if (config.spool.empty()) config.spool = config.socket + ".spool";
  config.spool = fs::absolute(config.spool).lexically_normal().string();
  if (config.store_dir.empty()) config.store_dir = config.socket + ".store";
  config.store_dir = fs::absolute(config.store_dir).lexically_normal().string();

  if (config.pools == default_pools() && !demo_module_is_installed()) config.pools.front().modules.clear();
  for (auto& pool : config.pools) {
    if (!pool.cwd.empty()) pool.cwd = fs::absolute(pool.cwd).lexically_normal().string();
    // Of a Python pool these are import names, which have no slash.
    for (auto& module : pool.modules)
      if (module.find('/') != std::string::npos) module = fs::absolute(module).lexically_normal().string();
  }
  // A pool that starts on demand may have a runtime that comes with another package: who calls it is told.
  const auto is_used = [&](const std::string& runtime) {
    return std::any_of(config.pools.begin(), config.pools.end(),
                       [&](const auto& pool) { return pool.runtime == runtime && !pool.on_demand; });
  };
  for (auto& [name, runtime] : config.runtimes) {
    auto& program = runtime.command.front();
    if (const auto found = os::find_program(program))
      program = *found;
    else if (is_used(name))  // others may be installed later
      return fail(Errc::bad_argument, "runtime." + name + ".command = " + keys::quote(program) +
                                          ": no such program beside the daemon or in PATH");
  }
  return {};
}

}  // namespace

std::string default_socket() {
  const auto variable = [](const char* name) {
    const char* const value = std::getenv(name);
    return std::string{value != nullptr ? value : ""};
  };
  if (auto socket = variable("TASKPOOL_SOCKET"); !socket.empty()) return socket;
  const auto runtime = variable("XDG_RUNTIME_DIR");
  return (::geteuid() == 0 || runtime.empty() ? "/run" : runtime) + "/taskpool/taskpool.sock";
}

CommandLine parse_command_line(int argc, const char* const* argv) {
  CommandLine result;
  CLI::App app{"The taskpool daemon: keeps workers warm and runs the tasks that programs send over a Unix socket.",
               "taskpoold"};
  app.footer(
      "Every key of the file has a flag, which overrides the file. Keys of one pool: --set pool.NAME.KEY=VALUE.\n"
      "SIGTERM drains and stops, SIGHUP reloads the file. Exit codes: 0 done, 69 cannot start, 78 bad config.");
  app.set_version_flag("--version", std::string{kVersion});
  bool build_id = false;
  bool check = false;
  bool print = false;
  app.add_option("--config", result.config_file, "read this file")->type_name("FILE");
  app.add_flag("--build-id", build_id, "print what tells this build from others, and end");
  app.add_flag("--check-config", check, "say whether the configuration is good, and end");
  app.add_flag("--print-config", print, "print the configuration that would be in force, and end");

  const auto add = [&](const auto& key, const std::string& target, const auto& defaults) {
    const auto remember = [&result, target](const std::string& value) { result.overrides.emplace_back(target, value); };
    app.add_option_function<std::string>(flag_of(key.name), remember, std::string{key.help})
        ->type_name(placeholder(key))
        ->default_str(keys::spell(key, defaults))
        ->group("Keys of the file");
  };
  const Config defaults;
  for (const auto& key : keys::kConfigKeys) add(key, std::string{key.name}, defaults);
  for (const std::string_view name : {"workers", "modules", "runtime"})
    add(*keys::find(keys::kPoolKeys, name), "first_pool." + std::string{name}, defaults.pools.front());
  std::vector<std::string> settings;
  app.add_option("--set", settings, "any key, those of pools too")->type_name("KEY=VALUE")->allow_extra_args(false);

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& stop) {  // --help and --version too
    std::ostringstream text;
    const bool refused = app.exit(stop, text, text) != 0;
    result.action = refused ? CommandLine::Action::refused : CommandLine::Action::help;
    result.text = text.str();
    return result;
  }
  for (const auto& setting : settings) {
    const auto equals = setting.find('=');
    if (equals == std::string::npos) {
      result.action = CommandLine::Action::refused;
      result.text = "--set " + setting + ": want KEY=VALUE\n";
      return result;
    }
    result.overrides.emplace_back(setting.substr(0, equals), setting.substr(equals + 1));
  }
  if (build_id) result.action = CommandLine::Action::build_id;
  if (print) result.action = CommandLine::Action::print_config;
  if (check) result.action = CommandLine::Action::check_config;
  return result;
}

Result<Config> load_config(const CommandLine& command_line) {
  Config config;
  if (!command_line.config_file.empty()) {
    const auto text = contents(command_line.config_file);
    if (!text) return text.error();
    auto parsed = parse_config(*text, command_line.config_file);
    if (!parsed) return parsed.error();
    config = std::move(*parsed);
  }
  for (const auto& [key, value] : command_line.overrides)
    if (const auto set = apply(config, key, value); !set) return in_flags(set.error());
  if (const auto found = look_up(config); !found) return found.error();
  return config;
}

}  // namespace taskpool
