#include "client/cli/command_result.hpp"

#include <boost/test/unit_test.hpp>

namespace taskpool::cli {
namespace {

BOOST_AUTO_TEST_SUITE(command_result)

BOOST_AUTO_TEST_CASE(output_is_text_or_base64) {
  const auto result =
      read_command_result(R"({"exit_code": 3, "signal": 0, "stdout": "a\n", "stderr": {"base64": "/wBh"}, "x": 1})")
          .value();
  BOOST_TEST(result.exit_code == 3);
  BOOST_TEST(result.stdout_bytes == "a\n");
  BOOST_TEST(result.stderr_bytes == std::string("\xff\0a", 3));
  BOOST_TEST(result.failed());
  BOOST_TEST(!result.truncated);
  BOOST_TEST(describe_end(result) == "exit code 3");
}

BOOST_AUTO_TEST_CASE(base64_of_every_length_is_read) {
  const auto read = [](const std::string& text) {
    return read_command_result(R"({"exit_code": 0, "signal": 0, "stderr": "", "stdout": {"base64": ")" + text + "\"}}")
        .value()
        .stdout_bytes;
  };
  BOOST_TEST(read("") == "");
  BOOST_TEST(read("YQ==") == "a");
  BOOST_TEST(read("YWI=") == "ab");
  BOOST_TEST(read("YWJj") == "abc");
}

BOOST_AUTO_TEST_CASE(a_signal_is_a_failure_that_a_shell_would_name) {
  const auto result =
      read_command_result(R"({"exit_code": null, "signal": 9, "stdout": "", "stderr": "", "truncated": true})").value();
  BOOST_TEST(result.failed());
  BOOST_TEST(result.truncated);
  BOOST_TEST(result.shell_code() == 137);
  BOOST_TEST(describe_end(result) == "killed by signal 9 (Killed)");
}

BOOST_AUTO_TEST_CASE(anything_else_is_an_error) {
  for (const char* text : {"", "3", "{}", R"({"exit_code": 0, "signal": 0, "stdout": ""})",
                           R"({"exit_code": "x", "signal": 0, "stdout": "", "stderr": ""})",
                           R"({"exit_code": 0, "signal": 0, "stdout": 4, "stderr": ""})",
                           R"({"exit_code": 0, "signal": 0, "stdout": "", "stderr": {"base64": "*"}})",
                           R"({"exit_code": 99999, "signal": 0, "stdout": "", "stderr": ""})"})
    BOOST_TEST((read_command_result(text).error().errc() == Errc::bad_message), text);
}

BOOST_AUTO_TEST_CASE(failures_are_counted_up_to_101) {
  BOOST_TEST(failures_exit_code(0) == 0);
  BOOST_TEST(failures_exit_code(3) == 3);
  BOOST_TEST(failures_exit_code(5000) == 101);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool::cli
