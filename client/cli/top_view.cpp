#include "client/cli/top_view.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <span>

#include "client/cli/output.hpp"
#include "client/cli/rows.hpp"

namespace taskpool::cli {
namespace {

using nlohmann::json;

struct SortName {
  TopSort sort;
  std::string_view name;  ///< Its first letter is its key.
};
constexpr std::array kSorts{SortName{TopSort::run, "run"}, SortName{TopSort::done, "done"},
                            SortName{TopSort::memory, "memory"}, SortName{TopSort::pool, "pool"},
                            SortName{TopSort::worker, "worker"}};

/// No name is cut below this. Columns.
constexpr std::size_t kLeastName = 6;
/// The pools leave the workers at least so many lines, if there are so many.
constexpr std::size_t kLeastWorkers = 6;

constexpr std::array kPoolFields{Field{"POOL", "pool"},
                                 Field{"WORKERS", "workers", Shows::number},
                                 Field{"BUSY", "busy", Shows::number},
                                 Field{"QUEUED", "queued_tasks", Shows::number},
                                 Field{"OLDEST", "oldest_ms", Shows::time},
                                 Field{"TASKS/S", "rate"},
                                 Field{"FAILED/S", "failed_rate"},
                                 Field{"RESTARTS", "worker_restarts", Shows::number},
                                 Field{"STATE", "state"}};
constexpr std::array kWorkerFields{Field{"WORKER", "worker", Shows::number},
                                   Field{"PID", "pid", Shows::number},
                                   Field{"POOL", "pool"},
                                   Field{"STATE", "state"},
                                   Field{"RUN", "run_ms", Shows::time},
                                   Field{"DONE", "tasks_done", Shows::number},
                                   Field{"RSS", "rss_bytes", Shows::bytes},
                                   Field{"FOR", "uid", Shows::user},
                                   Field{"TASK", "task"},
                                   Field{"FUNCTION", "function"}};

bool is_right_aligned(const Field& field) {
  const std::string_view key = field.key;
  return (field.shows != Shows::text && field.shows != Shows::user) || key == "rate" || key == "failed_rate";
}

std::uint64_t counter(const json& stats, std::string_view name) {
  if (const auto counters = stats.find("counters"); counters != stats.end())
    for (const auto& row : *counters)
      if (row.value("name", "") == name) return row.value("value", std::uint64_t{0});
  return 0;
}

/// Growth a second; nothing if a counter went back, as it does when the daemon was started anew.
std::optional<double> rate(std::uint64_t now, std::uint64_t before, std::chrono::duration<double> time) {
  if (now < before || time.count() <= 0) return std::nullopt;
  return static_cast<double>(now - before) / time.count();
}

std::string rate_text(std::optional<double> rate) {
  if (!rate) return "-";
  if (*rate >= 1e6) return fmt::format("{:.1f}M", *rate / 1e6);
  if (*rate >= 1e4) return fmt::format("{:.0f}k", *rate / 1e3);
  return *rate == 0 || *rate >= 10 ? fmt::format("{:.0f}", *rate) : fmt::format("{:.1f}", *rate);
}

/// Two samples as one, for what is told by comparing them.
class Comparison {
 public:
  Comparison(const TopSample& now, const TopSample* before) : now_{now}, before_{before} {
    if (before_ != nullptr) time_ = now.taken - before->taken;
  }
  std::string rate_of(std::string_view name) const {
    if (before_ == nullptr) return "-";
    return rate_text(rate(counter(now_.stats, name), counter(before_->stats, name), time_));
  }
  std::string rate_of(const json& pool, const char* key) const {
    if (before_ == nullptr) return "-";
    const auto id = [](const json& row) {
      return std::pair{row.value("pool", ""), row.value("owner_session", std::uint64_t{0})};
    };
    for (const auto& row : before_->pools)
      if (id(row) == id(pool))
        return rate_text(rate(pool.value(key, std::uint64_t{0}), row.value(key, std::uint64_t{0}), time_));
    return "-";
  }

 private:
  const TopSample& now_;
  const TopSample* before_;
  std::chrono::duration<double> time_{0};
};

std::string state_of(const json& pool) {
  if (pool.value("draining", false)) return "closing";
  if (!pool.value("up", true)) return "failing: " + pool.value("last_error", "");
  if (pool.value("paused", false)) return "paused";
  return "ok";
}

/// Rows as lines of the same columns; where they are too wide, the widest names are cut.
std::vector<TopLine> table(const json& rows, std::span<const Field> fields, std::size_t columns) {
  std::vector<std::vector<std::string>> cells(rows.size() + 1);
  for (const auto& field : fields) cells[0].emplace_back(field.heading);
  for (std::size_t row = 0; row < rows.size(); ++row)
    for (const auto& field : fields) cells[row + 1].push_back(printable(cell_text(rows[row], field)));
  std::vector<std::size_t> widths(fields.size(), 0);
  for (const auto& row : cells)
    for (std::size_t at = 0; at < fields.size(); ++at) widths[at] = std::max(widths[at], display_width(row[at]));
  const auto total = [&] { return std::accumulate(widths.begin(), widths.end(), 2 * (fields.size() - 1)); };
  while (columns > 0 && total() > columns) {
    auto* widest = static_cast<std::size_t*>(nullptr);
    for (std::size_t at = 0; at < fields.size(); ++at)
      if (!is_right_aligned(fields[at]) && widths[at] > kLeastName && (widest == nullptr || widths[at] > *widest))
        widest = &widths[at];
    if (widest == nullptr) break;
    --*widest;
  }
  std::vector<TopLine> lines;
  for (const auto& row : cells) {
    std::string line;
    for (std::size_t at = 0; at < fields.size(); ++at) {
      const auto text = cut(row[at], widths[at]);
      const std::string padding(widths[at] - display_width(text), ' ');
      if (at > 0) line += "  ";
      line += is_right_aligned(fields[at]) ? padding + text : text + padding;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    lines.push_back({columns > 0 ? cut(line, columns) : line, lines.empty()});
  }
  return lines;
}

void sort_workers(std::vector<json>& workers, const TopOptions& options) {
  const auto number = [](const json& row, const char* key) { return row.value(key, std::int64_t{-1}); };
  const auto goes_before = [&](const json& a, const json& b) {
    switch (options.sort) {
      case TopSort::run: return number(a, "run_ms") > number(b, "run_ms");
      case TopSort::done: return number(a, "tasks_done") > number(b, "tasks_done");
      case TopSort::memory: return number(a, "rss_bytes") > number(b, "rss_bytes");
      case TopSort::pool: return a.value("pool", "") < b.value("pool", "");
      case TopSort::worker: break;
    }
    return number(a, "worker") < number(b, "worker");
  };
  const auto by_number = [&](const json& a, const json& b) { return number(a, "worker") < number(b, "worker"); };
  std::stable_sort(workers.begin(), workers.end(), by_number);
  std::stable_sort(workers.begin(), workers.end(), [&](const json& a, const json& b) {
    return options.reversed ? goes_before(b, a) : goes_before(a, b);
  });
}

/// Keeps the heading and what fits below it; the last line says how much is left out.
void keep(std::vector<TopLine>& lines, std::size_t most, std::string_view what) {
  if (lines.size() <= most) return;
  const auto shown = most < 2 ? 0 : most - 2;  // beside the heading and that line
  const auto left_out = lines.size() - 1 - shown;
  lines.resize(most < 2 ? most : shown + 1);
  if (most >= 2) lines.push_back({fmt::format("({} more {})", left_out, what)});
}

}  // namespace

std::vector<std::string> top_sort_names() {
  std::vector<std::string> names;
  for (const auto& [sort, name] : kSorts) names.emplace_back(name);
  return names;
}

std::optional<TopSort> find_top_sort(std::string_view wanted) {
  for (const auto& [sort, name] : kSorts)
    if (name == wanted) return sort;
  return std::nullopt;
}

std::optional<TopSort> top_sort_of_key(char key) {
  for (const auto& [sort, name] : kSorts)
    if (name[0] == key) return sort;
  return std::nullopt;
}

std::string cut(std::string_view text, std::size_t columns) {
  if (display_width(text) <= columns) return std::string{text};
  if (columns == 0) return {};
  std::size_t end = 0;
  for (std::size_t width = 0; end < text.size(); ++end)
    if ((static_cast<unsigned char>(text[end]) & 0xc0) != 0x80 && ++width == columns) break;
  return std::string{text.substr(0, end)} + "+";
}

std::vector<TopLine> top_lines(const TopSample& now, const TopSample* before, const TopOptions& options) {
  const Comparison compared{now, before};
  const auto& stats = now.stats;
  const auto of = [&](std::string_view name) { return counter(stats, name); };
  std::vector<TopLine> lines;
  lines.push_back({fmt::format("taskpoold {} pid {} {}, up {}, {} sessions, {}", stats.value("version", "?"),
                               stats.value("pid", 0), stats.value("state", "up"),
                               human_duration(std::chrono::milliseconds{stats.value("uptime_ms", std::int64_t{0})}),
                               of("sessions_open"), human_bytes(stats.value("rss_bytes", std::uint64_t{0})))});
  lines.push_back(
      {fmt::format("tasks: {}/s done, {}/s failed; {} waiting, {} running", compared.rate_of("tasks_succeeded_total"),
                   compared.rate_of("tasks_failed_total"), of("tasks_waiting"), of("tasks_running"))});
  lines.push_back({fmt::format("store: {} of {} used by {} objects; {}/s operations, {} waiting",
                               human_bytes(of("store_live_bytes")), human_bytes(of("store_bytes")), of("store_objects"),
                               compared.rate_of("store_operations_total"), of("store_waiting"))});
  lines.push_back({""});

  json pools = json::array();
  for (auto pool : now.pools) {
    pool["rate"] = compared.rate_of(pool, "ended_tasks");
    pool["failed_rate"] = compared.rate_of(pool, "failed_tasks");
    pool["state"] = state_of(pool);
    pools.push_back(std::move(pool));
  }
  std::vector<json> sorted{now.workers.begin(), now.workers.end()};
  sort_workers(sorted, options);
  json workers = json::array();
  for (auto& worker : sorted) workers.push_back(std::move(worker));
  auto pool_lines = table(pools, kPoolFields, options.columns);
  auto worker_lines = table(workers, kWorkerFields, options.columns);
  if (options.rows > 0) {
    const auto room =
        options.rows > lines.size() + 1 ? options.rows - lines.size() - 1 : 0;  // 1: the line between them
    const auto for_workers = std::min(worker_lines.size(), std::min(kLeastWorkers + 1, room));
    keep(pool_lines, room - for_workers, "pools");
    keep(worker_lines, room - pool_lines.size(), "workers");
  }
  lines.insert(lines.end(), pool_lines.begin(), pool_lines.end());
  lines.push_back({""});
  lines.insert(lines.end(), worker_lines.begin(), worker_lines.end());
  for (auto& line : lines) {
    line.text = printable(line.text);
    if (options.columns > 0) line.text = cut(line.text, options.columns);
  }
  if (options.rows > 0 && lines.size() > options.rows) lines.resize(options.rows);
  return lines;
}

}  // namespace taskpool::cli
