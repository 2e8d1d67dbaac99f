#!/usr/bin/env python3
"""The programs of multiprocessing's tutorial, on taskpool, say what they should."""

import os
import re
import unittest

from support import Daemons

TUTORIAL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tutorial")


class Tutorial(Daemons):
    def program(self, name):
        return self.run_program(os.path.join(TUTORIAL, name)).splitlines()

    def test_process(self):
        lines = self.program("process.py")
        self.assertEqual(lines[0:3], ["parent", "name: MainProcess", "is the parent: True"])
        self.assertEqual(lines[4:7], ["child", "name: worker bee", "is the parent: False"])
        pids = [int(re.fullmatch(r".*pid: (\d+)", line)[1]) for line in (lines[3], lines[7], lines[8])]
        self.assertNotEqual(pids[0], pids[1])
        self.assertEqual(pids[1], pids[2])
        self.assertEqual(lines[9], "exit code: 0")

    def test_lock(self):
        self.assertEqual(self.program("lock.py"), ["2000"])

    def test_pipe(self):
        self.assertEqual(self.program("pipe.py"), ["DUPLEX", "PIPE", "closed", "30"])

    def test_manager(self):
        self.assertEqual(self.program("manager.py"), ["{'name': 'shared', 2: [1, 2], 0.25: None}", "[9, 8, 7, 6, 5]"])

    def test_pool(self):
        self.assertEqual(self.program("pool.py"), ["[0, 1, 4, 9, 16, 25, 36, 49]"] * 2)


if __name__ == "__main__":
    unittest.main()
