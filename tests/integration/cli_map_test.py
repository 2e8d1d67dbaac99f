"""`taskpool map` and `apply` of functions, against a real daemon."""

import json
import os
import signal
import subprocess
import threading
import unittest

from cli_support import DaemonTest, eventually, memory_peak

MEGABYTE = 1 << 20
# A sanitizer keeps freed memory and surrounds what is in use.
LIMIT = 64 * MEGABYTE * (8 if os.environ.get("TASKPOOL_SANITIZER") else 1)


class Map(DaemonTest):
    def test_inputs_as_arguments_print_one_list(self):
        self.expect(self.run_cli("map", "square", *"01234567"), out="[0, 1, 4, 9, 16, 25, 36, 49]\n", err="")
        self.expect(self.run_cli("map", "square", "-3", "--", "-4"), out="[9, 16]\n")
        self.expect(self.run_cli("map", "echo", '[1, 2]', '{"a": null}', '"x"'), out='[[1, 2], {"a": null}, "x"]\n')

    def test_inputs_as_lines_print_a_line_each_in_their_order(self):
        count = 20000
        lines = "".join("%d\n" % i for i in range(count))
        done = self.expect(self.run_cli("map", "square", stdin=lines), err="")
        self.assertEqual(done.out, "".join("%d\n" % (i * i) for i in range(count)))

    def test_unordered_prints_the_same_lines(self):
        lines = "".join("%d\n" % i for i in range(5000))
        done = self.expect(self.run_cli("map", "square", "--unordered", stdin=lines))
        self.assertEqual(sorted(map(int, done.out.split())), [i * i for i in range(5000)])

    def test_no_inputs_are_no_results(self):
        self.expect(self.run_cli("map", "square"), out="", err="")

    def test_lines_are_text_where_asked(self):
        text = "one\ntwo words\n\n\"quoted\"\n3\ntab\there\n"
        self.expect(self.run_cli("map", "echo", "--lines", stdin=text), out=text, err="")
        self.expect(self.run_cli("map", "echo", "--lines", "a b", "1"), out="[a b, 1]\n")
        self.expect(self.run_cli("map", "echo", "--lines", "--null", stdin="a\nb\0c"), out="a\nb\nc\n")

    def test_windows_line_ends_and_a_last_line_without_one(self):
        self.expect(self.run_cli("map", "square", stdin="1\r\n2\r\n3"), out="1\n4\n9\n")

    def test_star_spreads_a_list_over_the_parameters(self):
        self.expect(self.run_cli("map", "square", "--star", "[3]", "[4]"), out="[9, 16]\n")
        self.expect(self.run_cli("map", "square", "--star", "3"), code=2, out="", err="no list")

    def test_every_option_is_accepted(self):
        self.expect(self.run_cli("map", "square", "1", "2", "--chunk", "1", "--timeout", "10s", "--soft-timeout", "5s",
                                 "--retries", "1", "--lost-retries", "1", "--oom-retries", "1",
                                 "--cpu-timeout", "60s", "--retry-delay", "10ms", "--priority", "5",
                                 "--pool", "default", "--name", "mine", "--no-progress", "--quiet"), out="[1, 4]\n")

    def test_numbers_travel_as_an_array_where_asked(self):
        self.expect(self.run_cli("map", "square", "--array", "i64", "-3", "4"), out="[9, 16]\n", err="")
        count = 50000
        lines = "".join("%d\n" % i for i in range(count))
        done = self.expect(self.run_cli("map", "square", "--array", "i64", stdin=lines), err="")
        self.assertEqual(done.out, "".join("%d\n" % (i * i) for i in range(count)))
        self.expect(self.run_cli("map", "square", "--array", "u8", "1", "256"), code=2, out="", err="input 2: '256'")
        self.expect(self.run_cli("map", "square", "--array", "i64", stdin="1\nx\n"), code=2, out="1\n", err="line 2: 'x'")
        self.expect(self.run_cli("map", "square", "--array", "i65", "1"), code=2, out="")
        self.expect(self.run_cli("map", "echo", "--array", "i64", "--lines", "1"), code=2, out="", err="--array")

    def test_a_detached_map_is_taken_later(self):
        lines = "".join("%d\n" % i for i in range(3000))
        squares = "".join("%d\n" % (i * i) for i in range(3000))
        for options in ([], ["--array", "i32"]):
            task = self.expect(self.run_cli("map", "square", "--detach", *options, stdin=lines), err="").out.strip()
            self.expect(self.run_cli("wait", task), out="", err="")
            self.expect(self.run_cli("result", task), out=squares, err="")
        task = json.loads(self.expect(self.run_cli("map", "square", "-d", "2", "3", "--json")).out)["task"]
        self.expect(self.run_cli("wait", task))
        self.expect(self.run_cli("result", task), out="4\n9\n")

    def test_a_detached_map_with_bad_input_leaves_nothing(self):
        done = self.run_cli("map", "sleep", "--detach", stdin="60\n60\nnot json\n")
        self.expect(done, code=2, out="", err="line 3")
        self.assertEqual([row for row in self.unfinished_tasks() if row["function"] == "sleep"], [])

    def test_a_second_map_with_a_key_has_the_results_of_the_first(self):
        self.expect(self.run_cli("map", "square", "--key", "cli-map", "5", "6"), out="[25, 36]\n", err="")
        self.expect(self.run_cli("map", "square", "--key", "cli-map", "5", "6"), out="[25, 36]\n", err="")

    def test_large_items_pass(self):
        line = json.dumps("x" * 300000)
        done = self.expect(self.run_cli("map", "echo", stdin=(line + "\n") * 20))
        self.assertEqual(done.out, (line + "\n") * 20)

    def test_a_failed_item_is_null_and_named(self):
        done = self.expect(self.run_cli("map", "square", "1", '"x"', "3"), code=1, out="[1, null, 9]\n")
        self.assertRegex(done.err, r"^taskpool: item 1: bad_argument: .*\n$")
        done = self.expect(self.run_cli("map", "square", stdin='1\n"x"\n3\n'), code=1, out="1\nnull\n9\n")

    def test_json_shows_the_error_of_a_failed_item(self):
        done = self.expect(self.run_cli("map", "fail", "--json", '"oh no"'), code=1)
        error = json.loads(done.out)[0]["error"]
        self.assertEqual(error["code"], "task_failed")
        self.assertEqual(error["detail"], "oh no")
        self.assertIn("item 0: task_failed: ", done.err)

    def test_a_killed_worker_costs_one_item(self):
        done = self.expect(self.run_cli("map", "crash", "--chunk", "1", "9", "9"), code=1, out="[null, null]\n")
        self.assertIn("item 0: worker_lost: ", done.err)
        self.expect(self.run_cli("map", "square", "2"), out="[4]\n")

    def test_a_time_limit_is_kept(self):
        self.expect(self.run_cli("map", "sleep", "0.01", "30", "--timeout", "200ms"), code=1, out="[0.01, null]\n",
                    err="item 1: timed_out: ")

    def test_stop_on_error_says_what_was_not_run(self):
        lines = '"x"\n' + "1\n" * 200000
        done = self.expect(self.run_cli("map", "square", "--stop-on-error", "--chunk", "1", stdin=lines), code=1)
        self.assertIn("item 0: bad_argument", done.err)
        self.assertIn("stopped at the first failure", done.err)
        self.assertLess(len(done.err.splitlines()), 10)

    def test_an_unknown_function_is_said_once_with_near_names(self):
        done = self.expect(self.run_cli("map", "sqare", *["1"] * 50), code=1, out="")
        self.assertRegex(done.err, r"^taskpool: unknown_function: .*square.*\n$")
        self.expect(self.run_cli("map", "sqare", stdin="1\n" * 50000), code=1, out="", err="unknown_function")
        self.expect(self.run_cli("map", "square", "--pool", "nowhere", "1"), code=1, out="", err="unknown_pool")

    def test_a_malformed_line_is_named_and_what_came_before_it_is_done(self):
        done = self.expect(self.run_cli("map", "square", stdin="1\n2\n{\n4\n"), code=2, out="1\n4\n")
        self.assertRegex(done.err, r"^taskpool: bad_argument: line 3: '\{' is not JSON .*--lines.*\n$")

    def test_a_malformed_argument_runs_nothing(self):
        before = self.completed()
        self.expect(self.run_cli("map", "square", "1", "2", "x"), code=2, out="", err="input 3: 'x' is not JSON")
        self.assertEqual(self.completed(), before)

    def test_text_that_is_not_utf8_is_refused_by_name(self):
        done = self.run_cli("map", "echo", "--lines", stdin=b"ok\n\xff\xfe\n", text=False)
        self.assertEqual((done.code, done.out), (2, b"ok\n"), done)
        self.assertIn(b"line 2: ", done.err)

    def test_a_line_that_never_ends_is_refused(self):
        done = self.run_cli("map", "echo", stdin="1\n" + "7" * (9 * MEGABYTE))
        self.expect(done, code=2, out="1\n", err="body_too_large: line 2: ")

    def test_full_output_ends_the_map(self):
        with open("/dev/full", "w") as full:
            done = subprocess.run(self.command("map", "echo"), input="1\n" * 50000, stdout=full, stderr=subprocess.PIPE,
                                  text=True, timeout=60, env=self.environment())
        self.assertEqual(done.returncode, 1, done)
        self.assertIn("No space left", done.stderr)

    def test_results_come_as_soon_as_they_are_there(self):
        with self.start_cli("map", "square", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as cli:
            for i in range(5):
                cli.stdin.write("%d\n" % i)
                cli.stdin.flush()
                self.assertEqual(cli.stdout.readline(), "%d\n" % (i * i))
            cli.stdin.close()
            self.assertEqual(cli.wait(20), 0)

    def test_a_reader_that_goes_away_ends_the_map_quietly(self):
        with self.start_cli("map", "echo", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as cli:
            feeding = threading.Thread(target=self.feed, args=(cli.stdin, b"1\n" * 100000, 100))
            feeding.start()
            cli.stdout.read(10)
            cli.stdout.close()
            self.assertEqual(cli.wait(30), -signal.SIGPIPE)
            self.assertEqual(cli.stderr.read(), b"")
            feeding.join()
        eventually(lambda: not self.unfinished_tasks())

    def test_a_slow_reader_costs_no_memory(self):
        """20 million lines with TASKPOOL_LONG_TESTS=1; the window is full after far fewer."""
        millions = 20 if os.environ.get("TASKPOOL_LONG_TESTS") else 0.3
        chunk = "".join("%d\n" % i for i in range(1000, 11000)).encode()
        chunks = int(millions * 1e6 / 10000)
        with self.start_cli("map", "square", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as cli:
            feeding = threading.Thread(target=self.feed, args=(cli.stdin, chunk, chunks))
            feeding.start()
            # Nothing is read until nothing moves any more: then every buffer on the way is full.
            eventually(lambda: self.stalled(cli.pid), 60)
            stalled = self.completed()
            lines, tail = 0, b""
            while piece := cli.stdout.read1(MEGABYTE):
                lines += piece.count(b"\n")
                tail = (tail + piece)[-64:]
                if lines % 7 == 0:
                    self.assertLess(memory_peak(cli.pid), LIMIT)
            feeding.join()
            self.assertEqual(lines, chunks * 10000)
            self.assertEqual(tail.split()[-1], b"%d" % (10999 ** 2))
            self.assertLess(memory_peak(self.daemon.pid), LIMIT)
            self.assertEqual(cli.wait(20), 0)
        self.assertGreater(stalled, 0)

    def stalled(self, pid):
        """True if a program used no processor time for a while. The interval is a fact about it, not a guess."""
        def used():
            with open("/proc/%d/stat" % pid) as stat:
                return stat.read().rsplit(")", 1)[1].split()[11:13]
        before, done = used(), self.completed()
        threading.Event().wait(0.5)
        return done > 0 and used() == before and self.completed() == done

    def completed(self):
        """Tasks that the daemon has finished."""
        counters = {counter["name"]: counter["value"] for counter in self.json_of("stats")["counters"]}
        return counters["tasks_succeeded_total"] + counters["tasks_failed_total"]

    def command(self, *words):
        from cli_support import TASKPOOL
        return [TASKPOOL, *words]

    @staticmethod
    def feed(pipe, piece, times):
        try:
            for _ in range(times):
                pipe.write(piece)
            pipe.close()
        except BrokenPipeError:
            pass


class Apply(DaemonTest):
    def test_arguments_are_passed_as_json_or_text(self):
        self.expect(self.run_cli("apply", "square", "12"), out="144\n", err="")
        self.expect(self.run_cli("apply", "echo", '{"a": [1, 2]}'), out='{"a": [1, 2]}\n')
        self.expect(self.run_cli("apply", "echo", "--lines", "some text"), out="some text\n")
        self.expect(self.run_cli("apply", "echo", "1", "2"), out="[1, 2]\n")

    def test_errors_end_with_1(self):
        self.expect(self.run_cli("apply", "fail", '"oh no"'), code=1, out="", err="taskpool: task_failed: ")
        self.expect(self.run_cli("apply", "square", '"x"'), code=1, out="", err="taskpool: bad_argument: ")
        self.expect(self.run_cli("apply", "square"), code=1, out="", err="taskpool: bad_argument: ")
        self.expect(self.run_cli("apply", "crash", "11"), code=1, out="", err="taskpool: worker_lost: ")
        self.expect(self.run_cli("apply", "sleep", "30", "--timeout", "0.1"), code=1, out="", err="taskpool: timed_out: ")
        done = self.expect(self.run_cli("apply", "fail", '"oh no"', "--json"), code=1)
        self.assertEqual(json.loads(done.out)["error"]["code"], "task_failed")

    def test_what_comes_back_cannot_drive_the_terminal(self):
        done = self.expect(self.run_cli("apply", "fail", '"a\\u001b[31mb"'), code=1)
        self.assertIn("a\\x1b[31mb", done.err)

    def test_ctrl_c_cancels_the_task(self):
        cli = self.start_cli("apply", "sleep", "60", stderr=subprocess.PIPE, text=True)
        eventually(lambda: any(row["state"] == "running" for row in self.unfinished_tasks()))
        cli.send_signal(signal.SIGINT)
        self.assertEqual(cli.communicate(timeout=20)[1], "taskpool: cancelled 1 task\n")
        self.assertEqual(cli.returncode, 130)
        eventually(lambda: not self.unfinished_tasks())


if __name__ == "__main__":
    unittest.main(verbosity=2)
