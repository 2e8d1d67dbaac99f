#!/usr/bin/env python3
"""taskpool.futures.Executor keeps the contract of concurrent.futures."""

import unittest

from support import Daemons

PRELUDE = '''\
import concurrent.futures, os, time
from taskpool.futures import Executor
from taskpool.errors import WorkerLost

def square(x): return x * x
def add(x, y=0): return x + y
def say(text):
    time.sleep(0.2)
    print(text, flush=True)
class Thing:
    def __init__(self, number): self.number = number
def fail(): raise ValueError("no")
def die(): os.kill(os.getpid(), 9)
def wait_for(name):
    end = time.monotonic() + 60
    while not os.path.exists(name) and time.monotonic() < end: time.sleep(0.005)
    return os.path.exists(name)
def make(name): open(name, "w").close()
def hold(begun, end):  # with files: a task that waits for an object of the daemon lends its place to the next one
    make(begun)
    return "held" if wait_for(end) else "late"
'''


class Futures(Daemons):
    def program(self, body):
        return self.run_main(PRELUDE, body)

    def test_contract(self):
        lines = self.program('''
with Executor(2) as executor:
    print(executor.submit(add, 2, y=3).result(), list(executor.map(add, [1, 2], [3, 4])), list(executor.map(square, range(5), chunksize=2)))
    futures = [executor.submit(square, i) for i in range(20)]
    print(sorted(f.result() for f in concurrent.futures.as_completed(futures)) == [i * i for i in range(20)])
    bad = executor.submit(fail)
    print(repr(bad.exception()), bad.done(), bad.cancelled())
    lost = executor.submit(die)
    print(isinstance(lost.exception(), WorkerLost), executor.submit(square, 4).result())
    said = []
    done = executor.submit(square, 5)
    done.add_done_callback(lambda future: said.append(future.result()))
    concurrent.futures.wait([done])
    try: list(executor.map(time.sleep, [0.5], timeout=0.05))
    except concurrent.futures.TimeoutError: print("timed out")
    print(done.cancel(), said)
try: executor.submit(square, 1)
except RuntimeError as error: print(error)
''')
        self.assertEqual(lines, ["5 [4, 6] [0, 1, 4, 9, 16]", "True", "ValueError('no') True False", "True 16", "timed out",
                                 "False [25]", "cannot schedule new futures after shutdown"])

    def test_what_runs_cannot_be_cancelled(self):
        lines = self.program('''
with Executor(1) as executor:
    begun, end = __file__ + ".begun", __file__ + ".end"
    running, waiting = executor.submit(hold, begun, end), executor.submit(hold, begun, end)
    wait_for(begun)
    print(running.cancel(), running.cancelled(), running.done())
    print(waiting.cancel(), waiting.cancelled(), waiting.cancel())
    try: running.result(timeout=0.05)
    except concurrent.futures.TimeoutError: print("not yet")
    try: waiting.result()
    except concurrent.futures.CancelledError: print("cancelled")
    make(end)
    print(running.result(), running.cancel())
''')
        self.assertEqual(lines, ["False False False", "True True True", "not yet", "cancelled", "held False"])

    def test_what_cannot_be_sent(self):
        lines = self.program('''
import threading
with Executor(1) as executor:
    for _ in range(2):
        bad = executor.submit(add, threading.Lock())
        print(bad.done(), bad.running(), bad.exception())
        print(executor.submit(add, 2).result())
''')
        self.assertEqual(lines, ["True False cannot pickle '_thread.lock' object", "2"] * 2)

    def test_results_are_let_go_of_one_by_one(self):
        lines = self.program('''
import gc, weakref
with Executor(2) as executor:
    left = []
    for thing in executor.map(Thing, range(10), chunksize=3):
        left.append(weakref.ref(thing))
        del thing
        gc.collect()
        print(sum(reference() is not None for reference in left))
''')
        self.assertEqual(lines, ["0"] * 10)

    def test_the_program_ends_after_what_it_has_submitted(self):
        for body, said in (("Executor(1).submit(say, 'one')", ["one"]),
                           ("executor = Executor(1)\nexecutor.submit(say, 'one'); executor.submit(say, 'two')\n"
                            "executor.shutdown(wait=False)\nprint('main', flush=True)", ["main", "one", "two"]),
                           ("results = Executor(1).map(square, range(3))\nimport gc; gc.collect()\nprint(list(results))",
                            ["[0, 1, 4]"]),
                           ("Executor(1)\nwith Executor(1) as executor: print(executor.submit(square, 2).result())", ["4"])):
            self.assertEqual(self.program(body), said)

    def test_shutdown(self):
        lines = self.program('''
import threading
executor = Executor(1)
begun, end = __file__ + ".begun", __file__ + ".end"
running = executor.submit(hold, begun, end)
wait_for(begun)
waiting = [executor.submit(time.sleep, 600) for _ in range(3)]
shutdown = threading.Thread(target=lambda: executor.shutdown(cancel_futures=True))
shutdown.start()
concurrent.futures.wait(waiting)
make(end)
shutdown.join()
print([f.cancelled() for f in waiting], running.result())
try: Executor(0)
except ValueError as error: print(error)
''')
        self.assertEqual(lines, ["[True, True, True] held", "max_workers must be greater than 0"])


if __name__ == "__main__":
    unittest.main()
