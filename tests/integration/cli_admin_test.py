"""The daemon's tables and the orders to it."""

import subprocess
import unittest

from cli_support import CONFIG, DaemonTest, eventually


class Tables(DaemonTest):
    config = 'keep_results_for = "200ms"\n' + CONFIG  # so that a failure soon counts as not collected

    def heading(self, *words):
        return self.expect(self.run_cli(*words)).out.splitlines()[0].split()

    def test_tables_have_headings_and_rows(self):
        self.assertEqual(self.heading("ps")[:3], ["TASK", "STATE", "POOL"])
        self.assertEqual(self.heading("workers")[:4], ["WORKER", "PID", "POOL", "STATE"])
        self.assertEqual(self.heading("pools")[:3], ["POOL", "RUNTIME", "WORKERS"])
        self.assertEqual(self.heading("functions")[:2], ["FUNCTION", "SIGNATURE"])
        self.assertEqual(self.heading("failures")[:2], ["TASK", "ITEM"])
        pools = self.run_cli("pools").out
        self.assertIn("\ndefault ", pools)
        self.assertIn("\ncommand ", pools)

    def test_json_is_what_the_daemon_says(self):
        self.assertEqual({row["pool"] for row in self.json_of("pools")["pools"]}, {"default", "command"})
        self.assertIn("square", [row["name"] for row in self.json_of("functions")["functions"]])
        self.assertEqual(self.json_of("stats")["pid"], self.daemon.pid)
        self.assertEqual(self.json_of("stats")["socket"], self.socket)
        self.assertEqual(self.json_of("version")["daemon"]["pid"], self.daemon.pid)

    def test_stats_say_what_they_count(self):
        text = self.expect(self.run_cli("stats")).out
        self.assertIn("pid %d" % self.daemon.pid, text)
        self.assertRegex(text, r"(?m)^tasks_succeeded_total +\d+ .*\w")

    def test_failures_that_nobody_collects_are_listed(self):
        task = self.expect(self.run_cli("submit", "fail", '"oh no"')).out.strip()
        eventually(lambda: self.json_of("failures")["failures"])
        self.assertIn(task, self.run_cli("failures").out)

    def test_completion_knows_what_the_daemon_knows(self):
        words = self.expect(self.run_cli("__complete", "--", "map", "sq")).out
        self.assertTrue(words.startswith("square\t"), words)
        self.assertEqual(self.run_cli("__complete", "--", "pause", "c").out.split("\t")[0], "command")

    def test_ping_says_how_long_it_took(self):
        self.assertRegex(self.expect(self.run_cli("ping")).out, r"^pong in \d+ us\n$")
        self.expect(self.run_cli("ping", "--quiet"), out="", err="")
        self.expect(self.run_cli("ping", "--json"), out="{}\n")


class Orders(DaemonTest):
    def pool(self, name):
        return next(row for row in self.json_of("pools")["pools"] if row["pool"] == name)

    def test_a_pool_is_resized(self):
        self.expect(self.run_cli("resize", "default", "3"), out="", err="")
        eventually(lambda: self.pool("default")["workers"] == 3)
        self.expect(self.run_cli("resize", "default", "2"))
        eventually(lambda: self.pool("default")["workers"] == 2)
        self.expect(self.run_cli("resize", "nowhere", "2"), code=1, err="unknown_pool")

    def test_a_paused_pool_accepts_but_starts_nothing(self):
        self.expect(self.run_cli("pause", "default"), out="", err="")
        self.assertTrue(self.pool("default")["paused"])
        with self.start_cli("apply", "square", "4", stdout=subprocess.PIPE, text=True) as cli:
            eventually(lambda: self.pool("default")["queued_tasks"] == 1)
            self.expect(self.run_cli("resume", "default"))
            self.assertEqual(cli.stdout.read(), "16\n")
        self.assertFalse(self.pool("default")["paused"])

    def test_a_reload_says_what_changed(self):
        self.assertTrue(self.expect(self.run_cli("reload")).out.startswith("reloaded"))
        self.expect(self.run_cli("map", "square", "3"), out="[9]\n")
        self.assertEqual(sorted(self.json_of("reload")), ["changed", "needs_restart"])


class Ending(DaemonTest):
    def test_a_drained_daemon_refuses_with_75_and_then_ends(self):
        self.expect(self.run_cli("drain", "--timeout", "20s"), out="", err="")
        self.expect(self.run_cli("map", "square", "3"), code=75, out="", err="taskpool: draining: ")
        self.expect(self.run_cli("apply", "square", "3"), code=75, out="", err="taskpool: draining: ")
        self.expect(self.run_cli("submit", "--", "true"), code=75, out="", err="taskpool: draining: ")
        self.expect(self.run_cli("shutdown"), out="", err="")
        self.assertEqual(self.daemon.wait(20), 0)
        self.expect(self.run_cli("ping"), code=69, err="no_daemon")


if __name__ == "__main__":
    unittest.main(verbosity=2)
