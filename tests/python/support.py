"""Runs programs that use the Python package against a daemon of the test's own."""

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

import wire  # noqa: E402

PACKAGE = os.path.join(os.path.dirname(wire.binaries()), "python")
DEADLINE = wire.DEADLINE
#: "Within a second", with room for a machine that does other things too, and for starting two interpreters.
SOON = 5.0 if not wire.SANITIZED else 30.0


class Daemons(unittest.TestCase):
    """A test case with a daemon, in whose environment programs run."""

    config = ""

    @classmethod
    def setUpClass(cls):
        modules = [os.path.join(os.path.dirname(wire.binaries()), "modules", "demo.so")]
        cls.daemon = wire.Daemon(cls.config, pools=[{"name": "default", "workers": 1, "modules": modules}]).start()
        cls.directory = tempfile.mkdtemp(prefix="python-", dir=cls.daemon.directory)

    @classmethod
    def tearDownClass(cls):
        cls.daemon.stop()
        cls.daemon.__exit__(None, None, None)

    def environment(self, **more):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TASKPOOL_")}
        return {**kept, "PYTHONPATH": PACKAGE, "PYTHONDONTWRITEBYTECODE": "1", "TASKPOOL_SOCKET": self.daemon.socket, **more}

    def write(self, source, name=None):
        """A program as a file; its path."""
        name = name or f"program_{self._testMethodName}.py"
        path = os.path.join(self.directory, name)
        with open(path, "w") as file:
            file.write(textwrap.dedent(source))
        return path

    def start(self, source, *arguments, **more):
        """Starts a program, given as text or as the path of a file."""
        path = self.write(source) if "\n" in source else source
        environment = self.environment(PYTHONPATH=more.pop("package", PACKAGE))
        return subprocess.Popen([sys.executable, path, *map(str, arguments)], stdin=more.pop("stdin", subprocess.DEVNULL),
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **more)

    def finish(self, process, deadline=DEADLINE):
        """Its standard output and error; fails if it does not end in time."""
        try:
            return process.communicate(timeout=deadline)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            out, err = process.communicate()
            self.fail(f"it hangs; it said:\n{out}\n{err}\n{self.daemon.log()[-3000:]}")

    def run_program(self, source, *arguments, deadline=DEADLINE, code=0, **more):
        """Runs a program to its end; its standard output."""
        process = self.start(source, *arguments, **more)
        out, err = self.finish(process, deadline)
        self.assertEqual(process.returncode, code, f"{out}\n{err}\n{self.daemon.log()[-3000:]}")
        self.stderr = err
        return out

    def run_main(self, prelude, body, *arguments, **options):
        """Runs a program whose main part is `body`; the lines of its standard output."""
        main = "".join(f"    {line}\n" for line in body.strip().split("\n"))
        return self.run_program(f'{prelude}if __name__ == "__main__":\n{main}', *arguments, **options).splitlines()


def wait_for(question, what, deadline=DEADLINE):
    return wire.eventually(question, what, deadline)


__all__ = ["DEADLINE", "Daemons", "PACKAGE", "SOON", "time", "wait_for", "wire"]
