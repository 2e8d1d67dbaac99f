#!/usr/bin/env python3
"""Whose code runs: other users may call what a Python pool lists, with JSON, and nothing else."""

import json
import os
import pickle
import subprocess
import sys
import unittest

from support import DEADLINE, PACKAGE, wire

NOBODY = 65534
POOLS = [{"name": "default", "runtime": "command", "workers": 1},
         {"name": "python", "runtime": "python", "workers": 1, "modules": ["math"]}]
STRANGER = '''
import json, pickle, sys
sys.path[:0] = sys.argv[2:]
import wire
def attempt(call):
    try:
        return call()
    except wire.Failed as error:
        return error.code
with wire.Session(sys.argv[1]) as session:
    item = pickle.dumps(((4,), {}))
    print(json.dumps([
        attempt(lambda: session.apply("math.factorial", 4, pool="python")),
        attempt(lambda: session.apply("os.getpid", encoding=wire.NONE, body=b"", pool="python")),
        attempt(lambda: session.apply("math.factorial", encoding=wire.PICKLE, body=item, pool="python")),
        attempt(lambda: session.ask("pool_open", {"runtime": "python", "command": ["/bin/true"]})),
        attempt(lambda: session.ask("pool_open", {"runtime": "python", "modules": ["os"]})),
    ]))
'''
PYTHON_STRANGER = '''
import taskpool
from taskpool.errors import DaemonError
try:
    print(taskpool.Pool(1).apply(abs, (-1,)))
except (DaemonError, OSError) as error:
    print(error.code)
'''


@unittest.skipUnless(os.geteuid() == 0, "only root can be somebody else")
class Trust(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = wire.Daemon('socket_mode = "0666"', pools=POOLS).start()
        os.chmod(cls.daemon.directory, 0o755)
        # What the stranger needs to read may be below a directory that only its owner may enter.
        cls.support = os.path.join(cls.daemon.directory, "support")
        subprocess.run(["cp", "-rL", os.path.dirname(wire.__file__), cls.support], check=True)
        subprocess.run(["cp", "-rL", PACKAGE, os.path.join(cls.support, "package")], check=True)
        subprocess.run(["chmod", "-R", "a+rX", cls.support], check=True)

    @classmethod
    def tearDownClass(cls):
        cls.daemon.__exit__(None, None, None)

    def as_nobody(self, source, *arguments, **environment):
        done = subprocess.run([sys.executable, "-c", source, *arguments], user=NOBODY, group=NOBODY, extra_groups=[], cwd="/",
                              capture_output=True, text=True, timeout=DEADLINE,
                              env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **environment})
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_a_stranger(self):
        answers = json.loads(self.as_nobody(STRANGER, self.daemon.socket, self.support))
        self.assertEqual(answers, [24] + ["permission_denied"] * 4)

    def test_a_stranger_with_the_package(self):
        out = self.as_nobody(PYTHON_STRANGER, TASKPOOL_SOCKET=self.daemon.socket,
                             PYTHONPATH=os.path.join(self.support, "package"))
        self.assertEqual(out, "permission_denied\n")

    def test_the_daemons_user(self):
        with self.daemon.session() as session:
            item = pickle.dumps(((4,), {}))
            result = session.apply("math.factorial", encoding=wire.PICKLE, body=item, pool="python")
            self.assertEqual(pickle.loads(result), 24)
            self.assertIsInstance(session.apply("os.getpid", encoding=wire.NONE, body=b"", pool="python"), int)


if __name__ == "__main__":
    unittest.main()
