#include "daemon/server/near_names.hpp"

#include <algorithm>
#include <numeric>

namespace taskpool::server {

namespace {

/// Letters to change, add or leave out to make one of the other (Levenshtein).
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const auto changed = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({changed, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row.back();
}

constexpr std::size_t kMaxCompared = 64;  // bytes of a name; longer ones are nobody's typing mistake

}  // namespace

std::string near_names(std::string_view wrong, const std::vector<std::string>& names) {
  if (wrong.size() > kMaxCompared) return {};
  std::vector<std::pair<std::size_t, std::string>> near;
  for (const auto& name : names) {
    if (name.size() > kMaxCompared) continue;
    const auto far = distance(wrong, name);
    if (far <= std::max<std::size_t>(2, wrong.size() / 3)) near.emplace_back(far, name);
  }
  std::sort(near.begin(), near.end());
  if (near.size() > 3) near.resize(3);
  std::string text;
  for (const auto& [far, name] : near) text += (text.empty() ? "; did you mean '" : "' or '") + name;
  return text.empty() ? text : text + "'?";
}

}  // namespace taskpool::server
