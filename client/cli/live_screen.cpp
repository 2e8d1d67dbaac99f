#include "client/cli/live_screen.hpp"

#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include "client/cli/output.hpp"

namespace taskpool::cli {
namespace {

/// Another page, no cursor, and lines that are too long end at the border.
constexpr std::string_view kEnter = "\x1b[?1049h\x1b[?25l\x1b[?7l";
constexpr std::string_view kLeave = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l";
constexpr std::array kEnding{SIGINT, SIGTERM, SIGHUP, SIGQUIT};

// A handler reaches nothing but globals, and calls nothing that is not async-signal-safe.
termios g_screen_before;
termios g_keys_before;
bool g_has_keys = false;
std::atomic<bool> g_taken{false};
std::atomic<bool> g_redraw{false};
static_assert(std::atomic<bool>::is_always_lock_free);

void write_all(std::string_view text) { (void)!::write(STDOUT_FILENO, text.data(), text.size()); }

/// Twice the same terminal, mostly.
void set_up_terminals() {
  auto screen = g_screen_before;
  // Ctrl-C sends the signal first and then throws away what was written: kLeave too, if that is quick enough.
  screen.c_lflag |= NOFLSH;
  ::tcsetattr(STDOUT_FILENO, TCSADRAIN, &screen);
  if (!g_has_keys) return;
  auto keys = g_keys_before;
  keys.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);  // Ctrl-C and Ctrl-Z stay signals
  keys.c_lflag |= NOFLSH;
  keys.c_cc[VMIN] = 1;
  keys.c_cc[VTIME] = 0;
  ::tcsetattr(STDIN_FILENO, TCSADRAIN, &keys);
}

void take() {
  set_up_terminals();
  g_taken = true;
  write_all(kEnter);
}

void give_back() {
  if (!g_taken.exchange(false)) return;
  write_all(kLeave);
  ::tcsetattr(STDOUT_FILENO, TCSADRAIN, &g_screen_before);
  if (g_has_keys) ::tcsetattr(STDIN_FILENO, TCSADRAIN, &g_keys_before);
}

extern "C" void on_ending(int number) {
  give_back();
  if (number == SIGINT) ::_exit(0);
  std::signal(number, SIG_DFL);
  ::raise(number);  // when this handler returns
}

void handle(int number, void (*handler)(int)) {
  struct sigaction action {};
  if (::sigaction(number, nullptr, &action) == 0 && action.sa_handler == SIG_IGN) return;
  action = {};
  action.sa_handler = handler;
  action.sa_flags = number == SIGWINCH || number == SIGCONT ? 0 : SA_RESTART;
  ::sigfillset(&action.sa_mask);
  ::sigaction(number, &action, nullptr);
}

extern "C" void on_stop(int) {
  const int saved = errno;
  give_back();
  std::signal(SIGTSTP, SIG_DFL);
  ::raise(SIGTSTP);
  sigset_t stop;
  ::sigemptyset(&stop);
  ::sigaddset(&stop, SIGTSTP);
  ::sigprocmask(SIG_UNBLOCK, &stop, nullptr);  // stops here, unless there is no shell to continue it
  ::sigprocmask(SIG_BLOCK, &stop, nullptr);
  handle(SIGTSTP, on_stop);
  take();
  g_redraw = true;
  errno = saved;
}

extern "C" void on_change(int number) {
  const int saved = errno;
  if (number == SIGCONT && g_taken) set_up_terminals();  // a shell that ran meanwhile may have changed it
  g_redraw = true;
  errno = saved;
}

}  // namespace

bool LiveScreen::is_possible() {
  const char* const terminal = std::getenv("TERM");
  return ::isatty(STDOUT_FILENO) == 1 && terminal != nullptr && *terminal != '\0' && std::strcmp(terminal, "dumb") != 0;
}

LiveScreen::LiveScreen() : hears_keys_{::isatty(STDIN_FILENO) == 1 && ::tcgetattr(STDIN_FILENO, &g_keys_before) == 0} {
  ::tcgetattr(STDOUT_FILENO, &g_screen_before);  // is_possible() has seen that it is a terminal
  g_has_keys = hears_keys_;
  g_redraw = false;
  for (const int number : kEnding) handle(number, on_ending);
  handle(SIGTSTP, on_stop);
  // These are let in while wait() waits, and at no other time: none comes between its look and its sleep.
  sigset_t changes;
  ::sigemptyset(&changes);
  ::sigaddset(&changes, SIGWINCH);
  ::sigaddset(&changes, SIGCONT);
  ::sigprocmask(SIG_BLOCK, &changes, nullptr);
  handle(SIGWINCH, on_change);
  handle(SIGCONT, on_change);
  take();
}

LiveScreen::~LiveScreen() {
  give_back();
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGWINCH, SIGCONT}) std::signal(number, SIG_DFL);
}

LiveScreen::Size LiveScreen::size() const {
  winsize size{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0) return {24, 80};
  return {size.ws_row, size.ws_col};
}

Result<void> LiveScreen::draw(const std::vector<TopLine>& lines, std::string_view footer) {
  const auto [rows, columns] = size();
  std::string text = "\x1b[H";
  for (std::size_t row = 0; row + 1 < rows; ++row) {
    const auto* const line = row < lines.size() ? &lines[row] : nullptr;
    text += "\x1b[K";  // first: behind a full line it would take its last character
    if (line != nullptr)
      text += line->is_heading ? "\x1b[1m" + cut(line->text, columns) + "\x1b[0m" : cut(line->text, columns);
    text += "\r\n";
  }
  const auto last = cut(footer, columns);
  text += "\x1b[7m" + last + std::string(columns - display_width(last), ' ') + "\x1b[0m";
  Writer out{STDOUT_FILENO};
  if (auto written = out.write(text); !written) return written;
  return out.flush();
}

LiveScreen::Heard LiveScreen::wait(std::chrono::milliseconds time) {
  sigset_t none;
  ::sigemptyset(&none);
  if (g_redraw.exchange(false)) return {Event::redraw};
  pollfd keys{hears_keys_ ? STDIN_FILENO : -1, POLLIN, 0};
  const auto ms = std::max<std::int64_t>(time.count(), 0);
  const timespec limit{ms / 1000, ms % 1000 * 1'000'000};
  const int ready = ::ppoll(&keys, 1, &limit, &none);
  if (g_redraw.exchange(false)) return {Event::redraw};
  if (ready <= 0) return {Event::time};
  char key = 0;
  const auto count = ::read(STDIN_FILENO, &key, 1);
  if (count == 1) return {Event::key, key};
  return {count < 0 && (errno == EINTR || errno == EAGAIN) ? Event::time : Event::end};
}

}  // namespace taskpool::cli
