"""Commands as tasks: what is captured, what ends them, and what a full disk costs."""

import os
import signal
import subprocess
import time
import unittest

from story import Daemon, Failed, Story, eventually, is_alive

POOLS = [{"name": "command", "runtime": "command", "workers": 2}]


class Commands(Story):
    pools = POOLS

    def run_command(self, *argv, session=None, **options):
        return (session or self.session()).apply("run", list(argv), **options)

    def test_output_status_and_use_are_captured(self):
        result = self.run_command("sh", "-c", "echo out; echo err >&2; exit 3")
        self.assertEqual((result["stdout"], result["stderr"], result["exit_code"]), ("out\n", "err\n", 3))
        self.assertGreater(result["max_rss_bytes"], 0)

    def test_a_worker_killed_by_its_limit_takes_grandchildren_along(self):
        session = self.session()
        pids = os.path.join(self.daemon.directory, "pids")
        script = f"sleep 60 & echo $! >{pids}; sleep 60"
        error = self.assert_fails("timed_out", self.run_command, "sh", "-c", script, session=session, timeout_ms=300)
        self.assertIn("300 ms", error.detail)
        with open(pids) as file:
            grandchild = int(file.read())
        eventually(lambda: not is_alive(grandchild), "the grandchild ends")
        self.assertEqual(self.run_command("true", session=session)["exit_code"], 0)

    def test_kept_output_can_be_read_while_the_command_runs(self):
        session = self.session()
        task = session.apply("run", ["sh", "-c", "echo first; sleep 60"], detached=True, command={"keep_output": True})["task"]

        def first_line():
            try:
                _, fds = session.ask_frame("log", {"task": task})
            except Failed:
                return None
            text = os.pread(fds[0], 100, 0)
            for fd in fds:
                os.close(fd)
            return text

        self.assertEqual(eventually(first_line, "the first line is there"), b"first\n")
        session.ask("cancel", {"task": task, "force": True})
        self.assertEqual(session.ask("wait", {"task": task, "timeout_ms": 10_000})["state"], "cancelled")


class Bounds(Story):
    config = 'max_output_bytes = "1000"'
    pools = POOLS

    def test_the_configured_bound_on_output_holds_unless_the_call_says_otherwise(self):
        session = self.session()
        argv = ["head", "-c", "5000", "/dev/zero"]
        bounded = session.apply("run", argv)
        self.assertEqual((bounded["stdout_bytes"], bounded["truncated"]), (5000, True))
        self.assertLess(len(bounded["stdout"]), 1200)
        whole = session.apply("run", argv, command={"max_output_bytes": 5000})
        self.assertEqual((len(whole["stdout"]), whole["truncated"]), (5000, False))


@unittest.skipUnless(os.geteuid() == 0, "mounting a small file system is for root")
class FullDisk(unittest.TestCase):
    def test_a_full_disk_costs_the_kept_output_and_nothing_else(self):
        daemon = Daemon(pools=POOLS)
        spool = os.path.join(daemon.directory, "spool")
        os.mkdir(spool, 0o700)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", spool], check=False).returncode != 0:
            self.skipTest("this host lets nobody mount")
        self.addCleanup(subprocess.run, ["umount", "-l", spool], check=True)
        daemon.write_config(f'spool = "{spool}"', POOLS)
        with daemon, daemon.session() as session:
            task = session.apply("run", ["head", "-c", "200000", "/dev/zero"], detached=True,
                                 command={"keep_output": True})["task"]
            row = session.ask("wait", {"task": task, "timeout_ms": 10_000})
            self.assertEqual(row["state"], "succeeded", row)
            request = session.new_request()
            session.send("fetch", head={"task": task}, request=request)
            result = session.result(request)
            self.assertEqual(result["stdout_bytes"], 200_000)
            self.assertIn("No space left", result["output_error"])
            self.assertEqual(session.apply("run", ["true"])["exit_code"], 0)


if __name__ == "__main__":
    unittest.main()
