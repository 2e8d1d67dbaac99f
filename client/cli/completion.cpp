#include "client/cli/completion.hpp"

#include <algorithm>

#include "client/cli/store_words.hpp"

namespace taskpool::cli {
namespace {

bool is_option(std::string_view word) { return word.size() > 1 && word.front() == '-'; }

const CLI::Option* find_option(const CLI::App& app, std::string_view word) {
  for (const auto* option : app.get_options())
    if (option->check_name(std::string{word})) return option;
  return nullptr;
}

/// True if the word after `word` is its value.
bool takes_next(const CLI::App& app, std::string_view word) {
  const auto* const option = is_option(word) ? find_option(app, word) : nullptr;
  return option != nullptr && takes_value(*option);
}

std::vector<Candidate> options_of(const CLI::App& app) {
  std::vector<Candidate> found;
  for (const auto* option : app.get_options())
    for (const auto& name : option->get_lnames()) found.push_back({"--" + name, option->get_description()});
  return found;
}

std::vector<Candidate> verbs() {
  std::vector<Candidate> found;
  for (const auto& command : commands()) found.push_back({std::string{command.name}, std::string{command.summary}});
  return found;
}

std::vector<Candidate> actions_of(const Command& command) {
  std::vector<Candidate> found;
  for (const auto& name : action_names(command.name)) found.push_back({std::string{name}, ""});
  return found;
}

std::vector<Candidate> words_of(const Command& command, std::size_t position, const NameSource& names) {
  switch (command.completes) {
    case Completes::nothing: return {};
    case Completes::verbs: return verbs();
    case Completes::shells: return {{"bash", ""}, {"zsh", ""}, {"fish", ""}};
    case Completes::tasks: return names(Completes::tasks);
    case Completes::objects:
      if (position == 1) return actions_of(command);
      break;
    case Completes::functions:
    case Completes::pools: break;
  }
  return position == 0 ? names(command.completes) : std::vector<Candidate>{};
}

std::vector<Candidate> fitting(std::span<const std::string> words, const NameSource& names) {
  CLI::App globals_app;
  Globals globals;
  add_globals(globals_app, globals);
  std::size_t at = 0;
  while (at + 1 < words.size() && is_option(words[at])) at += takes_next(globals_app, words[at]) ? 2 : 1;
  if (at >= words.size()) return {};  // the value of --socket
  if (at + 1 == words.size()) {
    auto found = verbs();
    if (is_option(words[at]) || words[at] == "-") found = options_of(globals_app);
    return found;
  }

  const auto* const command = find_command(words[at]);
  if (!command) return {};
  CLI::App app;
  const Run run = define(*command, app);
  add_globals(app, globals);
  std::size_t position = 0;
  for (++at; at + 1 < words.size(); ++at) {
    if (words[at] == "--") return {};
    if (takes_next(app, words[at])) {
      if (at + 2 == words.size()) return words[at] == "--pool" ? names(Completes::pools) : std::vector<Candidate>{};
      ++at;
    } else if (!is_option(words[at])) {
      ++position;
    }
  }
  return words.back().starts_with('-') ? options_of(app) : words_of(*command, position, names);
}

}  // namespace

std::vector<Candidate> complete(std::span<const std::string> words, const NameSource& names) {
  if (words.empty()) return verbs();
  auto found = fitting(words, names);
  std::erase_if(found, [&](const Candidate& candidate) { return !candidate.word.starts_with(words.back()); });
  return found;
}

}  // namespace taskpool::cli
