"""What the stories about the command line share: one daemon in a directory of its own, and ways to run the client."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

BUILD = os.environ.get("TASKPOOL_BUILD", os.path.join(os.path.dirname(__file__), "../../build/dev"))
TASKPOOL = os.path.join(os.path.abspath(BUILD), "bin", "taskpool")
TASKPOOLD = os.path.join(os.path.abspath(BUILD), "bin", "taskpoold")

CONFIG = """
socket = "{directory}/socket"
cancel_grace = "500ms"
[[pool]]
name = "default"
runtime = "native"
modules = ["demo"]
workers = 2
[[pool]]
name = "command"
runtime = "command"
workers = 2
"""


def eventually(question, seconds=20.0):
    """Waits until `question` answers something true, and returns that."""
    deadline = time.monotonic() + seconds
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError("it did not come about within %s seconds" % seconds)
        time.sleep(0.01)


def memory_peak(pid):
    """The largest resident size that a process has had, in bytes."""
    with open("/proc/%d/status" % pid) as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


class Outcome:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    def __repr__(self):
        return "exit code %d\n--- stdout\n%s\n--- stderr\n%s" % (self.code, self.out[-2000:], self.err[-2000:])


class DaemonTest(unittest.TestCase):
    """Tests that share one daemon."""

    config = CONFIG

    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.mkdtemp(prefix="taskpool-cli-")
        cls.addClassCleanup(shutil.rmtree, cls.directory, True)
        cls.socket = os.path.join(cls.directory, "socket")
        cls.log_path = os.path.join(cls.directory, "log")
        path = os.path.join(cls.directory, "config.toml")
        with open(path, "w") as config:
            config.write(cls.config.format(directory=cls.directory))
        with open(cls.log_path, "w") as log:
            cls.daemon = subprocess.Popen([TASKPOOLD, "--config", path], stdin=subprocess.DEVNULL, stderr=log)
        cls.addClassCleanup(cls.stop_daemon)
        eventually(lambda: cls.daemon.poll() is not None or cls.run_cli("ping").code == 0)
        if cls.daemon.poll() is not None:
            with open(cls.log_path) as log:
                raise AssertionError("the daemon did not start:\n" + log.read())

    @classmethod
    def stop_daemon(cls):
        if cls.daemon.poll() is None:
            cls.daemon.send_signal(signal.SIGTERM)
        try:
            cls.daemon.wait(20)
        except subprocess.TimeoutExpired:
            cls.daemon.kill()
            cls.daemon.wait()
            raise

    @classmethod
    def environment(cls):
        return dict(os.environ, TASKPOOL_SOCKET=cls.socket)

    @classmethod
    def run_cli(cls, *words, stdin="", seconds=60, cwd=None, text=True):
        if not text and isinstance(stdin, str):
            stdin = stdin.encode()
        done = subprocess.run([TASKPOOL, *words], input=stdin, capture_output=True, timeout=seconds, text=text,
                              env=cls.environment(), cwd=cwd)
        return Outcome(done.returncode, done.stdout, done.stderr)

    @classmethod
    def start_cli(cls, *words, **options):
        return subprocess.Popen([TASKPOOL, *words], env=cls.environment(), **options)

    def expect(self, outcome, code=0, out=None, err=None):
        """Checks an outcome: `out` is all of the output, `err` a part of the errors ("": none)."""
        self.assertEqual(outcome.code, code, outcome)
        if out is not None:
            self.assertEqual(outcome.out, out, outcome)
        if err == "":
            self.assertEqual(outcome.err, "", outcome)
        elif err is not None:
            self.assertIn(err, outcome.err, outcome)
        return outcome

    def json_of(self, *words):
        return json.loads(self.expect(self.run_cli(*words, "--json")).out)

    def unfinished_tasks(self):
        rows = self.json_of("ps", "--all")["tasks"]
        return [row for row in rows if row["state"] not in ("succeeded", "failed", "cancelled")]
