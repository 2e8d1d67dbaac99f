#include <fmt/format.h>

#include <memory>

#include "client/cli/live_screen.hpp"
#include "client/cli/session.hpp"
#include "client/cli/top_view.hpp"

/// `taskpool top`.
namespace taskpool::cli {
namespace {

using Clock = std::chrono::steady_clock;
using nlohmann::json;

constexpr std::chrono::milliseconds kShortestInterval{100};

struct Options {
  bool once = false;
  std::chrono::milliseconds interval{1000};
  std::string sort = "run";
};

Result<TopSample> take_sample(const Client& client) {
  auto stats = client.stats();
  if (!stats) return stats.error();
  const auto pools = client.pools();
  if (!pools) return pools.error();
  const auto workers = client.workers();
  if (!workers) return workers.error();
  return TopSample{std::move(*stats), pools->value("pools", json::array()), workers->value("workers", json::array()),
                   Clock::now()};
}

std::string footer(const TopOptions& options) {
  std::string text = "q quit  sort:";
  for (const auto& name : top_sort_names())
    text += find_top_sort(name) == options.sort ? " [" + name + "]" : " " + name;
  return text + (options.reversed ? "  reversed" : "  again: reverse");
}

/// What a key does; true: that was all.
bool press(char key, TopOptions& options) {
  if (key == 'q' || key == 'Q') return true;
  if (const auto sort = top_sort_of_key(key)) {
    options.reversed = *sort == options.sort && !options.reversed;
    options.sort = *sort;
  }
  return false;
}

Result<int> watch(const Client& client, TopOptions options, std::chrono::milliseconds interval) {
  auto now = take_sample(client);
  if (!now) return now.error();
  std::optional<TopSample> before;
  LiveScreen screen;
  for (;;) {
    const auto size = screen.size();
    options.columns = size.columns;
    options.rows = size.rows - 1;
    if (auto drawn = screen.draw(top_lines(*now, before ? &*before : nullptr, options), footer(options)); !drawn)
      return drawn.error();
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(now->taken + interval - Clock::now());
    const auto heard = left.count() > 0 ? screen.wait(left) : LiveScreen::Heard{LiveScreen::Event::time};
    if (heard.event == LiveScreen::Event::end) return kDone;
    if (heard.event == LiveScreen::Event::key && press(heard.key, options)) return kDone;
    if (Clock::now() < now->taken + interval) continue;
    auto next = take_sample(client);
    if (!next) return next.error();
    before = std::exchange(*now, std::move(*next));
  }
}

}  // namespace

Run define_top(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_flag("--once", options->once, "Print one sample as text, and end");
  app.add_option("--sort", options->sort, "Order of the workers: run (default), done, memory, pool or worker")
      ->type_name("KEY")
      ->check(CLI::IsMember(top_sort_names()));
  add_duration(
      app, "--interval", [options](auto time) { options->interval = time; }, "Time between samples (1s)");
  return [options](const Invocation& invocation) -> Result<int> {
    invocation.expect_words(0, 0);
    if (options->interval < kShortestInterval)
      throw UsageError(fmt::format("--interval: at least {} ms", kShortestInterval.count()));
    const auto client = connect(invocation.globals, Autostart::no);
    if (!client) return client.error();
    TopOptions shown;
    shown.sort = find_top_sort(options->sort).value_or(TopSort::run);
    if (!invocation.globals.json && !options->once && LiveScreen::is_possible())
      return watch(*client, shown, options->interval);
    const auto sample = take_sample(*client);
    if (!sample) return sample.error();
    std::string text;
    if (invocation.globals.json)
      text = json{{"stats", sample->stats}, {"pools", sample->pools}, {"workers", sample->workers}}.dump() + "\n";
    else
      for (const auto& line : top_lines(*sample, nullptr, shown)) text += line.text + "\n";
    if (auto printed = print(text); !printed) return printed.error();
    return kDone;
  };
}

}  // namespace taskpool::cli
