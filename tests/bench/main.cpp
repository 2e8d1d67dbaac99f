#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

#include "tests/bench/figures.hpp"

namespace {

using taskpool::bench::kFigures;

constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;

int usage(bool asked) {
  auto* const out = asked ? stdout : stderr;
  std::fputs("taskpool-bench [FIGURE...] [--only MEASURE]... [--json]: measures taskpool beside its floors and peers; "
             "all figures\n"
             "by default. --only: those measures of `python`\n\n",
             out);
  for (const auto& figure : kFigures)
    std::fprintf(out, "  %-14s %s\n", std::string{figure.name}.c_str(), std::string{figure.what}.c_str());
  return asked ? 0 : kExitUsage;
}

}  // namespace

int main(int argc, char** argv) {
  bool json = false;
  std::vector<std::string_view> wanted;
  std::vector<std::string> measures;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    const auto is_it = [word](const auto& figure) { return figure.name == word; };
    if (word == "--help" || word == "-h") return usage(true);
    if (word == "--json")
      json = true;
    else if (word == "--only" && i + 1 < argc)
      measures.emplace_back(argv[++i]);
    else if (std::any_of(kFigures.begin(), kFigures.end(), is_it))
      wanted.push_back(word);
    else
      return usage(false);
  }
  taskpool::bench::Report report{json, std::move(measures)};
  for (const auto& figure : kFigures) {
    if (!wanted.empty() && std::find(wanted.begin(), wanted.end(), figure.name) == wanted.end()) continue;
    try {
      figure.run(report);
    } catch (const std::exception& error) {
      report.fail(std::string{figure.name}, error.what());
    }
  }
  return report.failed() == 0 ? 0 : kExitFailed;  // a goal that is missed is a result, not an error
}
