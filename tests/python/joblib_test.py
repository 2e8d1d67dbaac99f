#!/usr/bin/env python3
"""joblib on the daemon's workers, where joblib is installed (Debian: python3-joblib)."""

import importlib.util
import unittest

from support import Daemons

PROGRAM = '''
import os
import joblib
import taskpool.joblib

def square(x):
    return x * x

def refuse(x):
    raise ValueError(f"not {x}")

def worker(_):
    return os.getpid()

if __name__ == "__main__":
    with joblib.parallel_backend("taskpool", n_jobs=2):
        print(joblib.Parallel()(joblib.delayed(square)(i) for i in range(100)) == [i * i for i in range(100)])
        print(os.getpid() in joblib.Parallel()(joblib.delayed(worker)(i) for i in range(4)))
        try:
            joblib.Parallel()(joblib.delayed(refuse)(i) for i in range(4))
        except ValueError as error:
            print(error)
        print(joblib.Parallel()(joblib.delayed(square)(i) for i in (2, 3)))
        with joblib.Parallel(batch_size=5) as parallel:  # one pool for several
            print(sum(parallel(joblib.delayed(square)(i) for i in range(50))), parallel(joblib.delayed(square)(i) for i in [7]))
'''


@unittest.skipUnless(importlib.util.find_spec("joblib"), "joblib is not installed")
class Joblib(Daemons):
    def test_a_backend(self):
        lines = self.run_program(PROGRAM).splitlines()
        self.assertEqual(lines[:2], ["True", "False"])
        self.assertRegex(lines[2], "^not [0-3]$")
        self.assertEqual(lines[3:], ["[4, 9]", "40425 [49]"])


if __name__ == "__main__":
    unittest.main()
