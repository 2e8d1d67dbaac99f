#pragma once

#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// What `taskpool top` shows, as lines of text: no terminal, no clock.
namespace taskpool::cli {

/// What the daemon said at one moment: its replies to `stats`, `pools` and `workers`.
struct TopSample {
  nlohmann::json stats;
  nlohmann::json pools;
  nlohmann::json workers;
  std::chrono::steady_clock::time_point taken{};
};

/// The order of the workers. The first is the default: what has run longest stands first.
enum class TopSort { run, done, memory, pool, worker };
/// "run", ...; of the flag --sort.
std::vector<std::string> top_sort_names();
std::optional<TopSort> find_top_sort(std::string_view name);
/// The key of the keyboard that chooses it, and the other way round.
std::optional<TopSort> top_sort_of_key(char key);

struct TopOptions {
  TopSort sort = TopSort::run;
  bool reversed = false;
  std::size_t columns = 0;  ///< 0: as many as it takes; else nothing is longer, and long names are cut.
  std::size_t rows = 0;     ///< 0: as many as it takes.
};

struct TopLine {
  std::string text;
  bool is_heading = false;
};

/// The screen, from the top. `before`, if there is one, gives rates.
std::vector<TopLine> top_lines(const TopSample& now, const TopSample* before, const TopOptions& options);

/// At most so many columns of a text that is printable already; a "+" at the end says that something was cut.
std::string cut(std::string_view text, std::size_t columns);

}  // namespace taskpool::cli
