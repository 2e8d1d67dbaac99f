#!/usr/bin/env python3
"""What hangs multiprocessing ends soon here, with an error that says what happened, and the pool goes on."""

import os
import signal
import subprocess
import sys
import unittest

from support import DEADLINE, PACKAGE, SOON, Daemons, wait_for, wire

#: What the programs share: functions for the workers, and a way to see how a call ended and how long that took.
PRELUDE = '''\
import os, signal, sys, threading, time
import taskpool as multiprocessing
from taskpool import Pool, Process, Queue

def square(x):
    return x * x

def outcome(call, *arguments, **keywords):
    began = time.monotonic()
    try:
        result = call(*arguments, **keywords)
    except BaseException as error:
        result = f"{type(error).__name__}: {error}"
    took = time.monotonic() - began
    assert took < SOON, (took, result)
    return result
'''


def busy(daemon, count):
    """The pids of a session's workers that run something, if there are so many."""
    rows = [row for row in daemon.workers() if row["pool"].startswith(("Pool-", "Process-")) and row.get("function")]
    return [row["pid"] for row in rows] if len(rows) == count else None


class NothingHangs(Daemons):
    def program(self, text, *arguments, **options):
        """Runs the prelude and the text; its lines."""
        source = PRELUDE.replace("SOON", str(SOON)) + text
        return self.run_program(source, *arguments, **options).splitlines()

    def test_a_killed_worker(self):
        lines = self.program('''
def die(number):
    os.kill(os.getpid(), number)
if __name__ == "__main__":
    with Pool(1) as pool:
        print(outcome(pool.apply, die, (9,)))
        print(outcome(pool.apply, die, (11,)))
        print(pool.apply(square, (3,)))
''')
        self.assertRegex(lines[0], r"WorkerLost: worker_lost: .*signal 9")
        self.assertRegex(lines[1], r"WorkerLost: worker_lost: .*signal 11")
        self.assertEqual(lines[2], "9")

    def test_no_memory(self):
        lines = self.program('''
import resource
def swallow(limited):
    if limited:
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    return len(bytearray(1 << 32))
def score():
    return int(open("/proc/self/oom_score_adj").read())
if __name__ == "__main__":
    with Pool(1, maxtasksperchild=1) as pool:
        print(outcome(pool.apply, swallow, (True,)))
        print(pool.apply(score) > 0)
''')
        self.assertRegex(lines[0], "^MemoryError: ")
        self.assertEqual(lines[1], "True")  # the kernel takes a worker first, by signal 9, as in the test above

    def test_exit_in_a_task(self):
        lines = self.program('''
if __name__ == "__main__":
    with Pool(1) as pool:
        print(outcome(pool.apply, sys.exit, (3,)))
        print(outcome(pool.apply, os._exit, (4,)))
        print(outcome(pool.apply, os._exit, (0,)))
        print(pool.apply(square, (3,)))
''')
        self.assertRegex(lines[0], r"RemoteError: .*sys\.exit\(3\)")
        self.assertRegex(lines[1], r"WorkerLost: .*exit code 4")
        self.assertRegex(lines[2], r"WorkerLost: ")
        self.assertEqual(lines[3], "9")

    def test_what_cannot_be_pickled(self):
        lines = self.program('''
class Bad(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} {two}")
class Unloadable:
    def __reduce__(self):
        return int, ("not a number",)
class Locked(Exception):
    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()
def raise_bad(): raise Bad("one", "two")
def raise_locked(): raise Locked("held")
def give_lock(): return threading.Lock()
def give_unloadable(): return Unloadable()
def take(x): return x
if __name__ == "__main__":
    with Pool(1) as pool:
        print(outcome(pool.apply, raise_bad))
        print(outcome(pool.apply, raise_locked))
        print(outcome(pool.apply, give_lock))
        print(outcome(pool.apply, give_unloadable))
        print(outcome(pool.apply, take, (threading.Lock(),)))
        print(outcome(pool.apply, take, (Unloadable(),)))
        print(outcome(pool.map, take, [1, threading.Lock(), 3]))
        print(outcome(pool.map, take, [1, Unloadable(), 3]))
        print([type(x).__name__ for x in pool.map_async(take, [1, Unloadable(), 3]).outcomes()])
        print(pool.apply(square, (3,)))
''')
        self.assertRegex(lines[0], "^RemoteError: .*Bad: one two")
        self.assertRegex(lines[1], "^RemoteError: .*Locked: held")
        self.assertRegex(lines[2], "^MaybeEncodingError: Error sending result: .*lock.*Reason: .*pickle")
        self.assertRegex(lines[3], "^ValueError: invalid literal")
        self.assertRegex(lines[4], "^TypeError: cannot pickle '_thread.lock'")
        self.assertRegex(lines[5], "^ValueError: invalid literal")
        self.assertRegex(lines[6], "^TypeError: cannot pickle '_thread.lock'")
        self.assertRegex(lines[7], "^ValueError: invalid literal")
        self.assertEqual(lines[8], "['int', 'ValueError', 'int']")
        self.assertEqual(lines[9], "9")

    def test_an_initializer_that_raises(self):
        before = self.daemon.counter("workers_started_total")
        lines = self.program('''
def refuse(why):
    raise KeyError(why)
if __name__ == "__main__":
    pool = Pool(2, initializer=refuse, initargs=("no database",))
    print(outcome(pool.map, square, range(4)).splitlines()[0])
    print(outcome(pool.apply, square, (1,)).splitlines()[0])
    time.sleep(0.3)
    pool.terminate()
    pool.join()
''')
        for line in lines:
            self.assertRegex(line, "^StartFailed: start_failed: KeyError: 'no database'")
        self.assertLess(self.daemon.counter("workers_started_total") - before, 10)

    def test_an_initializer_that_raises_later(self):
        lines = self.program('''
def refuse_after(path):
    with open(path, "a") as file:
        file.write("x")
    if os.path.getsize(path) > 1:
        raise KeyError("not again")
if __name__ == "__main__":
    pool = Pool(1, initializer=refuse_after, initargs=(sys.argv[1],), maxtasksperchild=1)
    print(pool.apply(square, (2,)))
    print(outcome(pool.apply, square, (3,)))
    pool.terminate()
    pool.join()
''', os.path.join(self.directory, "initializer"))
        self.assertEqual(lines[0], "4")
        self.assertRegex(lines[1], "start_failed")

    def test_a_callback_that_raises(self):
        lines = self.program('''
def shout(value):
    raise RuntimeError(f"callback {value!r}")
def fail():
    raise ValueError("task")
if __name__ == "__main__":
    with Pool(1) as pool:
        print(pool.apply_async(square, (2,), callback=shout).get(10))
        print(outcome(pool.apply_async(fail, error_callback=shout).get, 10))
        print(pool.map_async(square, [2], callback=shout).get(10))
        print(pool.apply(square, (3,)))
''')
        self.assertEqual(lines, ["4", "ValueError: task", "[4]", "9"])
        self.assertIn("RuntimeError: callback 4", self.stderr)
        self.assertIn("RuntimeError: callback ValueError('task')", self.stderr)
        self.assertIn("RuntimeError: callback [4]", self.stderr)

    def test_get_after_terminate(self):
        lines = self.program('''
if __name__ == "__main__":
    pool = Pool(1)
    one = pool.apply_async(time.sleep, (600,))
    many = pool.map_async(time.sleep, [600] * 10)
    lazy = pool.imap(time.sleep, [600] * 10)
    pool.terminate()
    print(outcome(one.get))
    print(outcome(many.get))
    print(outcome(next, lazy))
    outcome(pool.join)
    print(outcome(pool.apply, square, (3,)))
''')
        self.assertRegex(lines[0], "^Cancelled: ")
        self.assertRegex(lines[1], "^Cancelled: ")
        self.assertRegex(lines[2], "^Cancelled: ")
        self.assertEqual(lines[3], "ValueError: Pool not running")

    def test_a_killed_parent(self):
        process = self.start(PRELUDE + '''
if __name__ == "__main__":
    pool = Pool(2)
    children = [Process(target=time.sleep, args=(600,)) for _ in range(2)]
    for child in children:
        child.start()
    busy = [pool.apply_async(time.sleep, (600,)) for _ in range(2)]
    print(pool.map(square, [1, 2]) if False else "ready", flush=True)
    busy[0].get()
''')
        self.assertEqual(process.stdout.readline(), "ready\n")
        pids = wait_for(lambda: busy(self.daemon, 4), "four workers run")
        process.kill()
        self.finish(process)
        wait_for(lambda: not any(wire.is_alive(pid) for pid in pids), "they end with it", SOON)

    def test_a_main_module_without_a_guard(self):
        process = self.start(PRELUDE + '''
pool = Pool(2)
print(pool.map(square, range(4)))
''')
        _, err = self.finish(process, SOON)
        self.assertNotEqual(process.returncode, 0)
        self.assertIn("An attempt has been made to start a new process before the", err)
        process = self.start(PRELUDE + '''
child = Process(target=square, args=(4,))
child.start()
child.join()
print(child.exitcode)
''')
        out, err = self.finish(process, SOON)
        self.assertIn("An attempt has been made to start a new process before the", err)
        self.assertEqual(out, "1\n")

    def test_interrupt(self):
        process = self.start(PRELUDE + '''
if __name__ == "__main__":
    pool = Pool(2)
    pool.map(square, range(4))
    try:
        print("waiting", flush=True)
        pool.map(time.sleep, [600] * 4)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    pool.terminate()
    pool.join()
    pool = Pool(2)
    try:
        print(pool.map(square, range(4)), flush=True)
        while True:
            pool.map(square, range(100), chunksize=1)
    except KeyboardInterrupt:
        print("again", flush=True)
    print(pool.map(square, range(4)))
''', start_new_session=True)
        self.assertEqual(process.stdout.readline(), "waiting\n")
        os.killpg(process.pid, signal.SIGINT)
        self.assertEqual(process.stdout.readline(), "interrupted\n")
        self.assertEqual(process.stdout.readline(), "[0, 1, 4, 9]\n")
        os.killpg(process.pid, signal.SIGINT)
        self.assertEqual(process.stdout.readline(), "again\n")
        self.assertEqual(process.stdout.readline(), "[0, 1, 4, 9]\n")  # may have come with the line before it
        out, err = self.finish(process, SOON)
        self.assertEqual((out, err, process.returncode), ("", "", 0))

    def test_a_fork_in_a_client_with_threads(self):
        lines = self.program('''
def keep_busy(pool, stop):
    while not stop.is_set():
        pool.map(square, range(10))
if __name__ == "__main__":
    pool = Pool(2)
    stop = threading.Event()
    threads = [threading.Thread(target=keep_busy, args=(pool, stop)) for _ in range(3)]
    for thread in threads:
        thread.start()
    result = pool.apply_async(square, (5,))
    for _ in range(5):
        pid = os.fork()
        if pid == 0:
            lost = outcome(result.get) if not result._done else "done"
            mine = Pool(1)
            fine = mine.apply(square, (7,)) == 49
            os._exit(0 if fine else 1)
        print(os.waitpid(pid, 0)[1])
    stop.set()
    for thread in threads:
        thread.join()
    print(result.get())
''')
        self.assertEqual(lines, ["0"] * 5 + ["25"])

    def test_nested_pools(self):
        lines = self.program('''
def sum_of_squares(count):
    with Pool(2) as pool:
        return sum(pool.map(square, range(count)))
if __name__ == "__main__":
    with Pool(2) as pool:
        print(pool.map(sum_of_squares, range(6)))
''')
        self.assertEqual(lines, ["[0, 0, 1, 5, 14, 30]"])

    def test_a_generator_that_raises_inside_imap(self):
        lines = self.program('''
def numbers():
    yield 1
    yield 2
    raise OSError("no more numbers")
if __name__ == "__main__":
    with Pool(2) as pool:
        results = pool.imap(square, numbers())
        print(next(results), next(results), outcome(next, results), outcome(next, results))
        results = pool.imap_unordered(square, numbers(), chunksize=5)
        print(sorted(str(outcome(next, results)) for _ in range(3)), outcome(next, results))
        print(outcome(pool.map, square, numbers()))
        print(pool.apply(square, (3,)))
''')
        self.assertEqual(lines[0], "1 4 OSError: no more numbers StopIteration: ")
        self.assertEqual(lines[1], "['1', '4', 'OSError: no more numbers'] StopIteration: ")
        self.assertEqual(lines[2], "OSError: no more numbers")
        self.assertEqual(lines[3], "9")

    def test_ten_thousand_maps_at_once(self):
        lines = self.program('''
if __name__ == "__main__":
    with Pool(2) as pool:
        results = [pool.map_async(square, range(i, i + 3)) for i in range(10_000)]
        print(all(result.get(60) == [i * i, (i + 1) ** 2, (i + 2) ** 2] for i, result in enumerate(results)))
''')
        self.assertEqual(lines, ["True"])

    def test_only_the_element_fails_that_killed_its_worker(self):
        lines = self.program('''
def fussy(x):
    if x == 37:
        os.kill(os.getpid(), signal.SIGKILL)
    return x
if __name__ == "__main__":
    with Pool(2) as pool:
        for chunksize in (None, 1, 10, 1000):
            result = pool.map_async(fussy, range(100), chunksize)
            print(outcome(result.get))
            outcomes = result.outcomes()
            print([i for i, x in enumerate(outcomes) if x != i], type(outcomes[37]).__name__)
        found = []
        results = pool.imap(fussy, range(35, 40))
        for _ in range(5):
            found.append(outcome(next, results))
        print(found[:2], found[2][:10], found[3:])
''')
        for at in range(0, 8, 2):
            self.assertRegex(lines[at], "^WorkerLost: .*signal 9")
            self.assertEqual(lines[at + 1], "[37] WorkerLost")
        self.assertEqual(lines[8], "[35, 36] WorkerLost [38, 39]")

    def test_a_daemon_that_goes_away(self):
        with wire.Daemon(pools=[{"name": "default", "runtime": "command", "workers": 1}]) as daemon:
            environment = {**self.environment(), "TASKPOOL_SOCKET": daemon.socket, "PYTHONPATH": PACKAGE}
            path = self.write(PRELUDE.replace("SOON", str(SOON)) + '''
if __name__ == "__main__":
    pool = Pool(1)
    pool.apply(square, (1,))
    child = Process(target=time.sleep, args=(600,))
    child.start()
    waiting = pool.map_async(time.sleep, [600])
    print("ready", flush=True)
    print(outcome(waiting.get))
    child.join()
    print(child.exitcode != 0, outcome(pool.apply, square, (1,)).split(":")[0])
''')
            process = subprocess.Popen([sys.executable, path], stdout=subprocess.PIPE, text=True, env=environment)
            self.assertEqual(process.stdout.readline(), "ready\n")
            daemon.process.kill()
            out, _ = process.communicate(timeout=DEADLINE)
            daemon.process.wait()
        lines = out.splitlines()
        self.assertRegex(lines[0], "^OutcomeUnknown: ")
        self.assertRegex(lines[1], "^True (OutcomeUnknown|DaemonGone)")


if __name__ == "__main__":
    unittest.main()
