#include "client/cli/commands.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace taskpool::cli {
namespace {

constexpr std::array kCommands{
    Command{
        "apply", "FUNCTION [ARGUMENT...] | -- COMMAND [WORD...]", "Run a function once and print its result",
        "Arguments are JSON; with --lines they are text. One argument goes to the function as it is, several as its\n"
        "list of arguments. A command behind -- runs in this directory, without a shell; the exit code is 1 if it\n"
        "fails.",
        "taskpool apply square 12                # 144\n"
        "taskpool apply echo '{\"a\": [1, 2]}'     # any JSON value is an argument\n"
        "taskpool apply word_count --lines /etc/services --timeout 10s\n"
        "taskpool apply -- uname -a",
        Completes::functions, define_apply},
    Command{
        "map", "FUNCTION [INPUT...] | --exec COMMAND [INPUT...]", "Run a function or a command for each input",
        "Inputs given as arguments print one JSON list. Without any, each line of standard input is one input, and\n"
        "each result is printed on a line of its own, in the order of the inputs. Inputs are JSON; with --lines, "
        "text.\n"
        "A failed input is reported on standard error and is null in the output (with --json an object with its\n"
        "error); the exit code is 1 then.\n"
        "\n"
        "With --exec each input is text and takes the place of {} in the command, which runs without a shell. What "
        "the\n"
        "commands print is passed on, one command's output at a time; the exit code is the number of commands that\n"
        "failed, at most 101. With --json the results are printed as objects instead.",
        "taskpool map square 0 1 2 3              # [0, 1, 4, 9]\n"
        "find /etc -type f | taskpool map word_count --lines >counts\n"
        "ls *.gz | taskpool map --exec 'gzip -t {}' --progress\n"
        "taskpool map --exec 'convert {} -resize 50% small/{}' *.png\n"
        "seq 1000000 | taskpool map square --array i64 | tail -1\n"
        "id=$(seq 1000 | taskpool map square --detach) && taskpool wait $id && taskpool result $id",
        Completes::functions, define_map},
    Command{"submit", "FUNCTION [ARGUMENT...] | -- COMMAND [WORD...]", "Start a task that outlives this program",
            "Prints the task's id. The daemon keeps the result for `taskpool result`, and a command's output for\n"
            "`taskpool log`.",
            "taskpool submit -- make -j1              # a command, run here in this directory\n"
            "taskpool submit word_count '\"/etc/services\"'\n"
            "id=$(taskpool submit -- make) && taskpool wait $id && taskpool log $id",
            Completes::functions, define_submit},
    Command{"wait", "TASK...", "Wait until tasks have ended", "The exit code is 1 if one of them failed.",
            "taskpool wait $id\n"
            "taskpool wait --timeout 60s $id || echo 'failed, or not within a minute'",
            Completes::tasks, define_wait},
    Command{"result", "TASK", "Print the result of a submitted task",
            "The daemon then forgets it, unless --keep is given. Of a command it is what it printed; the exit code is "
            "1 if\n"
            "the command failed.",
            "taskpool result $id\n"
            "taskpool result --keep --json $id",
            Completes::tasks, define_result},
    Command{"log", "TASK", "Show what a command has printed so far",
            "What it printed as errors goes to standard error.",
            "taskpool log $id\n"
            "taskpool log -f $id                      # follows until the command ends",
            Completes::tasks, define_log},
    Command{"cancel", "TASK...", "Cancel tasks, waiting or running",
            "A running task is asked to stop and killed after the pool's grace time; --force kills it at once.",
            "taskpool cancel $id\n"
            "taskpool ps --json | jq -r .tasks[].task | xargs taskpool cancel --force",
            Completes::tasks, define_cancel},
    Command{"ps", "[TASK]", "List tasks and jobs", "",
            "taskpool ps\n"
            "taskpool ps --all --state running        # everybody's\n"
            "taskpool ps --json | jq .tasks",
            Completes::tasks, define_ps},
    Command{"workers", "[POOL]", "List workers and what each of them runs", "",
            "taskpool workers\n"
            "taskpool workers --json | jq .workers[].pid",
            Completes::pools, define_workers},
    Command{"pools", "", "List pools", "",
            "taskpool pools\n"
            "taskpool pools --json",
            Completes::nothing, define_pools},
    Command{"functions", "[POOL]", "List the functions that a pool can run", "",
            "taskpool functions\n"
            "taskpool functions --json | jq -r .functions[].name",
            Completes::pools, define_functions},
    Command{"stats", "", "Show the daemon's counters, and what each of them means", "",
            "taskpool stats\n"
            "taskpool stats --json | jq .pid",
            Completes::nothing, define_stats},
    Command{"whoami", "", "Show your role, your quotas, and what you use of them", "",
            "taskpool whoami\n"
            "taskpool whoami --all                    # what each user has, for operators\n"
            "taskpool whoami --json | jq -r .role",
            Completes::nothing, define_whoami},
    Command{"top", "", "Watch pools and workers on a live screen",
            "Pools, workers with what each of them runs and since when, queues, rates and the store, drawn anew each "
            "second. q\n"
            "or Ctrl-C ends it; r, d, m, p and w sort the workers by run time, tasks done, memory, pool or number, the "
            "same key\n"
            "again the other way round. Where standard output is no terminal it prints one sample, as with --once.",
            "taskpool top\n"
            "taskpool top --sort memory --interval 5s\n"
            "taskpool top --once | mail -s 'what ran' root\n"
            "taskpool top --json | jq .stats.uptime_ms",
            Completes::nothing, define_top},
    Command{"failures", "", "List failures that nobody collected", "",
            "taskpool failures\n"
            "taskpool failures --limit 10 --json",
            Completes::nothing, define_failures},
    Command{
        "dict", "NAME ACTION [WORD...]", "Look into a shared dict, or change it",
        "Actions: get KEY, set KEY VALUE [KEY VALUE]..., del KEY..., has KEY, pop [KEY], incr KEY [BY],\n"
        "cas KEY EXPECTED VALUE, default KEY VALUE, expire KEY TIME, keys, values, items, len, clear, watch [KEY].\n"
        "Keys and values are JSON where they can be read as it, else text: 3 is a number, apples is a text; with\n"
        "--lines all are text. set, incr, cas and default make the dict if there is none. A key that is not there, "
        "and\n"
        "a cas whose EXPECTED is not so, end with exit code 1.",
        "taskpool dict stock set apples 3 pears 7     # both at once, or none\n"
        "taskpool dict stock incr apples -1           # 2\n"
        "taskpool dict stock items --json             # [[\"apples\", 2], [\"pears\", 7]]\n"
        "taskpool dict cache set token abc --ttl 30s\n"
        "taskpool dict stock cas apples 2 5 || echo 'somebody was faster'\n"
        "taskpool dict stock watch                    # a line for each change",
        Completes::objects, define_dict},
    Command{"list", "NAME ACTION [WORD...]", "Look into a shared list, or change it",
            "Actions: get INDEX, set INDEX VALUE, append VALUE..., insert INDEX VALUE, pop [INDEX], del INDEX, items, "
            "len,\n"
            "reverse, clear, watch. Negative indexes count from the end. Values are JSON where they can be read as it, "
            "else\n"
            "text; with --lines all are text.",
            "taskpool list log append started '{\"at\": 12}'\n"
            "taskpool list log get -1                     # {\"at\":12}\n"
            "taskpool list log items",
            Completes::objects, define_list},
    Command{"value", "NAME ACTION [WORD...]", "Look at a shared value, or change it",
            "Actions: get, set VALUE, incr [BY], cas EXPECTED VALUE, watch. A new one is 0.",
            "taskpool value hits incr                     # 1\n"
            "taskpool value hits set 100\n"
            "taskpool value hits get",
            Completes::objects, define_value},
    Command{
        "queue", "NAME put [VALUE...] | NAME get|len|clear", "Put items into a shared queue, or take them out",
        "put without values puts each line of standard input. get waits for an item; with --timeout or --nonblock it\n"
        "may end with exit code 1 instead. First in, first out, also among those who wait.",
        "taskpool queue jobs put '{\"file\": \"a.txt\"}'\n"
        "find /var/log -type f | taskpool queue jobs put --lines\n"
        "taskpool queue jobs get --timeout 5s\n"
        "taskpool queue jobs get --follow --lines | while read -r file; do wc \"$file\"; done",
        Completes::objects, define_queue},
    Command{"lock", "NAME -- COMMAND [WORD...]", "Run a command while holding a lock, as flock(1) does",
            "The exit code is the command's, 128+N if signal N ended it; 1, or what -E says, if the lock could not be "
            "had; 69\n"
            "if the command cannot be run. The lock is free again when the command ends, or if this program dies.",
            "taskpool lock backup -- ./backup.sh\n"
            "taskpool lock backup --nonblock -E 75 -- ./backup.sh\n"
            "taskpool lock deploy --timeout 10m -- sh -c 'git pull && make install'",
            Completes::objects, define_lock},
    Command{"semaphore", "NAME --value N -- COMMAND [WORD...]", "Run a command while no more than N do",
            "Exit codes as those of `taskpool lock`. The first one's --value counts.",
            "taskpool semaphore downloads --value 4 -- curl -O https://example.org/a.iso\n"
            "taskpool semaphore downloads --nonblock -- curl -O https://example.org/b.iso",
            Completes::objects, define_semaphore},
    Command{"event", "NAME set|clear|is-set|wait", "Set a shared flag, or wait for it",
            "is-set, and wait after its --timeout, end with exit code 1 if it is not set.",
            "taskpool event ready wait --timeout 1m && ./start.sh\n"
            "taskpool event ready set",
            Completes::objects, define_event},
    Command{"objects", "[NAME]", "List the objects of the shared store", "",
            "taskpool objects\n"
            "taskpool objects --type dict --json | jq '.objects[] | {name, bytes}'",
            Completes::objects, define_objects},
    Command{"locks", "[NAME]", "List who holds locks and semaphores, since when, and who waits", "",
            "taskpool locks\n"
            "taskpool locks backup --json | jq .locks[].holders",
            Completes::objects, define_locks},
    Command{"watch", "NAME [KEY]", "Print a line for each change of an object",
            "Ends when the object is removed. `lagged` means that changes were left out because nobody read.",
            "taskpool watch stock\n"
            "taskpool watch stock apples --json | jq .version",
            Completes::objects, define_watch},
    Command{"remove", "NAME...", "Remove objects of the shared store, whatever they hold", "",
            "taskpool remove stock\n"
            "taskpool objects --json | jq -r .objects[].name | xargs taskpool remove",
            Completes::objects, define_remove},
    Command{"resize", "POOL WORKERS", "Change how many workers a pool has", "",
            "taskpool resize default 8\n"
            "taskpool resize command 0                # nothing of it runs until there are workers again",
            Completes::pools, define_resize},
    Command{"pause", "POOL", "Let a pool accept tasks but start none", "",
            "taskpool pause default\n"
            "taskpool pause default && taskpool pools",
            Completes::pools, define_pause},
    Command{"resume", "POOL", "Let a paused pool go on", "",
            "taskpool resume default\n"
            "taskpool resume default && taskpool ps",
            Completes::pools, define_resume},
    Command{"reload", "", "Load configuration and modules anew",
            "New workers take all new work while the old ones finish theirs.",
            "taskpool reload\n"
            "taskpool reload --json | jq .needs_restart",
            Completes::nothing, define_reload},
    Command{"drain", "", "Refuse new work and wait until none is left", "",
            "taskpool drain\n"
            "taskpool drain --timeout 5m && taskpool shutdown",
            Completes::nothing, define_drain},
    Command{"shutdown", "", "Stop the daemon", "It finishes what runs, within its stop_timeout; --force does not wait.",
            "taskpool shutdown\n"
            "taskpool shutdown --force",
            Completes::nothing, define_shutdown},
    Command{"ping", "", "Ask the daemon for an answer and show how long it took", "",
            "taskpool ping\n"
            "taskpool ping --quiet && echo up",
            Completes::nothing, define_ping},
    Command{"completion", "bash|zsh|fish", "Print the completion script of a shell", "",
            "taskpool completion bash >~/.local/share/bash-completion/completions/taskpool\n"
            "taskpool completion zsh >\"${fpath[1]}/_taskpool\"\n"
            "taskpool completion fish >~/.config/fish/completions/taskpool.fish",
            Completes::shells, define_completion},
    Command{"help", "[COMMAND]", "Show this, or what one command does", "",
            "taskpool help map\n"
            "taskpool map --help                      # the same",
            Completes::verbs, define_help},
    Command{"version", "", "Show this program's version and the daemon's", "",
            "taskpool version\n"
            "taskpool version --json",
            Completes::nothing, define_version},
};

/// What the completion scripts ask; no list shows it.
constexpr Command kComplete{"__complete",
                            "-- WORD...",
                            "Print the words that may stand in the place of the last one",
                            "",
                            "taskpool __complete -- map sq\n",
                            Completes::nothing,
                            define_complete};

std::string indented(std::string_view text, std::string_view indent) {
  std::string out;
  while (!text.empty()) {
    const auto line = text.substr(0, text.find('\n'));
    out += line.empty() ? "\n" : fmt::format("{}{}\n", indent, line);
    text.remove_prefix(std::min(line.size() + 1, text.size()));
  }
  return out;
}

}  // namespace

std::span<const Command> commands() { return kCommands; }

const Command* find_command(std::string_view name) {
  if (name == kComplete.name) return &kComplete;
  const auto found = std::find_if(kCommands.begin(), kCommands.end(), [&](const Command& c) { return c.name == name; });
  return found == kCommands.end() ? nullptr : &*found;
}

Exit exit_code(const Error& error) {
  switch (error.errc()) {
    case Errc::ok: return kDone;
    case Errc::no_daemon:
    case Errc::daemon_gone:
    case Errc::unsupported_version: return kNoDaemon;
    case Errc::queue_full:
    case Errc::draining: return kTryAgain;
    case Errc::start_failed: return kBadConfig;
    default: return kFailed;
  }
}

std::vector<std::string> Invocation::all_words() const {
  auto all = words;
  if (command) all.insert(all.end(), command->begin(), command->end());
  return all;
}

void Invocation::expect_words(std::size_t least, std::size_t most) const {
  const auto all = all_words();
  if (all.size() < least) throw UsageError("something is missing");
  if (all.size() > most) throw UsageError("'" + all[most] + "' is one word too many");
}

Run define(const Command& command, CLI::App& app) {
  app.set_help_flag("-h,--help", "Show this");
  app.allow_extras();
  return command.define(app);
}

void add_globals(CLI::App& app, Globals& globals) {
  app.add_option("--socket", globals.socket, "The daemon's socket; else $TASKPOOL_SOCKET, else the user's own daemon")
      ->type_name("PATH");
  app.add_flag("--json", globals.json, "Print JSON for programs");
  app.add_flag("-q,--quiet", globals.quiet, "Print errors and results only");
}

bool takes_value(const CLI::Option& option) { return option.get_items_expected_min() > 0; }

std::string overview() {
  std::string out = "taskpool runs functions and commands on a pool of warm worker processes.\n\n"
                    "Usage: taskpool [--socket PATH] [--json] [--quiet] COMMAND ...\n\n"
                    "Examples:\n"
                    "  taskpool map square 0 1 2 3              # [0, 1, 4, 9]\n"
                    "  ls *.gz | taskpool map --exec 'gzip -t {}'\n"
                    "  taskpool submit -- make -j1\n"
                    "  taskpool ps\n\n"
                    "Commands:\n";
  for (const auto& command : kCommands) out += fmt::format("  {:<12}{}\n", command.name, command.summary);
  out += "\n`taskpool COMMAND --help` shows a command's options and examples.\n"
         "Exit codes: 0 done, 1 failed, 2 usage, 69 no daemon, 75 try again later, 78 bad configuration.\n";
  return out;
}

std::string help_page(const Command& command) {
  CLI::App app;
  const Run run = define(command, app);  // owns what the options write to
  Globals globals;
  add_globals(app, globals);
  std::string out = fmt::format("{}.\n\nUsage: taskpool {} [OPTION...]{}{}\n", command.summary, command.name,
                                command.words.empty() ? "" : " ", command.words);
  if (!command.about.empty()) out += fmt::format("\n{}\n", command.about);
  out += "\nExamples:\n" + indented(command.examples, "  ") + "\nOptions:\n";
  for (const auto* option : app.get_options()) {
    std::string names;
    for (const auto& name : option->get_snames()) names += "-" + name + ", ";
    for (const auto& name : option->get_lnames()) names += "--" + name + ", ";
    names.erase(names.size() - 2);
    if (takes_value(*option)) {
      const auto type = option->get_type_name();  // with what CLI11 adds for a check: "N:UINT in [0 - 9]"
      names += " " + type.substr(0, type.find(':'));
    }
    if (names.size() > 24) names += "\n" + std::string(26, ' ');
    out += fmt::format("  {:<24}{}\n", names, option->get_description());
  }
  return out;
}

}  // namespace taskpool::cli
