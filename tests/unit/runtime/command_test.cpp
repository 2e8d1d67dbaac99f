#include "daemon/runtime/command.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <csignal>
#include <nlohmann/json.hpp>
#include <string>

namespace {

using taskpool::runtime::command_module;

/// A call as the runtime would make it, and what the function said to it.
struct FakeCall : taskpool_call {
  explicit FakeCall(std::string_view item, std::string command = "")
      : taskpool_call{}, options{std::move(command)}, interrupt{::eventfd(0, EFD_CLOEXEC)} {
    host = &kHost;
    input = item.data();
    input_bytes = item.size();
    input_count = 1;
    encoding = TASKPOOL_JSON;
    job = 7;
    index = 2;
  }
  ~FakeCall() { ::close(interrupt); }

  int run() {
    const auto& function = command_module().functions[0];
    return function.call(this, function.user);
  }
  nlohmann::json result_json() const { return nlohmann::json::parse(result); }

  std::string options;
  std::string spool;
  int interrupt;
  std::string result;
  int error_code = 0;
  std::string error_type;
  std::string error_message;
  int error_signal = 0;

 private:
  static FakeCall& self(const taskpool_call* call) {
    return const_cast<FakeCall&>(*static_cast<const FakeCall*>(call));
  }
  static const taskpool_host kHost;
};

const taskpool_host FakeCall::kHost = [] {
  taskpool_host host{};
  host.size = sizeof host;
  host.result = [](const taskpool_call* call, std::uint8_t, const void* data, std::uint64_t bytes) {
    self(call).result.assign(static_cast<const char*>(data), bytes);
    return 0;
  };
  host.error = [](const taskpool_call* call, int code, const char* type, const char* message, const char*) {
    self(call).error_code = code;
    self(call).error_type = type;
    self(call).error_message = message;
  };
  host.error_status = [](const taskpool_call* call, int, int signal) { self(call).error_signal = signal; };
  host.interrupt_fd = [](const taskpool_call* call) { return self(call).interrupt; };
  host.task = [](const taskpool_call*) { return "7/2"; };
  host.command_options = [](const taskpool_call* call) { return self(call).options.c_str(); };
  host.spool_path = [](const taskpool_call* call) { return self(call).spool.c_str(); };
  return host;
}();

BOOST_AUTO_TEST_SUITE(command)

BOOST_AUTO_TEST_CASE(the_module_has_one_function) {
  const auto& module = command_module();
  BOOST_TEST(module.abi_version == TASKPOOL_ABI_VERSION);
  BOOST_TEST(module.function_count == 1u);
  BOOST_TEST(std::string{module.functions[0].name} == "run");
}

BOOST_AUTO_TEST_CASE(a_non_zero_exit_is_a_result) {
  FakeCall call{R"(["sh", "-c", "echo hello $TASKPOOL_TASK; exit 9"])"};
  BOOST_TEST(call.run() == 0);
  const auto result = call.result_json();
  BOOST_TEST(result["exit_code"] == 9);
  BOOST_TEST(result["signal"] == 0);
  BOOST_TEST(result["stdout"] == "hello 7/2\n");
  BOOST_TEST(result["stdout_bytes"] == 10);
  BOOST_TEST(result["stderr"] == "");
  BOOST_TEST(result["truncated"] == false);
  BOOST_TEST(result["pid"].get<int>() > 0);
  BOOST_TEST(!result.contains("output_error"));
}

BOOST_AUTO_TEST_CASE(what_cannot_start_fails_as_spawn_and_what_is_malformed_as_argument) {
  FakeCall missing{R"(["/no/such/program"])"};
  BOOST_TEST(missing.run() == 1);
  BOOST_TEST(missing.error_code == TASKPOOL_TASK_FAILED);
  BOOST_TEST(missing.error_type == "spawn");
  BOOST_TEST(missing.error_message == "/no/such/program: No such file or directory");

  FakeCall malformed{R"({"argv": "true"})"};
  BOOST_TEST(malformed.run() == 1);
  BOOST_TEST(malformed.error_code == TASKPOOL_BAD_ARGUMENT);

  FakeCall bytes{"true"};
  bytes.encoding = TASKPOOL_BYTES;
  BOOST_TEST(bytes.run() == 1);
  BOOST_TEST(bytes.error_code == TASKPOOL_BAD_ARGUMENT);
}

BOOST_AUTO_TEST_CASE(a_stopped_command_is_a_cancelled_task) {
  FakeCall call{R"(["sleep", "30"])"};
  BOOST_REQUIRE(::eventfd_write(call.interrupt, 1) == 0);
  BOOST_TEST(call.run() == 1);
  BOOST_TEST(call.error_code == TASKPOOL_CANCELLED);
  BOOST_TEST(call.error_signal == SIGTERM);
}

BOOST_AUTO_TEST_CASE(kept_output_is_named_by_the_task) {
  std::string folder = "/tmp/taskpool-spool-XXXXXX";
  BOOST_REQUIRE(::mkdtemp(folder.data()) != nullptr);
  FakeCall call{R"(["echo", "x"])", R"({"keep_output": true})"};
  call.spool = folder;
  BOOST_TEST(call.run() == 0);
  BOOST_TEST(::unlink((folder + "/7-2.out").c_str()) == 0);
  BOOST_TEST(::unlink((folder + "/7-2.err").c_str()) == 0);
  BOOST_TEST(::rmdir(folder.c_str()) == 0);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
