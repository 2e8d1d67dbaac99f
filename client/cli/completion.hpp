#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "client/cli/commands.hpp"

namespace taskpool::cli {

/// A word that fits, and what it means.
struct Candidate {
  std::string word;
  std::string description;
};

/// Where names come from that only the daemon knows.
using NameSource = std::function<std::vector<Candidate>(Completes)>;

/// What may stand in the place of the last of `words`, which may be empty; the words before it are the command line so
/// far, without the program's name. Nothing means: file names, or nobody knows.
std::vector<Candidate> complete(std::span<const std::string> words, const NameSource& names);

/// The completion script for "bash", "zsh" or "fish"; empty for another shell.
std::string_view completion_script(std::string_view shell);

}  // namespace taskpool::cli
