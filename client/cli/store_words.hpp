#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "client/cli/arguments.hpp"
#include "client/cli/session.hpp"
#include "taskpool/objects.hpp"

/// What the commands about objects of the store have in common: `taskpool TYPE NAME ACTION [WORD...]`.
namespace taskpool::cli {

/// Keys and values as the command line has them: by JSON, values with their encoding.
using Entries = Dict<nlohmann::json, Body>;

/// A word as a key or a value: JSON where it is JSON, else text, so that `set apples 3` means what it says. Error:
/// `bad_argument` for what begins as a JSON text, list or object and is none, and for text that is not UTF-8. With
/// Format::text everything is text.
Result<nlohmann::json> parse_word(std::string_view word, Format format);
/// The value of a word, ready to be stored.
Result<Body> value_of(std::string_view word, Format format);
/// A whole number. Error: `bad_argument`.
Result<std::int64_t> parse_integer(std::string_view word);
/// A key as a line of output.
std::string key_text(const nlohmann::json& key, Format format);

/// The options that they share.
struct StoreFlags {
  ObjectOptions options;
  Format format = Format::json;

  void define(CLI::App& app);
};

/// What an action is given.
struct ActionCall {
  const Client& client;
  const Invocation& invocation;
  const std::string& name;             ///< The object's.
  std::span<const std::string> words;  ///< After the action.
  ObjectOptions options;               ///< For opening it.
  const StoreFlags& flags;

  bool json() const { return invocation.globals.json; }
};

/// One action on an object of a type.
struct Action {
  std::string_view name;
  std::string_view words;  ///< "KEY VALUE", for people.
  std::size_t least;       ///< Words that it needs,
  std::size_t most;        ///< and takes.
  /// Whether it makes the object if it is not there; what only looks does not.
  bool makes;
  std::function<Result<int>(const ActionCall&)> run;
};

/// Runs `taskpool TYPE NAME ACTION ...` by a table of actions. Throws UsageError.
Result<int> run_action(const Invocation& invocation, const StoreFlags& flags, std::span<const Action> actions);

/// The names of a command's actions, for completion; empty for other commands.
std::span<const std::string_view> action_names(std::string_view command);

/// A stored value as render() has it, and a number that is stored as such as a number: Python's are.
Result<std::string> render_value(const Body& value, Format format);
/// Prints a line.
Result<int> print_line(const std::string& text);
/// Prints a value; nothing is an error, `unknown_key` with that detail.
Result<int> print_value(const Result<std::optional<Body>>& value, Format format, const std::string& missing);
/// Prints values: a line each, or with --json one list.
Result<int> print_values(const std::vector<Body>& values, const ActionCall& call);
/// Done, or the error.
template <class T>
Result<int> finished(const Result<T>& result) {
  if (!result) return result.error();
  return kDone;
}
/// Done, or failed because it is not so.
inline Result<int> finished_if(const Result<bool>& result) {
  if (!result) return result.error();
  return *result ? kDone : kFailed;
}
/// Prints the changes of an object as they come, until it is gone.
Result<int> print_changes(const Result<Watch>& watch, const ActionCall& call);

/// How many words an action takes that takes any number.
inline constexpr std::size_t kManyWords = 100'000;

}  // namespace taskpool::cli
