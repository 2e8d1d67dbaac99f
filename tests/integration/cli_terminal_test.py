"""The progress bar, Ctrl-C and the width of a terminal, on a pseudo terminal."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
import unittest

from cli_support import TASKPOOL, DaemonTest, eventually

ERASE = b"\r\x1b[K"


class Terminal:
    """A client on a terminal of its own; its standard output goes there too, or into a pipe."""

    def __init__(self, words, environment, columns=80, output_too=True, stdin=subprocess.DEVNULL):
        self.master, slave = pty.openpty()
        self.resize(columns)

        def take_terminal():
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen([TASKPOOL, *words], stdin=stdin, stdout=slave if output_too else subprocess.PIPE,
                                        stderr=slave, env=environment, preexec_fn=take_terminal, pass_fds=[slave])
        os.close(slave)
        self.seen = b""

    def resize(self, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def read_until(self, pattern, seconds=20):
        """Reads until the pattern is on the screen; None: until the end."""
        deadline = time.monotonic() + seconds
        while pattern is None or not re.search(pattern, self.seen):
            ready, _, _ = select.select([self.master], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                raise AssertionError("%r did not appear in %r" % (pattern, self.seen))
            try:
                piece = os.read(self.master, 65536)
            except OSError:  # the other end is closed
                piece = b""
            if not piece:
                if pattern is None:
                    return
                raise AssertionError("%r did not appear in %r" % (pattern, self.seen))
            self.seen += piece

    def press_ctrl_c(self):
        # The kernel sends the signal, and then throws away what was written: also what the program says at once.
        now = termios.tcgetattr(self.master)
        now[3] |= termios.NOFLSH
        termios.tcsetattr(self.master, termios.TCSANOW, now)
        self.write(b"\x03")

    def write(self, data):
        os.write(self.master, data)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()
        os.close(self.master)


class Progress(DaemonTest):
    def terminal(self, *words, **options):
        terminal = Terminal(words, self.environment(), **options)
        self.addCleanup(terminal.close)
        return terminal

    def test_a_bar_is_shown_and_taken_away(self):
        terminal = self.terminal("map", "sleep", "--chunk", "1", *["0.1"] * 20)
        terminal.read_until(None)
        self.assertEqual(terminal.process.wait(20), 0)
        self.assertRegex(terminal.seen, rb"\[#+ *\] \d+/20 \d+%  [\d.]+/s  [\d.]+m?s left")
        self.assertTrue(terminal.seen.endswith(ERASE + b"[" + b", ".join([b"0.1"] * 20) + b"]\r\n"), terminal.seen)

    def test_it_is_drawn_at_most_ten_times_a_second(self):
        start = time.monotonic()
        terminal = self.terminal("map", "sleep", "--chunk", "1", *["0.005"] * 300)
        terminal.read_until(None)
        seconds = time.monotonic() - start
        self.assertLessEqual(len(re.findall(rb"\d+/300", terminal.seen)), seconds * 10 + 2)

    def test_failures_are_counted_in_it(self):
        terminal = self.terminal("map", "sleep", "--chunk", "1", "-1", *["0.1"] * 20)
        terminal.read_until(rb"1 failed")
        terminal.read_until(None)
        self.assertIn(b"item 0: bad_argument", terminal.seen)

    def test_without_a_total_it_counts(self):
        read, write = os.pipe()
        terminal = self.terminal("map", "sleep", output_too=False, stdin=read)
        os.close(read)
        os.write(write, b"0.2\n" * 8)
        terminal.read_until(rb"[1-9] done  [\d.]+/s")
        os.close(write)
        terminal.read_until(None)
        self.assertEqual(terminal.process.stdout.read(), b"0.2\n" * 8)
        self.assertTrue(terminal.seen.endswith(ERASE), terminal.seen)

    def test_it_follows_the_width(self):
        terminal = self.terminal("map", "sleep", "--chunk", "1", *["0.1"] * 40, columns=100)
        terminal.read_until(rb"\[[# ]{40}\] ")
        terminal.resize(30)
        terminal.seen = b""
        terminal.read_until(rb"/40.*\r.*/40.*\r")
        for line in terminal.seen.split(ERASE)[2:4]:
            self.assertLess(len(line), 30, line)
        terminal.process.send_signal(signal.SIGINT)
        terminal.process.wait(20)

    def test_nobody_watching_no_bar(self):
        for words in (["--no-progress"], ["--quiet"]):
            terminal = self.terminal("map", "sleep", "0.5", *words)
            terminal.read_until(None)
            self.assertEqual(terminal.seen, b"[0.5]\r\n")
        self.assertEqual(self.run_cli("map", "sleep", "0.5").err, "")
        self.assertIn("0/1", self.run_cli("map", "sleep", "0.5", "--progress").err)

    def test_ctrl_c_cancels_and_says_so(self):
        terminal = self.terminal("map", "sleep", "--chunk", "1", *["30"] * 12)
        terminal.read_until(rb"0/12")
        eventually(lambda: any(row.get("running") for row in self.unfinished_tasks()))
        terminal.press_ctrl_c()
        terminal.read_until(None)
        self.assertEqual(terminal.process.wait(20), 130)
        self.assertTrue(terminal.seen.endswith(ERASE + b"taskpool: cancelled 12 tasks\r\n"), terminal.seen)
        self.assertEqual(self.unfinished_tasks(), [])

    def test_ctrl_c_while_waiting_for_input(self):
        read, write = os.pipe()
        terminal = self.terminal("map", "square", stdin=read)
        os.close(read)
        os.write(write, b"3\n")
        terminal.read_until(rb"9\r\n")
        terminal.press_ctrl_c()
        terminal.read_until(None)
        self.assertEqual(terminal.process.wait(20), 130)
        self.assertIn(b"taskpool: cancelled 0 tasks", terminal.seen)
        os.close(write)

    def test_inputs_from_a_terminal_are_asked_for(self):
        master, slave = pty.openpty()
        terminal = self.terminal("map", "square", stdin=slave)
        os.close(slave)
        terminal.read_until(rb"reading inputs, one a line")
        os.write(master, b"7\n\x04")
        terminal.read_until(rb"49\r\n")
        self.assertEqual(terminal.process.wait(20), 0)
        os.close(master)


if __name__ == "__main__":
    unittest.main(verbosity=2)
