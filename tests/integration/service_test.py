#!/usr/bin/python3
"""The daemon under a service manager, which the tests play: a passed socket, what it is told, and the units themselves."""

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import unittest

from story import DEADLINE, Daemon, Failed, Session, eventually

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
UNITS = os.path.join(REPOSITORY, "daemon/systemd")


class Managed(unittest.TestCase):
    """A daemon that is started as a service: with a socket that is there before it, and with somebody to notify."""

    def setUp(self):
        self.daemon = Daemon()
        self.addCleanup(self.daemon.__exit__, None)
        self.notifications = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.notifications.close)
        self.notifications.settimeout(DEADLINE)
        path = os.path.join(self.daemon.directory, "notify")
        self.notifications.bind(path)
        self.environment = {**os.environ, "NOTIFY_SOCKET": path}
        self.listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.addCleanup(self.listening.close)
        self.path = os.path.join(self.daemon.directory, "passed")
        self.listening.bind(self.path)
        self.listening.listen(100)

    def start(self, *arguments, fds=None, names=(), **environment):
        """Starts the daemon with these descriptors from 3 on, and their names, as the service manager does."""
        fds = [self.listening.fileno()] if fds is None else fds
        # The shell makes its own pid LISTEN_PID before it becomes the daemon.
        moves = " ".join(f"{number}<&{fd}" for number, fd in enumerate(fds, 3))
        script = f'exec {moves}; LISTEN_PID=$$ LISTEN_FDS={len(fds)} exec "$0" "$@"'
        if names:
            environment["LISTEN_FDNAMES"] = ":".join(names)
        with open(self.daemon.log_path, "ab") as log:
            self.daemon.process = subprocess.Popen(
                ["bash", "-c", script, os.path.join(self.daemon.binaries, "taskpoold"), "--config", self.daemon.config, *arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=fds, env={**self.environment, **environment})

    def hear(self, wanted):
        """The next notification that has this assignment."""
        while True:
            text = self.notifications.recv(4096).decode()
            if wanted in text.split("\n"):
                return text

    def test_a_passed_socket_is_served_and_left(self):
        early = Session(self.path, greet=False)  # came before the daemon did
        self.addCleanup(early.close)
        early.send("hello", head={"version": 1})
        self.start("--socket", os.path.join(self.daemon.directory, "another"))
        early.receive("welcome")
        self.assertEqual(early.apply("square", 3), 9)
        self.assertEqual(early.ask("stats")["socket"], self.path)
        early.close()
        self.assertEqual(self.daemon.stop(), 0)
        self.assertTrue(os.path.exists(self.path), "the path is the service manager's")
        # Who comes between two daemons waits for the second.
        between = Session(self.path, greet=False)
        self.addCleanup(between.close)
        between.send("hello", head={"version": 1})
        self.start()
        between.receive("welcome")
        self.assertEqual(between.apply("square", 4), 16)
        self.assertFalse(os.path.exists(os.path.join(self.daemon.directory, "another")))

    def test_what_is_passed_must_be_one_listening_socket(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other, tempfile.TemporaryFile() as file:
            for fds, why in (([self.listening.fileno(), other.fileno()], "2 sockets"), ([other.fileno()], "no listening"),
                             ([file.fileno()], "no listening")):
                with self.subTest(why):
                    self.start(fds=fds)
                    self.assertEqual(self.daemon.wait(), 78)
                    self.assertIn(why, self.daemon.log())

    def test_a_passed_admin_socket_is_known_by_its_name(self):
        admin_path = os.path.join(self.daemon.directory, "passed-admin")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as admin:
            admin.bind(admin_path)
            admin.listen(100)
            self.start("--admin-requests", "admin_socket", fds=[self.listening.fileno(), admin.fileno()],
                       names=["taskpoold.socket", "admin"])
            self.hear("READY=1")
            with Session(self.path) as session, Session(admin_path) as operator:
                with self.assertRaises(Failed) as caught:
                    session.ask("pool_pause")
                self.assertEqual(caught.exception.code, "permission_denied")
                self.assertIn("admin socket", caught.exception.detail)
                self.assertTrue(operator.ask("pool_pause")["paused"])
            self.assertEqual(self.daemon.stop(), 0)
            self.assertTrue(os.path.exists(admin_path), "the path is the service manager's")
            self.start(fds=[self.listening.fileno(), admin.fileno()], names=["admin", "admin"])
            self.assertEqual(self.daemon.wait(), 78)
            self.assertIn("2 sockets of a kind", self.daemon.log())

    def test_two_daemons_do_not_serve_one_passed_socket(self):
        self.start()
        self.hear("READY=1")
        first = self.daemon.process
        self.addCleanup(lambda: (first.terminate(), first.wait()))
        self.start()
        self.assertEqual(self.daemon.wait(), 75)
        self.assertIn("another taskpoold serves", self.daemon.log())

    def test_readiness_reloads_and_stops_are_told(self):
        self.start()
        self.assertIn(f"STATUS=serving {self.path}", self.hear("READY=1"))
        self.daemon.process.send_signal(signal.SIGHUP)
        self.hear("RELOADING=1")
        self.hear("READY=1")
        self.daemon.process.terminate()
        self.hear("STOPPING=1")

    def test_the_event_loop_feeds_the_watchdog(self):
        self.start(WATCHDOG_USEC="100000")
        self.hear("READY=1")
        for _ in range(3):
            self.hear("WATCHDOG=1")
        self.daemon.process.send_signal(signal.SIGSTOP)  # a loop that is stuck
        self.addCleanup(self.daemon.process.send_signal, signal.SIGCONT)
        eventually(lambda: self.process_state() == "T", "it is stopped")
        self.notifications.settimeout(0)
        with self.assertRaises(BlockingIOError):
            while True:
                self.notifications.recv(4096)  # what was sent before
        self.notifications.settimeout(0.5)  # five times the interval
        with self.assertRaises(TimeoutError):
            self.notifications.recv(4096)
        self.daemon.process.send_signal(signal.SIGCONT)
        self.notifications.settimeout(DEADLINE)
        self.hear("WATCHDOG=1")

    def process_state(self):
        with open(f"/proc/{self.daemon.process.pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0]


@unittest.skipUnless(shutil.which("systemd-analyze"), "SKIPPED: systemd-analyze is not installed")
class Units(unittest.TestCase):
    """The units, with a program that exists anywhere in place of the daemon."""

    HIGHEST_EXPOSURE = 3.0

    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = directory.name
        for kind in ("", "user"):
            os.makedirs(os.path.join(self.directory, kind or "system"))
            for name in ("taskpoold.service.in", *self.sockets(kind)):
                with open(os.path.join(UNITS, kind, name)) as file:
                    text = re.sub(r"^ExecStart=.*", "ExecStart=/bin/true", file.read(), flags=re.MULTILINE)
                with open(os.path.join(self.directory, kind or "system", name.removesuffix(".in")), "w") as file:
                    file.write(text)

    @staticmethod
    def sockets(kind):
        return [name for name in os.listdir(os.path.join(UNITS, "user" if kind == "user" else "")) if name.endswith(".socket")]

    def analyze(self, *arguments):
        return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=DEADLINE,
                              env={**os.environ, "XDG_RUNTIME_DIR": self.directory})

    def test_they_are_valid(self):
        for kind in ("system", "user"):
            with self.subTest(kind):
                units = [os.path.join(self.directory, kind, name) for name in ("taskpoold.service", *self.sockets(kind))]
                checked = self.analyze("verify", "--man=no", *(["--user"] if kind == "user" else []), *units)
                self.assertEqual((checked.returncode, checked.stderr), (0, ""))

    def test_the_service_is_hardened(self):
        unit = os.path.join(self.directory, "system", "taskpoold.service")
        scored = self.analyze("security", "--offline=true", unit)
        exposure = float(re.search(r"Overall exposure level for \S+: ([0-9.]+)", scored.stdout)[1])
        print(f"systemd-analyze security: {exposure}, at most {self.HIGHEST_EXPOSURE}")
        self.assertLessEqual(exposure, self.HIGHEST_EXPOSURE)

    def test_the_drop_in_is_valid(self):
        shutil.copytree(os.path.join(self.directory, "system"), os.path.join(self.directory, "open"))
        dropped = os.path.join(self.directory, "open", "taskpoold.service.d")
        os.mkdir(dropped)
        shutil.copy(os.path.join(UNITS, "open-tasks.conf"), dropped)
        checked = self.analyze("verify", "--man=no", os.path.join(self.directory, "open", "taskpoold.service"))
        self.assertEqual((checked.returncode, checked.stderr), (0, ""))


if __name__ == "__main__":
    unittest.main()
