#!/usr/bin/env python3
"""Python functions by name, for everybody: from the shell, with JSON."""

import json
import os
import subprocess
import unittest

from support import DEADLINE, wire

POOLS = [{"name": "default", "runtime": "command", "workers": 1},
         {"name": "python", "runtime": "python", "workers": 1, "modules": ["math", "statistics"]}]


class Named(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = wire.Daemon(pools=POOLS)
        cls.daemon.start()

    @classmethod
    def tearDownClass(cls):
        cls.daemon.__exit__(None, None, None)

    def cli(self, *words, code=0):
        command = [os.path.join(self.daemon.binaries, "taskpool"), "--socket", self.daemon.socket, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout.strip() if code == 0 else done.stderr

    def test_calls(self):
        self.assertEqual(self.cli("apply", "--pool", "python", "math.factorial", "20"), "2432902008176640000")
        self.assertEqual(self.cli("apply", "--pool", "python", "math.gcd", "12", "18"), "6")
        self.assertEqual(self.cli("apply", "--pool", "python", "statistics.mean", "[1, 2, 6]"), "3")
        self.assertEqual(json.loads(self.cli("map", "--pool", "python", "math.sqrt", "1", "4", "9")), [1.0, 2.0, 3.0])
        self.assertEqual(self.cli("apply", "--pool", "python", "builtins.max", "1", "5", "3"), "5")

    def test_a_pool_that_starts_when_it_is_first_called(self):
        with wire.Daemon(pools=[]) as daemon:  # no configuration: what there is by default
            pools = {row["pool"]: row for row in daemon.ask("pools")["pools"]}
            self.assertEqual((pools["python"]["runtime"], pools["python"]["workers"], pools["python"]["generation"]),
                             ("python", 0, 0))
            command = [os.path.join(self.daemon.binaries, "taskpool"), "--socket", daemon.socket, "apply", "--pool", "python",
                       "math.factorial", "20"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
            self.assertEqual((done.stdout, done.stderr), ("2432902008176640000\n", ""))

    def test_a_pool_that_cannot_start_when_it_is_called(self):
        pools = [{"name": "default", "runtime": "nothing", "on_demand": True}]
        with wire.Daemon('[runtime.nothing]\ncommand = ["false"]\n', pools=pools) as daemon:
            for _ in range(2):  # each call is a try of its own
                command = [os.path.join(self.daemon.binaries, "taskpool"), "--socket", daemon.socket, "apply", "f"]
                done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn("start_failed", done.stderr)
                self.assertIn("exit code 1", done.stderr)

    def test_a_pool_whose_runtime_is_missing_names_the_program(self):
        pools = [{"name": "default", "runtime": "nothing", "on_demand": True}]
        with wire.Daemon('[runtime.nothing]\ncommand = ["/no/such/runtime"]\n', pools=pools) as daemon:
            command = [os.path.join(self.daemon.binaries, "taskpool"), "--socket", daemon.socket, "apply", "f"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("refused before it ran", done.stderr)
            self.assertIn("/no/such/runtime", done.stderr)

    def test_errors(self):
        self.assertIn("ValueError", self.cli("--json", "apply", "--pool", "python", "math.sqrt", "-1", code=1)
                      + self.failures("math.sqrt"))
        self.assertIn("no_such", self.cli("apply", "--pool", "python", "math.no_such", "1", code=1))
        self.assertIn("no module", self.cli("apply", "--pool", "python", "no_module.f", "1", code=1))
        self.assertIn("not JSON", self.cli("apply", "--pool", "python", "builtins.complex", "1", code=1))

    def failures(self, function):
        return json.dumps([row for row in self.daemon.ask("failures")["failures"] if row["function"] == function])

    def test_functions(self):
        self.cli("apply", "--pool", "python", "math.factorial", "3")
        listed = {row["name"]: row for row in self.daemon.ask("functions", {"pool": "python"})["functions"]}
        self.assertIn("math.factorial", listed)
        self.assertIn("statistics.median", listed)
        self.assertIn("(data)", listed["statistics.median"]["signature"])

    def test_numbers(self):
        with self.daemon.session() as session:
            request = session.new_request()
            body = b"".join(number.to_bytes(8, "little") for number in (1, 2, 3))
            session.send("map", head={"function": "math.factorial", "pool": "python"}, body=body, encoding=wire.I64, count=3,
                         flags=wire.LAST, request=request)
            outcomes, _ = session.outcomes(request)
        self.assertEqual(outcomes, {0: 1, 1: 2, 2: 6})


if __name__ == "__main__":
    unittest.main()
