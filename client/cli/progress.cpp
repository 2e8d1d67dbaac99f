#include "client/cli/progress.hpp"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <string_view>

#include "client/cli/output.hpp"

namespace taskpool::cli {
namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

/// Reading speed, and slow enough to cost nothing.
constexpr std::chrono::milliseconds kRedraw{100};
/// After this long a change of speed has shown to 63 %.
constexpr Seconds kMemory{5};
constexpr std::size_t kLeastBar = 10;  ///< Columns; a shorter bar says nothing.
constexpr std::size_t kMostBar = 40;

std::string rate_text(double per_second) {
  if (per_second >= 1e6) return fmt::format("{:.1f}M/s", per_second / 1e6);
  if (per_second >= 1e4) return fmt::format("{:.0f}k/s", per_second / 1e3);
  return per_second >= 10 ? fmt::format("{:.0f}/s", per_second) : fmt::format("{:.1f}/s", per_second);
}

/// The terminal is asked each time: cheaper and more certain than following SIGWINCH.
std::size_t terminal_width(int fd) {
  winsize size{};
  return ::ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

/// A terminal that is gone is no reason to stop the work.
void write_quietly(int fd, std::string_view text) { (void)!::write(fd, text.data(), text.size()); }

}  // namespace

void RateEstimate::update(Time now, std::uint64_t done) {
  const auto elapsed = std::chrono::duration_cast<Seconds>(now - last_);
  if (elapsed.count() <= 0 || done < last_done_) return;
  const auto current = static_cast<double>(done - last_done_) / elapsed.count();
  if (!has_rate_ && done == 0) return;  // before the first result there is a delay but no rate
  const double weight = has_rate_ ? 1 - std::exp(-elapsed / kMemory) : 1;
  rate_ += weight * (current - rate_);
  has_rate_ = true;
  last_ = now;
  last_done_ = done;
}

std::optional<std::chrono::milliseconds> RateEstimate::remaining(const Counts& counts) const {
  if (!counts.total || rate_ <= 0) return std::nullopt;
  const auto left = counts.done < *counts.total ? *counts.total - counts.done : 0;
  const auto ms = std::min(1000 * static_cast<double>(left) / rate_, 1e15);
  return std::chrono::milliseconds{static_cast<std::int64_t>(ms)};
}

std::string progress_line(const Counts& counts, const RateEstimate& rate, std::size_t width) {
  std::string text;
  double part = 0;
  if (counts.total) {
    part =
        *counts.total == 0 ? 1 : std::min(1.0, static_cast<double>(counts.done) / static_cast<double>(*counts.total));
    text = fmt::format("{}/{} {}%", counts.done, *counts.total, static_cast<int>(part * 100));
  } else {
    text = fmt::format("{} done", counts.done);
  }
  if (rate.per_second() > 0) text += "  " + rate_text(rate.per_second());
  if (const auto left = rate.remaining(counts)) text += "  " + human_duration(*left) + " left";
  if (counts.failed > 0) text += fmt::format("  {} failed", counts.failed);
  if (text.size() > width) text.resize(width);

  const auto room = width - text.size();
  if (!counts.total || room < kLeastBar + 3) return text;
  const auto bar = std::min(room - 3, kMostBar);  // 3: the brackets and a blank
  const auto full = static_cast<std::size_t>(part * static_cast<double>(bar));
  return "[" + std::string(full, '#') + std::string(bar - full, ' ') + "] " + text;
}

ProgressBar::ProgressBar(int fd, bool enabled)
    : fd_{fd}, enabled_{enabled}, rate_{Clock::now()}, next_{Clock::now() + kRedraw} {}

void ProgressBar::update(const Counts& counts) {
  if (!enabled_) return;
  const auto now = Clock::now();
  if (now < next_) return;
  next_ = now + kRedraw;
  rate_.update(now, counts.done);
  // One column stays free: a terminal that has written its last one may wrap, and \r then leads to the wrong line.
  write_quietly(fd_, "\r\x1b[K" + progress_line(counts, rate_, terminal_width(fd_) - 1));
  drawn_ = true;
}

void ProgressBar::clear() {
  if (!drawn_) return;
  write_quietly(fd_, "\r\x1b[K");
  drawn_ = false;
}

}  // namespace taskpool::cli
