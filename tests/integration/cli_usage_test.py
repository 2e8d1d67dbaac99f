"""What the command line says about itself, and to those who use it wrongly. Needs no daemon."""

import os
import subprocess
import tempfile
import unittest

from cli_support import TASKPOOL

VERBS = ["apply", "map", "submit", "wait", "result", "log", "cancel", "ps", "workers", "pools", "functions", "stats",
         "dict", "list", "value", "queue", "lock", "semaphore", "event", "objects", "locks", "watch", "remove",
         "failures", "resize", "pause", "resume", "reload", "drain", "shutdown", "ping", "completion", "help", "version", "whoami",
         "top"]


def run(*words, stdin="", **environment):
    directory = tempfile.gettempdir()
    env = dict(os.environ, TASKPOOL_SOCKET=os.path.join(directory, "no-such-taskpool-socket"), **environment)
    return subprocess.run([TASKPOOL, *words], input=stdin, capture_output=True, text=True, timeout=30, env=env)


class Help(unittest.TestCase):
    def test_the_overview_lists_every_verb(self):
        for words in ([], ["--help"], ["-h"], ["help"]):
            page = run(*words)
            text = page.stdout if words else run("--help").stdout
            for verb in VERBS:
                self.assertIn("  " + verb + " ", text)

    def test_every_verb_teaches_by_example(self):
        for verb in VERBS:
            page = run(verb, "--help")
            self.assertEqual(page.returncode, 0, page)
            examples = page.stdout.split("Examples:\n")[1].split("\nOptions:")[0]
            self.assertGreaterEqual(len(examples.strip().splitlines()), 2, verb)
            self.assertEqual(run("help", verb).stdout, page.stdout)
            self.assertLessEqual(max(len(line) for line in page.stdout.splitlines()), 120, verb)

    def test_the_version_is_known_without_a_daemon(self):
        self.assertRegex(run("version").stdout, r"^taskpool \d+\.\d+\.\d+\n$")
        self.assertEqual(run("--version").stdout, run("version").stdout)


class Mistakes(unittest.TestCase):
    def refused(self, *words, part, stdin=""):
        done = run(*words, stdin=stdin)
        self.assertEqual(done.returncode, 2, done)
        self.assertEqual(done.stdout, "")
        self.assertTrue(done.stderr.startswith("taskpool: "), done)
        self.assertIn(part, done.stderr)

    def test_words_that_make_no_sense_are_usage_errors(self):
        self.refused(part="no command")
        self.refused("frobnicate", part="there is no command 'frobnicate'")
        self.refused("--frobnicate", part="--frobnicate")
        self.refused("map", part="function")
        self.refused("map", "--unorderd", "square", part="--unorderd")
        self.refused("map", "square", "1", "-z", part="-z")
        self.refused("apply", part="which function")
        self.refused("apply", "echo", "--", "ls", part="not both")
        self.refused("submit", "--", part="no command after --")
        self.refused("wait", part="missing")
        self.refused("ping", "x", part="'x' is one word too many")
        self.refused("resize", "default", "many", part="number of workers")
        self.refused("resize", "default", "-1", part="number of workers")
        self.refused("resize", "default", "100000", part="number of workers")
        self.refused("completion", "csh", part="bash, zsh or fish")
        self.refused("help", "frobnicate", part="no command")

    def test_values_of_options_are_checked(self):
        self.refused("map", "square", "1", "--timeout", "soon", part="--timeout")
        self.refused("map", "square", "1", "--timeout", "-1", part="--timeout")
        self.refused("map", "square", "1", "--retries", "many", part="--retries")
        self.refused("map", "square", "1", "--retries", "100000", part="--retries")
        self.refused("map", "square", "1", "--priority", "101", part="--priority")
        self.refused("map", "square", "1", "--chunk", "-1", part="--chunk")
        self.refused("map", "square", "1", "--pool", part="--pool")
        self.refused("ps", "--limit", "0", part="--limit")

    def test_a_command_template_is_checked(self):
        self.refused("map", "--exec", "", "x", part="no command")
        self.refused("map", "--exec", "  ", "x", part="no command")
        self.refused("map", "--exec", "echo 'a", "x", part="does not end")
        self.refused("map", "--exec", "cat {} | wc", "x", part="sh -c")
        self.refused("map", "--exec", "echo", "--star", "x", part="--star")

    def test_arguments_are_json_unless_said_otherwise(self):
        self.refused("apply", "echo", "hello", part="--lines")
        self.refused("apply", "echo", "1", "{", part="argument 2")
        self.refused("apply", "echo", "--lines", b"\xff", part="UTF-8")


class NoDaemon(unittest.TestCase):
    def test_nobody_to_ask_is_69(self):
        for words in (["ps"], ["ping"], ["stats", "--json"], ["wait", "x"], ["log", "-f", "x"], ["map", "square", "1"],
                      ["apply", "square", "1"], ["submit", "--", "true"], ["shutdown"]):
            done = run(*words)
            self.assertEqual(done.returncode, 69, done)
            self.assertEqual(done.stdout, "")
            self.assertTrue(done.stderr.startswith("taskpool: no_daemon: "), done)
            self.assertIn("no-such-taskpool-socket", done.stderr)

    def test_the_option_wins_over_the_environment(self):
        self.assertIn("/nowhere/else", run("ping", "--socket", "/nowhere/else").stderr)
        self.assertIn("/nowhere/else", run("--socket", "/nowhere/else", "ping").stderr)


class Completion(unittest.TestCase):
    def complete(self, line):
        """What bash offers for a line."""
        words = line.split(" ")
        script = """
            source <("$1" completion bash); shift
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _taskpool; printf '%s\\n' "${COMPREPLY[@]}"
        """
        done = subprocess.run(["bash", "-c", script, "bash", TASKPOOL, TASKPOOL, *words[1:]], capture_output=True,
                              text=True, timeout=30, env=dict(os.environ, TASKPOOL_SOCKET="/nowhere"))
        self.assertEqual(done.stderr, "")
        return done.stdout.split()

    def test_bash_offers_verbs_and_options(self):
        self.assertEqual(self.complete("taskpool dr"), ["drain"])
        self.assertEqual(self.complete("taskpool map --unord"), ["--unordered"])
        self.assertIn("--pool", self.complete("taskpool map --"))
        self.assertEqual(set(VERBS), set(self.complete("taskpool ")))

    def test_without_a_daemon_there_are_no_names(self):
        self.assertEqual(self.complete("taskpool map sq"), [])

    def test_every_script_is_one_its_shell_can_read(self):
        for shell in ("bash", "zsh", "fish"):
            script = run("completion", shell).stdout
            try:
                done = subprocess.run([shell, "-n"], input=script, capture_output=True, text=True, timeout=30)
            except FileNotFoundError:
                print("SKIPPED: the completion script of %s was not read: it is not installed" % shell)
                continue
            self.assertEqual((done.returncode, done.stderr), (0, ""), shell)


if __name__ == "__main__":
    unittest.main(verbosity=2)
