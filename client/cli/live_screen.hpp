#pragma once

#include <chrono>
#include <string_view>
#include <vector>

#include "client/cli/top_view.hpp"

namespace taskpool::cli {

/// A terminal's screen, taken over for as long as this lives: lines are drawn on a page of their own, keys come one by
/// one. The terminal is as it was afterwards, also when a signal ends the program: SIGINT ends it with exit code 0,
/// others as they always do. Ctrl-Z gives the terminal back meanwhile. At most one of these lives at a time, because
/// signal handlers belong to the process.
class LiveScreen {
 public:
  LiveScreen();
  ~LiveScreen();
  LiveScreen(const LiveScreen&) = delete;
  LiveScreen& operator=(const LiveScreen&) = delete;

  /// True if standard output is a terminal that understands this.
  static bool is_possible();

  struct Size {
    std::size_t rows;
    std::size_t columns;
  };
  Size size() const;
  /// Draws the lines from the top, headings marked, and `footer` in the last row. Error: `system`, when the terminal
  /// has gone.
  Result<void> draw(const std::vector<TopLine>& lines, std::string_view footer);

  enum class Event { key, time, redraw, end };
  struct Heard {
    Event event;
    char key = 0;
  };
  /// Waits for a key, a change of the size, the end of the terminal, or that so much time has passed.
  Heard wait(std::chrono::milliseconds time);

 private:
  bool hears_keys_;
};

}  // namespace taskpool::cli
