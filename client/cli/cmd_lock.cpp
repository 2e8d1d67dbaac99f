#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstring>

#include "client/cli/interrupts.hpp"
#include "client/cli/store_words.hpp"

extern char** environ;  // NOLINT: POSIX's name

/// The commands that run another one while they hold something, and those about events.
namespace taskpool::cli {
namespace {

/// What flock(1) ends with when it cannot run the command.
constexpr int kCannotRun = 69;
/// How often the session is looked after while the command runs: a daemon that comes back gives the lock only to a
/// session that asks for it in time.
constexpr std::chrono::seconds kKeepAlive{1};

struct LockFlags {
  ObjectOptions options;
  Patience patience;
  int conflict_exit_code = kFailed;
  std::uint64_t units = 1;

  void define(CLI::App& app) {
    app.add_option("-g,--group", options.group, "The one that this Unix group shares, not one's own")
        ->type_name("GROUP");
    add_duration(
        app, "-w,--timeout", [this](auto time) { patience = Patience::up_to(time); }, "Give up after this time");
    app.add_flag_callback(
        "-n,--nonblock", [this] { patience = Patience::none(); }, "Give up at once");
    app.add_option("-E,--conflict-exit-code", conflict_exit_code, "What to end with then (1)")
        ->type_name("N")
        ->check(CLI::Range(0, 255));
  }
};

/// Signals that end this program are the command's to act on: it holds the lock as long as the command runs.
class SignalsIgnored {
 public:
  SignalsIgnored() {
    for (std::size_t i = 0; i < kSignals.size(); ++i) before_[i] = std::signal(kSignals[i], SIG_IGN);
  }
  ~SignalsIgnored() {
    for (std::size_t i = 0; i < kSignals.size(); ++i) std::signal(kSignals[i], before_[i]);
  }
  SignalsIgnored(const SignalsIgnored&) = delete;
  SignalsIgnored& operator=(const SignalsIgnored&) = delete;

  /// The ones that the command shall have as this program had them.
  sigset_t defaults() const {
    sigset_t set;
    sigemptyset(&set);
    for (std::size_t i = 0; i < kSignals.size(); ++i)
      if (before_[i] != SIG_IGN) sigaddset(&set, kSignals[i]);
    sigaddset(&set, SIGPIPE);
    return set;
  }

 private:
  static constexpr std::array kSignals{SIGINT, SIGQUIT};
  std::array<sighandler_t, kSignals.size()> before_{};
};

/// Runs a command to its end; returns what a shell would say of it.
Result<int> run_while_holding(const std::vector<std::string>& words, const Client& client) {
  std::vector<char*> argv;
  for (const auto& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  const SignalsIgnored ignored;
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  const auto defaults = ignored.defaults();
  ::posix_spawnattr_setsigdefault(&attributes, &defaults);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
  pid_t pid = 0;
  const int error = ::posix_spawnp(&pid, argv[0], nullptr, &attributes, argv.data(), environ);
  ::posix_spawnattr_destroy(&attributes);
  if (error != 0) {
    complain(fmt::format("{}: {}", words[0], std::strerror(error)));
    return kCannotRun;
  }
  const Fd pidfd{static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))};
  bool lost = false;
  for (;;) {
    pollfd ended{pidfd.get(), POLLIN, 0};
    const int wait_ms = static_cast<int>(std::chrono::milliseconds{kKeepAlive}.count());
    if (!pidfd || ::poll(&ended, 1, wait_ms) > 0) break;
    if (!lost && !client.ping()) {
      lost = true;
      complain("the daemon is gone, and with it what is held; the command goes on");
    }
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/// The name before `--`, and a command after it.
void expect_command(const Invocation& invocation) {
  if (invocation.words.size() != 1)
    throw UsageError(invocation.words.empty() ? "which lock?" : "want: NAME -- COMMAND");
  if (!invocation.command || invocation.command->empty()) throw UsageError("no command after --");
}

/// Holds something while the command runs.
template <class T>
Result<int> hold_and_run(const Invocation& invocation, const LockFlags& flags, const Client& client,
                         const Result<T>& held) {
  if (!held) return held.error();
  const auto acquired = held->acquire(flags.patience);
  if (!acquired) return acquired.error();
  if (!acquired->held) {
    if (!invocation.globals.quiet) complain(fmt::format("{} is held by somebody else", invocation.words[0]));
    return flags.conflict_exit_code;
  }
  if (acquired->owner_died) complain("whoever held it before died with it: what it protects may be half done");
  const auto code = run_while_holding(*invocation.command, client);
  (void)held->release();  // the session's end does it, too
  return code;
}

Result<Event> open_event(const ActionCall& call) { return call.client.event(call.name, call.options); }

struct EventFlags : StoreFlags {
  std::optional<std::chrono::milliseconds> timeout;
};

Result<int> event_set(const ActionCall& call) {
  const auto event = open_event(call);
  return event ? finished(event->set()) : event.error();
}

Result<int> event_clear(const ActionCall& call) {
  const auto event = open_event(call);
  return event ? finished(event->clear()) : event.error();
}

Result<int> event_is_set(const ActionCall& call) {
  const auto event = open_event(call);
  return event ? finished_if(event->is_set()) : event.error();
}

Result<int> event_wait(const ActionCall& call) {
  const auto event = open_event(call);
  if (!event) return event.error();
  const auto timeout = static_cast<const EventFlags&>(call.flags).timeout;
  return timeout ? finished_if(event->wait_for(*timeout)) : finished(event->wait());
}

const std::array kEventActions{Action{"set", "", 0, 0, true, event_set}, Action{"clear", "", 0, 0, true, event_clear},
                               Action{"is-set", "", 0, 0, false, event_is_set},
                               Action{"wait", "", 0, 0, true, event_wait}};

}  // namespace

Run define_lock(CLI::App& app) {
  const auto flags = std::make_shared<LockFlags>();
  flags->define(app);
  return [flags](const Invocation& invocation) -> Result<int> {
    expect_command(invocation);
    const auto client = connect(invocation.globals, Autostart::yes);
    if (!client) return client.error();
    return hold_and_run(invocation, *flags, *client, client->lock(invocation.words[0], flags->options));
  };
}

Run define_semaphore(CLI::App& app) {
  const auto flags = std::make_shared<LockFlags>();
  flags->define(app);
  app.add_option("--value", flags->units, "Of a new one: so many commands run at once (1)")->type_name("N");
  return [flags](const Invocation& invocation) -> Result<int> {
    expect_command(invocation);
    const auto client = connect(invocation.globals, Autostart::yes);
    if (!client) return client.error();
    return hold_and_run(invocation, *flags, *client,
                        client->bounded_semaphore(invocation.words[0], flags->units, flags->options));
  };
}

Run define_event(CLI::App& app) {
  const auto flags = std::make_shared<EventFlags>();
  flags->define(app);
  add_duration(
      app, "--timeout", [flags](auto time) { flags->timeout = time; }, "wait: no longer than this; exit code 1 then");
  return [flags](const Invocation& invocation) { return run_action(invocation, *flags, kEventActions); };
}

}  // namespace taskpool::cli
