#!/usr/bin/env python3
"""Without its extension the package does the same."""

import os
import shutil
import unittest

import managers_test
import queues_test
from support import PACKAGE, Daemons

PROGRAM = '''
import os, signal, time
import taskpool
from taskpool import Event, Lock, Manager, Pool, Process, Value

def square(x): return x * x
def fussy(x):
    if x == 5: os.kill(os.getpid(), signal.SIGKILL)
    return x
def count(value, lock, times):
    for _ in range(times):
        with lock: value.value += 1

if __name__ == "__main__":
    print(taskpool.info()["extension"])
    with Pool(2) as pool:
        print(pool.map(square, range(2000)) == [x * x for x in range(2000)], pool.apply(square, (3,)))
        print(pool.map(square, range(200), chunksize=1)[-1], sum(pool.imap_unordered(square, range(100))))
        print([type(x).__name__ for x in pool.map_async(fussy, range(8)).outcomes()])
        print(pool.apply(bytes, (200_000,)) == bytes(200_000))
        slow = pool.apply_async(time.sleep, (600,))
        slow.cancel()
        try: slow.get(30)
        except taskpool.Cancelled: print("cancelled")
    lock, value = Lock(), Value("i", 0, lock=False)
    children = [Process(target=count, args=(value, lock, 200)) for _ in range(2)]
    for child in children: child.start()
    for child in children: child.join()
    print(value.value)
    with Manager() as manager: print(manager.dict(a=1))
'''


def plain_package(directory):
    """A copy of the package without its extensions."""
    plain = os.path.join(directory, "plain")
    if not os.path.exists(plain):
        shutil.copytree(PACKAGE, plain, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    return plain


class Plain:
    """Its programs run without the extensions."""

    def run_program(self, source, *arguments, **more):
        return super().run_program(source, *arguments, package=plain_package(self.directory), **more)


class ManagersInPython(Plain, managers_test.Managers):
    """All that managers do, with shared objects read in Python."""

    reader = "python"

    def test_what_reads(self):
        self.assertEqual(self.program('print(multiprocessing.info()["reader"])'), [self.reader])


class ManagersThatAsk(ManagersInPython):
    """The same on a machine where Python may not read them."""

    reader = "daemon"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        with open(os.path.join(plain_package(cls.directory), "taskpool", "segment.py"), "a") as file:
            file.write("\nis_safe = False\n")


class Releases(Plain, managers_test.Releases):
    """What results name is let go of."""


class Fallback(Daemons):
    def test_all_of_it(self):
        lines = self.run_program(PROGRAM, package=plain_package(self.directory)).splitlines()
        self.assertEqual(lines, ["False", "True 9", "39601 328350",
                                 str(["int"] * 5 + ["WorkerLost"] + ["int"] * 2), "True", "cancelled", "400", "{'a': 1}"])


if __name__ == "__main__":
    unittest.main()
