#include "daemon/server/metrics_page.hpp"

#include <fmt/core.h>

#include <charconv>

#include "proto/build_id.hpp"
#include "proto/fields.hpp"
#include "proto/version.hpp"

namespace taskpool::server {

namespace {

constexpr std::string_view kPrefix = "taskpool_";

/// What no counter and no series says: of the process as a whole.
enum class Own : std::uint8_t { build, uptime, resident, draining, count_ };
constexpr std::size_t kOwn = static_cast<std::size_t>(Own::count_);

void append(std::string& page, std::uint64_t number) {
  std::array<char, 20> digits;
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr;
  page.append(digits.data(), end);
}

/// Nanoseconds as seconds, with nine digits behind the point.
void append_seconds(std::string& page, std::uint64_t ns) {
  append(page, ns / 1'000'000'000);
  std::array<char, 10> digits{'.'};
  for (auto [at, rest] = std::pair{digits.size() - 1, ns % 1'000'000'000}; at > 0; --at, rest /= 10)
    digits[at] = static_cast<char>('0' + rest % 10);
  page.append(digits.data(), digits.size());
}

void append_head(std::string& page, std::string_view name, std::string_view kind, std::string_view help) {
  for (const auto& [word, text] : {std::pair{"# HELP ", help}, std::pair{"# TYPE ", kind}}) {
    page += word;
    page += kPrefix;
    page += name;
    page += ' ';
    page += text;
    page += '\n';
  }
}

/// Writes the lines of one series.
class Lines {
 public:
  Lines(std::string& page, const SeriesInfo& info) : page_{page}, info_{info} {}

  using Labels = std::array<std::string_view, 2>;
  void value(const Labels& labels, std::uint64_t number) {
    begin("", labels);
    append(page_, number);
    page_ += '\n';
  }
  void seconds(const Labels& labels, std::chrono::nanoseconds time) {
    begin("", labels);
    append_seconds(page_, static_cast<std::uint64_t>(std::max<std::int64_t>(time.count(), 0)));
    page_ += '\n';
  }
  void histogram(const Labels& labels, const DurationHistogram& histogram) {
    std::uint64_t below = 0;
    for (std::size_t at = 0; at < histogram.classes().size(); ++at) {
      below += histogram.classes()[at];
      begin("_bucket", labels, at < DurationHistogram::kBounds.size() ? DurationHistogram::kBounds[at].text : "+Inf");
      append(page_, below);
      page_ += '\n';
    }
    begin("_sum", labels);
    append_seconds(page_, histogram.sum_ns());
    page_ += '\n';
    begin("_count", labels);
    append(page_, below);
    page_ += '\n';
  }

 private:
  void begin(std::string_view suffix, const Labels& labels, std::string_view bound = {}) {
    page_ += kPrefix;
    page_ += info_.name;
    page_ += suffix;
    char before = '{';
    const auto label = [&](std::string_view key, std::string_view text) {
      page_ += before;
      page_ += key;
      page_ += "=\"";
      page_ += text;
      page_ += '"';
      before = ',';
    };
    for (std::size_t at = 0; at < labels.size(); ++at) {
      if (info_.labels[at].empty()) continue;
      if (labels[at].find_first_of("\\\"\n") == labels[at].npos && is_ascii(labels[at]))
        label(info_.labels[at], labels[at]);
      else
        label(info_.labels[at], escape_label(labels[at]));
    }
    if (!bound.empty()) label("le", bound);
    if (before == ',') page_ += '}';
    page_ += ' ';
  }
  static bool is_ascii(std::string_view text) {
    return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
  }

  std::string& page_;
  const SeriesInfo& info_;
};

void append_own(std::string& page, const Snapshot& snapshot, Own own) {
  switch (own) {
    case Own::build:
      append_head(page, "build_info", "gauge", "1, with the version and the build of this daemon");
      page +=
          fmt::format("{}build_info{{version=\"{}\",build=\"{}\"}} 1\n", kPrefix, kVersion, escape_label(build_id()));
      return;
    case Own::uptime:
      append_head(page, "uptime_seconds", "gauge", "time since the daemon's start");
      page += fmt::format("{}uptime_seconds {}.{:03}\n", kPrefix, snapshot.uptime.count() / 1000,
                          snapshot.uptime.count() % 1000);
      return;
    case Own::resident:
      append_head(page, "resident_bytes", "gauge", "memory of the daemon itself");
      page += fmt::format("{}resident_bytes {}\n", kPrefix, snapshot.resident_bytes);
      return;
    case Own::draining:
      append_head(page, "draining", "gauge", "1 if the daemon takes no new work any more");
      page += fmt::format("{}draining {}\n", kPrefix, snapshot.is_draining ? 1 : 0);
      return;
    case Own::count_: return;
  }
}

}  // namespace

std::string escape_label(std::string_view value) {
  std::string out;
  const auto repaired = parse_json(dump_json(std::string{value}));
  for (const char c : repaired && repaired->is_string() ? repaired->get_ref<const std::string&>() : std::string{}) {
    if (c == '\n')
      out += "\\n";
    else if (c == '"' || c == '\\')
      (out += '\\') += c;
    else
      out += c;
  }
  return out;
}

std::size_t metrics_page_parts() { return kOwn + kMetrics.size() + kSeries.size(); }

void append_metrics_part(std::string& page, const Snapshot& snapshot, std::size_t part) {
  if (part < kOwn) return append_own(page, snapshot, static_cast<Own>(part));
  part -= kOwn;
  if (part < kMetrics.size()) {
    const auto& info = kMetrics[part];
    append_head(page, info.name, info.counts ? "counter" : "gauge", info.help);
    page += kPrefix;
    page += info.name;
    page += ' ';
    append(page, snapshot.metrics.*info.value);
    page += '\n';
    return;
  }
  const auto& info = kSeries[part - kMetrics.size()];
  append_head(page, info.name, name(info.kind), info.help);
  visit(snapshot, info.series, Lines{page, info});
}

}  // namespace taskpool::server
