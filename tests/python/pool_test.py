#!/usr/bin/env python3
"""Pool and its results behave as multiprocessing's, and what they have beyond that does what it says."""

import importlib.util
import subprocess
import sys
import unittest

from support import Daemons

PRELUDE = '''\
import os, sys, threading, time, warnings
import taskpool as multiprocessing
from taskpool import Pool, TimeoutError

def square(x): return x * x
def add(x, y=0, *, z=0): return x + y + z
def whoami(): return os.getpid()
def fail(x): raise ValueError(f"no {x}")
class Thing:
    def __init__(self, number): self.number = number
class Leaving:
    def __reduce__(self): return sys.exit, (3,)
def leave(_): return Leaving()
STATE = []
def remember(value): STATE.append(value)
def recall(): return list(STATE)
'''


class Pools(Daemons):
    def program(self, body, *arguments, **options):
        return self.run_main(PRELUDE, body, *arguments, **options)

    def test_every_way_to_call(self):
        lines = self.program('''
with Pool(2) as pool:
    print(pool.apply(add, (1, 2), {"z": 3}), pool.apply(add, [5]), pool.apply_async(add, kwds={"x": 4}).get())
    print(pool.map(square, [3, 4]), pool.map(square, []), pool.map(square, (x for x in range(3)), chunksize=2))
    print(pool.starmap(add, [(1, 2), (3,)]), pool.starmap_async(add, [(1, 1)]).get())
    print(list(pool.imap(square, range(5), chunksize=2)), sorted(pool.imap_unordered(square, range(5))))
    got = []
    pool.map_async(square, [1, 2], callback=got.append).wait()
    pool.apply_async(fail, (1,), error_callback=got.append).wait()
    pool.map_async(fail, [2, 3], callback=got.append, error_callback=got.append).wait()
    pool.starmap_async(fail, [(4,)], error_callback=got.append).wait()
    print(got, got[2].results)
''')
        self.assertEqual(lines, ["6 5 4", "[9, 16] [] [0, 1, 4]", "[3, 3] [2]", "[0, 1, 4, 9, 16] [0, 1, 4, 9, 16]",
                                 "[[1, 4], ValueError('no 1'), ValueError('no 2'), ValueError('no 4')] "
                                 "[ValueError('no 2'), ValueError('no 3')]"])

    def test_results(self):
        lines = self.program('''
with Pool(1) as pool:
    slow = pool.apply_async(time.sleep, (0.2,))
    print(slow.ready())
    for ask in (slow.successful, lambda: slow.get(0.01), lambda: slow.get(timeout=0)):
        try:
            ask()
        except (ValueError, TimeoutError) as error:
            print(type(error).__name__)
    slow.wait()
    print(slow.ready(), slow.successful(), slow.get())
    bad = pool.apply_async(fail, (1,))
    bad.wait()
    print(bad.successful())
    lazy = pool.imap(time.sleep, [0.3])
    try:
        lazy.next(0.01)
    except TimeoutError:
        print("not yet")
    print(lazy.next())
''')
        self.assertEqual(lines, ["False", "ValueError", "TimeoutError", "TimeoutError", "True True None", "False", "not yet",
                                 "None"])

    def test_results_go_with_the_last_who_has_them(self):
        lines = self.program('''
import gc, weakref
with Pool(2) as pool:
    for call in (lambda: pool.map(Thing, range(10)), lambda: pool.map(Thing, range(10), 3), lambda: list(pool.imap(Thing, range(10))),
                 lambda: [pool.apply(Thing, (1,))], lambda: pool.map_async(Thing, range(10)).get()):
        results = call()
        left = [weakref.ref(thing) for thing in results]
        del results
        gc.collect()
        print(sum(reference() is not None for reference in left))
''')
        self.assertEqual(lines, ["0"] * 5)

    def test_what_cannot_be_sent(self):
        lines = self.program('''
with Pool(1) as pool:
    lock, told = threading.Lock(), []
    for _ in range(2):  # the second time the function is known to the daemon
        bad = pool.apply_async(square, (lock,))
        try: print(bad.ready(), bad.successful(), bad.get())
        except TypeError as error: print(error)
        pool.apply_async(square, (lock,), callback=told.append, error_callback=told.append).wait()
        try: pool.apply(square, (lock,))
        except TypeError as error: print(error)
        print([type(error).__name__ for error in told], pool.apply(square, (3,)))
    pool.close()
    pool.join()
''')
        refused = "cannot pickle '_thread.lock' object"
        self.assertEqual(lines, [refused, refused, "['TypeError'] 9", refused, refused, "['TypeError', 'TypeError'] 9"])

    def test_a_result_that_would_end_who_reads_it(self):
        lines = self.program('''
with Pool(1) as pool:
    for call in (lambda: pool.apply(Leaving), lambda: pool.map(leave, [1]), lambda: list(pool.imap(leave, [1]))):
        try: call()
        except SystemExit as error: print(error)
    told = []
    later = pool.apply_async(Leaving, error_callback=told.append)
    for _ in range(2):
        try: later.get(20)
        except SystemExit as error: print(error, told)
    print(pool.apply(square, (3,)))
''')
        self.assertEqual(lines, ["3"] * 3 + ["3 [SystemExit(3)]"] * 2 + ["9"])

    def test_arguments_are_checked(self):
        lines = self.program('''
for wrong in (dict(processes=0), dict(processes=1, initializer=3), dict(processes=1, maxtasksperchild=0)):
    try:
        Pool(**wrong)
    except (ValueError, TypeError) as error:
        print(error)
pool = Pool(1)
print(repr(pool))
for call in (lambda: pool.map(square, [1], chunksize=0), lambda: pool.imap(square, [1], 0), pool.join):
    try:
        call()
    except ValueError as error:
        print(error)
pool.close()
try:
    pool.apply(square, (1,))
except ValueError as error:
    print(error)
pool.join()
import pickle
try:
    pickle.dumps(pool)
except NotImplementedError as error:
    print(error)
''')
        self.assertEqual(lines, ["Number of processes must be at least 1", "initializer must be a callable",
                                 "maxtasksperchild must be a positive int or None",
                                 "<taskpool.pool.Pool state=RUN pool_size=1>", "Chunksize must be 1+, not 0",
                                 "Chunksize must be 1+, not 0", "Pool is still running", "Pool not running",
                                 "pool objects cannot be passed between processes or pickled"])

    def test_initializers_and_recycling(self):
        lines = self.program('''
with Pool(1, initializer=remember, initargs=("hello",)) as pool:
    print(pool.apply(recall), pool.apply(whoami) == pool.apply(whoami))
with Pool(1, maxtasksperchild=2) as pool:
    print(len({pool.apply(whoami) for _ in range(6)}))
''')
        self.assertEqual(lines, ["['hello'] True", "3"])

    def test_remote_tracebacks(self):
        lines = self.program('''
import traceback
with Pool(1) as pool:
    try:
        pool.apply(fail, (7,))
    except ValueError as error:
        text = "".join(traceback.format_exception(error))
        print(error, type(error.__cause__).__name__, 'raise ValueError(f"no {x}")' in text, "taskpool/runtime" in text)
    try:
        pool.map(fail, [1, 2])
    except ValueError as error:
        print(error, 'in fail' in str(error.__cause__))
''')
        self.assertEqual(lines, ["no 7 RemoteTraceback True False", "no 1 True"])

    def test_large_arguments_and_results(self):
        lines = self.program('''
import array
with Pool(2) as pool:
    for value in (b"x" * 100_000, bytearray(3_000_000), array.array("d", range(50_000)), "text" * 100_000,
                  [b"y" * 70_000, {"a": bytes(80_000)}], list(range(100_000))):
        same = pool.apply(echo, (value,))
        print(type(same) is type(value), same == value)
    print([len(x) for x in pool.map(bytes, [10, 100_000, 2_000_000])])
    print(pool.map(len, [b"z" * 300_000] * 20) == [300_000] * 20)
''')
        self.assertEqual(lines, ["True True"] * 6 + ["[10, 100000, 2000000]", "True"])

    def test_large_results_of_all_sizes_in_turn(self):
        """A worker asks for the room of a large result before it runs what made one, and may be wrong."""
        lines = self.run_program('''
from taskpool import Pool
def make(size, beside):
    if size < 0:
        raise ValueError(size)
    return bytes([size % 251]) * size
def call(pool, size):
    try:
        return pool.apply(make, (size, large)) == make(size, large)
    except ValueError as error:
        return str(error)
if __name__ == "__main__":
    large = bytes(100_000)
    with Pool(1) as pool:
        print([call(pool, size) for size in (100_000, 90_000, 500_000, 10, 10, 200_000, 200_000, -1, 70_000, 3_000_000, 200_000)])
        for _ in range(700):  # what is not given back would fill the arena
            pool.apply(make, (1_900_000, large))
            call(pool, -1)
        print(len(pool.apply(make, (300_000_000, large))))
''').splitlines()
        self.assertEqual(lines, [str([True] * 7 + ["-1"] + [True] * 3), "300000000"])

    def test_a_task_that_uses_the_pool_it_runs_in(self):
        lines = self.run_program('''
import taskpool
from taskpool import Pool
def square(x):
    return x * x
def fibonacci(n):
    pool = taskpool.current_pool()
    if n < 2:
        return n
    first = pool.apply_async(fibonacci, (n - 1,))
    return pool.apply(fibonacci, (n - 2,)) + first.get()
def sum_of_squares(count):
    with taskpool.current_pool() as pool:
        return sum(pool.map(square, range(count))), pool.apply("square", 3)
def own(method):
    try:
        getattr(taskpool.current_pool(), method)()
    except ValueError as error:
        return str(error)
if __name__ == "__main__":
    with Pool(1) as pool:
        print(pool.apply(fibonacci, (6,)), pool.map(sum_of_squares, [3, 10]))
        with Pool(1) as other:  # of the same names as pools that tasks open
            print(other.apply(fibonacci, (4,)), pool.apply(own, ("close",)), "|", pool.apply(own, ("terminate",)))
    try:
        taskpool.current_pool()
    except RuntimeError as error:
        print(error)
''').splitlines()
        self.assertEqual(lines, ["8 [(5, 9), (285, 9)]",
                                 "3 a task cannot close the pool that runs it | a task cannot terminate the pool that runs it",
                                 "this process runs no task of a pool"])

    @unittest.skipUnless(importlib.util.find_spec("cloudpickle"), "cloudpickle is not installed")
    def test_functions_without_a_name(self):
        program = '''
from taskpool import Pool
def adder(n):
    return lambda x: x + n
class Here:
    def __init__(self, x): self.x = x
    def __eq__(self, other): return self.x == other.x
with Pool(2) as pool:
    print(pool.map(adder(2), range(4)), pool.apply(lambda a, *, b: a * b, (6,), {"b": 7}))
    print(pool.apply(max, ([3, 5],)), pool.apply(len, ([Here(1), Here(2)],)), pool.map(len, [[Here(1)], []], chunksize=1))
    print(pool.apply(lambda x: x, (Here(3),)) == Here(3), list(pool.imap(adder(1), [1, 2], chunksize=2)))
'''
        done = subprocess.run([sys.executable, "-"], input=program, env=self.environment(), capture_output=True, text=True,
                              timeout=60)  # as in an interactive session, there is no main module to import
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.splitlines(), ["[2, 3, 4, 5] 42", "5 2 [1, 0]", "True [2, 3]"])

    def test_native_functions(self):
        lines = self.program('''
with Pool(1) as pool:
    print(pool.apply("square", 7), pool.apply("echo", ([2, 3],)), pool.map("square", range(4)))
    print(list(pool.imap("square", range(3))))
    try:
        pool.apply("squar", 7)
    except multiprocessing.DaemonError as error:
        print(error.code)
''')
        self.assertEqual(lines, ["49 [2, 3] [0, 1, 4, 9]", "[0, 1, 4]", "unknown_function"])

    def test_time_limits_and_repeats(self):
        lines = self.program('''
with Pool(1, timeout=0.2) as pool:
    try:
        pool.apply(time.sleep, (60,))
    except TimeoutError as error:
        print(type(error).__name__)
    print([type(x).__name__ for x in pool.map_async(time.sleep, [0, 60, 0]).outcomes()])
with Pool(1, soft_timeout=0.2) as pool:
    try:
        pool.apply(time.sleep, (60,))
    except TimeoutError as error:
        print(type(error).__name__)
with Pool(1, lost_retries=1) as pool:
    print(pool.apply(die_once, (sys.argv[1],)))
with Pool(1) as pool:
    result = pool.apply_async(time.sleep, (60,))
    result.cancel()
    try:
        result.get(10)
    except multiprocessing.Cancelled:
        print("cancelled")
''', self.directory + "/mark")
        self.assertEqual(lines, ["TaskTimeout", "['NoneType', 'TaskTimeout', 'NoneType']", "TaskTimeout", "alive",
                                 "cancelled"])

    def test_limits(self):
        lines = self.program('''
import os
with Pool(1, limits={"nice": 2, "max_task_files": 50, "cpu_timeout": 0.2}) as pool:
    print(pool.apply(os.nice, (0,)) - os.nice(0))
    try:
        pool.apply(eval, ("[open(\'/dev/null\') for _ in range(50)]",))
    except OSError as error:
        print(error.strerror)
    try:
        pool.apply(eval, ("[0 for _ in iter(int, 1)]",))
    except TimeoutError as error:
        print(type(error).__name__, "cpu_timeout_ms" in str(error))
for wrong in ({"memory": 5}, {"nice": -1}):
    try:
        Pool(1, limits=wrong)
    except ValueError as error:
        print(str(error).partition(":")[0])
''')
        self.assertEqual(lines, ["2", "Too many open files", "TaskTimeout True", "limits", "limits"])

    def test_streams(self):
        out = self.program('''
with Pool(1) as pool:
    pool.apply(print, ("from a task",))
    pool.apply(print, ("to error",), {"file": None})
    pool.apply(complain)
with open(sys.argv[1], "w+") as log:
    with Pool(1, stdout=log, stderr=log) as pool:
        pool.apply(print, ("logged",))
    log.seek(0)
    print(log.read().strip())
''', self.directory + "/log")
        self.assertEqual(out, ["from a task", "to error", "logged"])
        self.assertIn("complaint", self.stderr)
        self.assertIn("UserWarning: careful", self.stderr)

    def test_logging_records_travel(self):
        lines = self.program('''
import io, logging
out = io.StringIO()
logging.basicConfig(level=logging.INFO, stream=out, format="%(levelname)s %(name)s %(message)s")
with Pool(1) as pool:
    pool.map(log_something, [1])
    child = multiprocessing.Process(target=log_something, args=(2,))
    child.start(); child.join()
    while out.getvalue().count("broke") < 2: time.sleep(0.01)
print(out.getvalue())
''')
        for number in (1, 2):
            self.assertIn(f"INFO my.tasks working on {number}", lines)
        self.assertEqual(lines.count("ERROR root it broke"), 2)
        self.assertIn("ZeroDivisionError: division by zero", lines)
        self.assertNotIn("DEBUG my.tasks not said", lines)

    def test_progress(self):
        self.program('''
class Bar:
    def update(self, done): self.done = done
    def close(self): print(self.done, file=sys.stderr)
with Pool(2) as pool:
    pool.map(square, range(100), progress=Bar())
    pool.map(square, range(100), progress=True)
''')
        self.assertEqual(self.stderr.split()[0], "100")

    def test_many(self):
        lines = self.program('''
with Pool(2) as pool:
    count = 200_000
    print(pool.map(square, range(count)) == [x * x for x in range(count)])
    print(pool.map(square, range(20_000), chunksize=1) == [x * x for x in range(20_000)])
    results = [pool.apply_async(square, (x,)) for x in range(20_000)]
    print(all(result.get() == x * x for x, result in enumerate(results)))
    print(sum(pool.imap_unordered(square, range(5_000))) == sum(x * x for x in range(5_000)))
    found = []
    threads = [threading.Thread(target=lambda: found.append(pool.map(square, range(1000))[-1])) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    print(found)
''')
        self.assertEqual(lines, ["True"] * 4 + [str([998001] * 4)])


PRELUDE += '''
def echo(x): return x
def log_something(x):
    import logging
    logging.getLogger("my.tasks").info("working on %s", x)
    logging.getLogger("my.tasks").debug("not said")
    try: 1 / 0
    except ZeroDivisionError: logging.exception("it broke")
def die_once(path):
    if not os.path.exists(path):
        open(path, "w").close()
        os.kill(os.getpid(), 9)
    return "alive"
def complain():
    print("complaint", file=sys.stderr)
    warnings.warn("careful")
'''

if __name__ == "__main__":
    unittest.main()
