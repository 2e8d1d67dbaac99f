"""Commands: `map --exec`, `submit --`, and what is asked about them afterwards."""

import json
import os
import signal
import subprocess
import tempfile
import unittest

from cli_support import DaemonTest, eventually


class Exec(DaemonTest):
    def test_output_and_errors_are_passed_on_in_order(self):
        self.expect(self.run_cli("map", "--exec", "echo {}", "a", "b c", "$HOME"), out="a\nb c\n$HOME\n", err="")
        self.expect(self.run_cli("map", "--exec", "echo", stdin="1\n2\n3\n"), out="1\n2\n3\n", err="")
        self.expect(self.run_cli("map", "--exec", "sh -c 'echo out; echo err >&2' {}", "x"), out="out\n", err="err\n")

    def test_the_input_goes_wherever_the_braces_are(self):
        self.expect(self.run_cli("map", "--exec", "printf '%s|%s\\n' 'a{}b{}' {}", "X"), out="aXbX|X\n")

    def test_bytes_that_are_no_text_pass_unchanged(self):
        done = self.run_cli("map", "--exec", "printf '\\377\\000%s'", "x", text=False)
        self.assertEqual((done.code, done.out), (0, b"\xff\x00x"), done)

    def test_the_exit_code_counts_failures(self):
        self.expect(self.run_cli("map", "--exec", "test {} -lt 3", "1", "2", "3", "4"), code=2, out="", err="")
        self.expect(self.run_cli("map", "--exec", "false", *["x"] * 150), code=101, out="", err="")
        self.expect(self.run_cli("map", "--exec", "sh -c 'kill -9 $$'", "x"), code=1, err="item 0: killed by signal 9")

    def test_a_program_that_is_not_there_is_a_failed_item(self):
        done = self.expect(self.run_cli("map", "--exec", "/no/such/program", "x", "y"), code=2, out="")
        self.assertIn("item 0: task_failed: ", done.err)
        self.assertIn("/no/such/program", done.err)

    def test_json_prints_the_results(self):
        done = self.expect(self.run_cli("map", "--json", "--exec", "sh -c 'echo hi; exit 3' {}", "x"), code=1)
        result = json.loads(done.out)[0]
        self.assertEqual((result["exit_code"], result["signal"], result["stdout"]), (3, 0, "hi\n"))
        self.assertEqual(result["stdout_bytes"], 3)
        self.assertGreater(result["max_rss_bytes"], 0)

    def test_commands_run_where_the_caller_is_and_with_its_variables(self):
        with tempfile.TemporaryDirectory() as directory:
            directory = os.path.realpath(directory)
            self.expect(self.run_cli("map", "--exec", "sh -c pwd", "x", cwd=directory), out=directory + "\n")
        os.environ["TASKPOOL_TEST_MARK"] = "m1"
        self.addCleanup(os.environ.pop, "TASKPOOL_TEST_MARK")
        self.expect(self.run_cli("map", "--exec", "sh -c 'echo $TASKPOOL_TEST_MARK'", "x"), out="m1\n")

    def test_an_environment_too_large_is_cut_and_said(self):
        os.environ["TASKPOOL_TEST_LONG"] = "x" * 100000
        self.addCleanup(os.environ.pop, "TASKPOOL_TEST_LONG")
        self.expect(self.run_cli("map", "--exec", "echo", "x"), out="x\n", err="left out: TASKPOOL_TEST_LONG")

    def test_names_with_newlines_pass_with_null(self):
        self.expect(self.run_cli("map", "--exec", "printf '<%s>'", "-0", stdin="a\nb\0c\0"), out="<a\nb><c>")

    def test_standard_input_is_not_the_commands(self):
        self.expect(self.run_cli("map", "--exec", "sh -c cat", stdin="1\n2\n"), out="", err="")

    def test_sigpipe_is_a_commands_own_again(self):
        done = self.run_cli("map", "--exec", "sh -c 'yes | head -n 1'", "x", seconds=20)
        self.expect(done, out="y\n", err="")

    def test_a_time_limit_reaches_grandchildren(self):
        mark = "54321.%d" % os.getpid()
        done = self.run_cli("map", "--exec", "sh -c 'sleep %s & wait'" % mark, "x", "--timeout", "300ms")
        self.expect(done, code=1, err="item 0: timed_out: ")
        eventually(lambda: not self.processes_with(mark))

    def test_stop_on_error_starts_no_more(self):
        with tempfile.TemporaryDirectory() as directory:
            script = "sh -c 'touch %s/$0; exit 1'" % directory
            done = self.run_cli("map", "--exec", script, "--stop-on-error", "--chunk", "1", *map(str, range(500)))
            self.assertEqual(done.err.count("stopped at the first failure"), 1, done)
            self.assertGreater(done.code, 0)
            self.assertLess(len(os.listdir(directory)), 400)

    def test_ctrl_c_ends_the_commands(self):
        mark = "65432.%d" % os.getpid()
        cli = self.start_cli("map", "--exec", "sleep {}", *[mark] * 12, stderr=subprocess.PIPE, text=True)
        eventually(lambda: len(self.processes_with(mark, "sleep")) == 2)
        cli.send_signal(signal.SIGINT)
        self.assertEqual(cli.communicate(timeout=20)[1], "taskpool: cancelled 12 tasks\n")
        self.assertEqual(cli.returncode, 130)
        self.assertEqual(self.processes_with(mark, "sleep"), [])

    def test_a_second_ctrl_c_does_not_wait(self):
        mark = "76543.%d" % os.getpid()
        cli = self.start_cli("map", "--exec", "sh -c 'trap \"\" TERM; sleep %s'" % mark, "x", stderr=subprocess.PIPE)
        eventually(lambda: self.processes_with(mark))
        cli.send_signal(signal.SIGTERM)
        cli.send_signal(signal.SIGINT)
        self.assertIn(cli.wait(5), (130, 143))
        cli.stderr.close()
        eventually(lambda: not self.processes_with(mark))

    @staticmethod
    def processes_with(mark, name=None):
        """Pids of running programs that have `mark` in their command line; not of this test's client."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open("/proc/%s/cmdline" % pid, "rb") as file:
                    words = file.read().decode(errors="replace").split("\0")
            except OSError:
                continue
            program = os.path.basename(words[0])
            if program != "taskpool" and any(mark in word for word in words) and name in (None, program):
                found.append(int(pid))
        return found


class Detached(DaemonTest):
    def submit(self, *words, **options):
        return self.expect(self.run_cli("submit", *words, **options), err="").out.strip()

    def test_a_command_is_submitted_waited_for_and_its_result_taken(self):
        task = self.submit("--", "sh", "-c", "echo out; echo err >&2")
        self.expect(self.run_cli("wait", task, "--timeout", "20s"), out="", err="")
        done = self.expect(self.run_cli("log", task), out="out\n", err="err\n")
        done = self.expect(self.run_cli("result", "--keep", "--json", task))
        self.assertEqual(json.loads(done.out)["stdout"], "out\n")
        self.expect(self.run_cli("result", task), out="out\n", err="err\n")
        self.expect(self.run_cli("result", task), code=1, out="", err="unknown_task")

    def test_a_failed_command_is_1(self):
        task = self.submit("--", "sh", "-c", "exit 7")
        self.expect(self.run_cli("wait", task), code=1, err=task + ": exit code 7")
        row = json.loads(self.expect(self.run_cli("wait", "--json", task), code=1).out)
        self.assertEqual((row["state"], row["exit_code"], row["signal"]), ("succeeded", 7, 0))
        self.expect(self.run_cli("result", task), code=1)
        self.expect(self.run_cli("apply", "--", "sh", "-c", "echo a; exit 7"), code=1, out="a\n")

    def test_functions_can_be_submitted(self):
        task = self.submit("square", "9")
        self.expect(self.run_cli("wait", task))
        self.expect(self.run_cli("result", task), out="81\n")
        task = self.submit("fail", '"oh no"')
        self.expect(self.run_cli("wait", task), code=1, err="task_failed: ")
        self.expect(self.run_cli("result", task), code=1, out="", err="taskpool: task_failed: ")

    def test_a_command_may_have_input(self):
        self.expect(self.run_cli("apply", "--stdin", "--", "tr", "a-z", "A-Z", stdin="some\ntext\n"), out="SOME\nTEXT\n")

    def test_a_running_task_has_no_result_yet_and_can_be_cancelled(self):
        task = self.submit("--", "sleep", "60")
        eventually(lambda: self.json_of("ps", task)["tasks"][0]["state"] == "running")
        self.expect(self.run_cli("result", task), code=1, out="", err="not_finished")
        self.expect(self.run_cli("wait", task, "--timeout", "100ms"), code=1, out="", err="timed_out")
        self.assertIn(task, self.run_cli("ps").out)
        self.expect(self.run_cli("cancel", task), out="cancelled 1 task\n")
        self.expect(self.run_cli("wait", task), code=1, err="cancelled")

    def test_what_has_not_begun_can_be_cancelled_alone(self):
        tasks = [self.submit("sleep", "60") for _ in range(3)]  # on two workers

        def states():
            return sorted(self.json_of("ps", task)["tasks"][0]["state"] for task in tasks)
        eventually(lambda: sum("run_ms" in row for row in self.json_of("workers")["workers"]) == 2)
        self.assertEqual(self.json_of("cancel", "--waiting", *tasks), {"cancelled": 1})
        self.assertEqual(states(), ["cancelled", "running", "running"])
        self.expect(self.run_cli("cancel", *tasks), out="cancelled 2 tasks\n")
        self.expect(self.run_cli("wait", *tasks), code=1, err="cancelled")
        self.expect(self.run_cli("cancel", "--waiting", "--force", "x"), code=2, err="excludes")

    def test_a_log_is_followed_to_the_end(self):
        with tempfile.TemporaryDirectory() as directory:
            gate = os.path.join(directory, "gate")
            os.mkfifo(gate)
            task = self.submit("--", "sh", "-c", "echo first; read line <%s; echo $line" % gate)
            with self.start_cli("log", "-f", task, stdout=subprocess.PIPE, text=True) as cli:
                self.assertEqual(cli.stdout.readline(), "first\n")
                with open(gate, "w") as file:
                    file.write("second\n")
                self.assertEqual(cli.stdout.readline(), "second\n")
                self.assertEqual(cli.stdout.read(), "")
                self.assertEqual(cli.wait(20), 0)

    def test_a_log_is_followed_from_before_the_task_begins(self):
        self.expect(self.run_cli("pause", "command"))
        try:
            task = self.submit("--", "echo", "late")
            with self.start_cli("log", "-f", task, stdout=subprocess.PIPE, text=True) as cli:
                self.assertEqual(self.run_cli("log", task).code, 1, "there is none yet")
                self.expect(self.run_cli("resume", "command"))
                self.assertEqual(cli.stdout.read(), "late\n")
                self.assertEqual(cli.wait(20), 0)
        finally:
            self.run_cli("resume", "command")

    def test_unknown_tasks_are_said(self):
        for verb in ("wait", "result", "cancel"):
            self.expect(self.run_cli(verb, "nonsense"), code=1, err="unknown_task: ")
        self.assertEqual(self.run_cli("log", "nonsense").code, 1)

    def test_the_same_key_is_the_same_task(self):
        first = self.submit("--key", "k1", "--", "true")
        self.assertEqual(self.submit("--key", "k1", "--", "true"), first)


if __name__ == "__main__":
    unittest.main(verbosity=2)
