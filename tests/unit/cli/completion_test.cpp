#include "client/cli/completion.hpp"

#include <algorithm>
#include <boost/test/unit_test.hpp>

namespace taskpool::cli {
namespace {

std::vector<std::string> words_for(const std::vector<std::string>& line) {
  const auto names = [](Completes what) -> std::vector<Candidate> {
    switch (what) {
      case Completes::functions: return {{"square", ""}, {"sleep", ""}, {"echo", ""}};
      case Completes::pools: return {{"default", ""}, {"command", ""}};
      case Completes::tasks: return {{"t1", "make"}, {"t2", "sleep"}};
      case Completes::objects: return {{"stock", "dict"}, {"jobs", "queue"}};
      default: return {};
    }
  };
  std::vector<std::string> words;
  for (const auto& candidate : complete(line, names)) words.push_back(candidate.word);
  return words;
}

using Words = std::vector<std::string>;

BOOST_AUTO_TEST_SUITE(completion)

BOOST_AUTO_TEST_CASE(the_first_word_is_a_verb) {
  BOOST_TEST(words_for({"pa"}) == Words{"pause"});
  BOOST_TEST(words_for({""}).size() == commands().size());
  BOOST_TEST(words_for({"--json", "dra"}) == Words{"drain"});
  BOOST_TEST(words_for({"--socket", "/x", "dra"}) == Words{"drain"});
  BOOST_TEST(words_for({"--socket", ""}).empty());
  BOOST_TEST(words_for({"--so"}) == Words{"--socket"});
}

BOOST_AUTO_TEST_CASE(names_come_from_the_daemon) {
  BOOST_TEST(words_for({"apply", "s"}) == (Words{"square", "sleep"}));
  BOOST_TEST(words_for({"apply", "square", ""}).empty());
  BOOST_TEST(words_for({"map", "--pool", "d"}) == Words{"default"});
  BOOST_TEST(words_for({"map", "--pool", "default", "e"}) == Words{"echo"});
  BOOST_TEST(words_for({"wait", "t1", ""}) == (Words{"t1", "t2"}));
  BOOST_TEST(words_for({"completion", "z"}) == Words{"zsh"});
}

BOOST_AUTO_TEST_CASE(objects_have_actions) {
  BOOST_TEST(words_for({"dict", "s"}) == Words{"stock"});
  BOOST_TEST(words_for({"dict", "stock", "i"}) == (Words{"incr", "items"}));
  BOOST_TEST(words_for({"event", "e", "is"}) == Words{"is-set"});
  BOOST_TEST(words_for({"dict", "stock", "get", ""}).empty());
  BOOST_TEST(words_for({"lock", "jobs", ""}).empty());
}

BOOST_AUTO_TEST_CASE(options_come_from_the_command) {
  BOOST_TEST(words_for({"map", "--unord"}) == Words{"--unordered"});
  BOOST_TEST(words_for({"cancel", "t1", "--f"}) == Words{"--force"});
  BOOST_TEST(words_for({"map", "--timeout", ""}).empty());
}

BOOST_AUTO_TEST_CASE(a_command_line_behind_dashes_is_left_to_the_shell) {
  BOOST_TEST(words_for({"submit", "--", ""}).empty());
  BOOST_TEST(words_for({"nonsense", ""}).empty());
}

BOOST_AUTO_TEST_CASE(every_shell_has_a_script) {
  for (const char* shell : {"bash", "zsh", "fish"}) BOOST_TEST(!completion_script(shell).empty());
  BOOST_TEST(completion_script("csh").empty());
}

BOOST_AUTO_TEST_CASE(every_command_has_help_with_examples) {
  for (const auto& command : commands()) {
    BOOST_TEST(std::count(command.examples.begin(), command.examples.end(), '\n') >= 1, command.name);
    BOOST_TEST(help_page(command).find("Examples:") != std::string::npos);
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool::cli
