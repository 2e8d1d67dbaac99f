#include <unistd.h>

#include <cstdio>
#include <exception>

#include "daemon/app.hpp"
#include "daemon/config.hpp"
#include "daemon/exit_codes.hpp"
#include "daemon/server/permissions.hpp"
#include "proto/build_id.hpp"

namespace {

int run(int argc, const char* const* argv) {
  using Action = taskpool::CommandLine::Action;
  auto command_line = taskpool::parse_command_line(argc, argv);
  if (command_line.action == Action::help) {
    std::fputs(command_line.text.c_str(), stdout);
    return 0;
  }
  if (command_line.action == Action::refused) {
    std::fprintf(stderr, "taskpoold: %s\n", command_line.text.c_str());
    return taskpool::kExitUsage;
  }
  if (command_line.action == Action::build_id) {
    std::puts(std::string{taskpool::build_id()}.c_str());
    return 0;
  }
  taskpool::os::PassedSockets passed;
  if (command_line.action == Action::run) {
    auto taken = taskpool::os::take_passed_sockets();
    if (!taken) {
      std::fprintf(stderr, "taskpoold: %s\n", taken.error().detail.c_str());
      return taskpool::kExitConfig;
    }
    passed = std::move(*taken);
    // Whatever file and flags say.
    if (passed.clients) command_line.overrides.emplace_back("socket", passed.clients->path);
    if (passed.admin) command_line.overrides.emplace_back("admin_socket", passed.admin->path);
  }
  auto config = taskpool::load_config(command_line);
  if (!config) {
    std::fprintf(stderr, "taskpoold: %s\n", config.error().detail.c_str());
    return taskpool::kExitConfig;
  }
  if (command_line.action == Action::check_config) {
    const auto people = taskpool::server::Permissions::make(*config, ::geteuid(), taskpool::server::host_lookups());
    if (!people) {
      std::fprintf(stderr, "taskpoold: %s\n", people.error().detail.c_str());
      return taskpool::kExitConfig;
    }
    std::puts("the configuration is good");
    return 0;
  }
  if (command_line.action == Action::print_config) {
    std::fputs(taskpool::to_toml(*config).c_str(), stdout);
    return 0;
  }
  taskpool::App app{std::move(*config), std::move(command_line), std::move(passed)};
  return app.run();
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "taskpoold: %s\n", error.what());
    return taskpool::kExitFailed;
  }
}
