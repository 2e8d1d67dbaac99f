"""`taskpool top`: on a pseudo terminal, where there is none, and what it leaves behind."""

import os
import re
import signal
import subprocess
import termios
import unittest

from cli_support import TASKPOOL, DaemonTest, eventually
from cli_terminal_test import Terminal

ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"


class Top(DaemonTest):
    def terminal(self, *words, **options):
        master, slave = os.openpty()
        self.addCleanup(os.close, master)
        self.keys = master
        self.before = termios.tcgetattr(master)  # as it was before the program could change it
        terminal = Terminal(["top", "--interval", "100ms", *words], dict(self.environment(), TERM="xterm"), stdin=slave, **options)
        os.close(slave)
        self.addCleanup(terminal.close)
        terminal.read_until(re.escape(ENTER))
        return terminal

    def expect_restored(self, terminal, code):
        terminal.read_until(None)
        self.assertEqual(terminal.process.wait(20), code)
        self.assertEqual(terminal.seen.count(ENTER), terminal.seen.count(LEAVE))
        self.assertGreater(terminal.seen.rindex(LEAVE), terminal.seen.rindex(ENTER))
        self.assertIn(b"\x1b[?25h", terminal.seen[terminal.seen.rindex(b"\x1b[?25l"):])  # the cursor is shown again
        for master in (self.keys, terminal.master):
            self.assertEqual(termios.tcgetattr(master)[3], self.before[3])

    def test_it_shows_what_runs_and_goes_on(self):
        task = self.expect(self.run_cli("submit", "sleep", "60")).out.strip()
        try:
            terminal = self.terminal()
            terminal.read_until(rb"taskpoold [\d.]+ pid %d running" % self.daemon.pid)
            terminal.read_until(rb"busy +[\d.]+m?s .*" + re.escape(task.encode()[:6]))
            terminal.read_until(rb"tasks: 0/s done")  # a second sample has rates
            os.write(self.keys, b"q")
            self.expect_restored(terminal, 0)
        finally:
            self.run_cli("cancel", "--force", task)

    def test_keys_choose_the_order(self):
        terminal = self.terminal()
        terminal.read_until(rb"\[run\]")
        for key, shown in ((b"m", rb"\[memory\]"), (b"m", rb"\[memory\] pool worker  reversed"), (b"p", rb"\[pool\] worker  again"),
                           (b"x", rb"\[pool\]"), (b"d", rb"\[done\]"), (b"w", rb"\[worker\]")):
            terminal.seen = terminal.seen[-20:]
            os.write(self.keys, key)
            terminal.read_until(shown)
        terminal.seen = ENTER + terminal.seen + b"\x1b[?25l"
        os.write(self.keys, b"q")
        self.expect_restored(terminal, 0)

    def test_a_flag_chooses_the_order(self):
        self.terminal("--sort", "done").read_until(rb"\[done\]")
        self.expect(self.run_cli("top", "--once", "--sort", "colour"), code=2)

    def test_ctrl_c_ends_it_cleanly(self):
        terminal = self.terminal()
        terminal.read_until(rb"WORKER")
        # Else the kernel, which flushes after it has sent the signal, may throw away what gives the screen back.
        self.assertTrue(termios.tcgetattr(terminal.master)[3] & termios.NOFLSH)
        terminal.write(b"\x03")  # of the terminal that it was started on
        self.expect_restored(terminal, 0)

    def test_an_interrupt_ends_it_cleanly(self):
        terminal = self.terminal()
        terminal.read_until(rb"WORKER")
        self.assertTrue(termios.tcgetattr(self.keys)[3] & termios.NOFLSH)
        terminal.process.send_signal(signal.SIGINT)  # its own terminal is the other one
        self.expect_restored(terminal, 0)

    def test_signals_end_it_with_the_terminal_restored(self):
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            with self.subTest(number):
                terminal = self.terminal()
                terminal.read_until(rb"WORKER")
                terminal.process.send_signal(number)
                self.expect_restored(terminal, -number)

    def test_stopping_gives_the_terminal_back_meanwhile(self):
        terminal = self.terminal()
        terminal.read_until(rb"WORKER")
        terminal.process.send_signal(signal.SIGTSTP)  # which stops nobody here: no shell of this session could continue it
        terminal.read_until(re.escape(LEAVE) + re.escape(ENTER) + rb"(?s:.*)WORKER")
        terminal.process.send_signal(signal.SIGSTOP)
        eventually(lambda: state_of(terminal.process.pid) == "T")
        termios.tcsetattr(self.keys, termios.TCSANOW, self.before)  # as a shell may do
        terminal.process.send_signal(signal.SIGCONT)
        eventually(lambda: termios.tcgetattr(self.keys)[3] != self.before[3])
        os.write(self.keys, b"q")
        self.expect_restored(terminal, 0)

    def test_it_follows_the_size(self):
        terminal = self.terminal(columns=100)
        terminal.read_until(rb"WORKER")
        for columns in (80, 40):
            terminal.resize(columns)
            terminal.seen = b""
            frame = rb"\x1b\[H((?:(?!\x1b\[H)[\s\S])*)\x1b\[7m[^\x1b]{%d}\x1b\[0m" % columns
            terminal.read_until(frame)
            rows = re.search(frame, terminal.seen)[1].split(b"\r\n")
            self.assertEqual(len(rows), 24)  # the last is the footer's
            for row in rows:
                self.assertLessEqual(len(re.sub(rb"\x1b\[[0-9;]*[mK]|\r", b"", row)), columns, row)
        terminal.process.kill()

    def test_a_daemon_that_goes_away_is_an_error_with_the_terminal_restored(self):
        class Other(Top):
            def runTest(self):
                pass
        Other.setUpClass()
        try:
            other = Other()
            terminal = other.terminal()
            terminal.read_until(rb"WORKER")
            Other.daemon.kill()
            terminal.read_until(None)
            self.assertEqual(terminal.process.wait(20), 69)
            shown = terminal.seen[terminal.seen.rindex(LEAVE):]
            self.assertRegex(shown, rb"taskpool: (no_daemon|daemon_gone)")
            other.doCleanups()
        finally:
            Other.doClassCleanups()

    def test_a_daemon_that_does_not_answer_keeps_nobody(self):
        terminal = self.terminal()
        terminal.read_until(rb"WORKER")
        self.daemon.send_signal(signal.SIGSTOP)
        try:
            terminal.seen = ENTER + b"\x1b[?25l"
            terminal.process.send_signal(signal.SIGINT)
            self.expect_restored(terminal, 0)
        finally:
            self.daemon.send_signal(signal.SIGCONT)


class Elsewhere(DaemonTest):
    def test_once_is_text_without_escapes(self):
        shown = self.expect(self.run_cli("top", "--once"), err="").out
        self.assertNotIn("\x1b", shown)
        self.assertRegex(shown, r"(?m)^POOL +WORKERS +BUSY")
        self.assertRegex(shown, r"(?m)^command +2 ")
        self.assertRegex(shown, r"(?m)^WORKER +PID +POOL")
        self.assertTrue(all(line == line.rstrip() for line in shown.splitlines()))

    def test_not_a_terminal_is_once(self):
        self.assertIn("WORKERS", self.expect(self.run_cli("top")).out)
        terminal = Terminal(["top"], dict(self.environment(), TERM="dumb"))
        self.addCleanup(terminal.close)
        terminal.read_until(None)
        self.assertEqual(terminal.process.wait(20), 0)
        self.assertNotIn(b"\x1b", terminal.seen)

    def test_json(self):
        top = self.json_of("top")
        self.assertEqual(sorted(top), ["pools", "stats", "workers"])
        self.assertEqual(top["stats"]["pid"], self.daemon.pid)
        self.assertEqual(len(top["workers"]), 4)
        self.assertTrue(all(pool["up"] for pool in top["pools"]))
        self.assertIn("task_run_seconds", [row["name"] for row in top["stats"]["series"]])

    def test_without_a_daemon(self):
        done = subprocess.run([TASKPOOL, "--socket", "/nonexistent/socket", "top"], capture_output=True, text=True, timeout=20)
        self.assertEqual((done.returncode, done.stdout), (69, ""))

    def test_usage(self):
        self.expect(self.run_cli("top", "extra"), code=2)
        self.expect(self.run_cli("top", "--interval", "1ms"), code=2, err="--interval")


def state_of(pid):
    with open("/proc/%d/stat" % pid) as stat:
        return stat.read().rsplit(")", 1)[1].split()[0]


if __name__ == "__main__":
    unittest.main(verbosity=2)
