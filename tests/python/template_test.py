#!/usr/bin/env python3
"""The main module is imported once for all workers, unless they could tell; each worker is a process of its own all the same."""

import os
import signal
import subprocess
import sys
import unittest

from support import SOON, Daemons, wait_for, wire

#: A main module that writes a line into a file each time it is imported by a worker or its template.
PRELUDE = '''\
import os, random, sys, threading, time
from taskpool import Pool, current_process
if __name__ != "__main__":
    with open(sys.argv[1], "a") as file:
        file.write("imported\\n")

def about(_):
    time.sleep(0.01)  # so that every worker gets some
    return os.getpid(), current_process().name, random.random(), threading.active_count()

def parent_of_worker():
    return os.getppid()

def imports():
    with open(sys.argv[1]) as file:
        return len(file.readlines())
'''


class Templates(Daemons):
    def count_file(self):
        return os.path.join(self.directory, f"count_{self._testMethodName}")

    def program(self, text, before="", **options):
        return self.run_program(PRELUDE + before + text, self.count_file(), **options).splitlines()

    def test_the_main_module_is_imported_once(self):
        lines = self.program('''
if __name__ == "__main__":
    with Pool(4) as pool:
        seen = set()
        while len({pid for pid, *_ in seen}) < 4:
            seen |= set(pool.map(about, range(40), chunksize=1))
        print(len({name for _, name, *_ in seen}), len({number for _, _, number, _ in seen}) > 3)
        with Pool(2) as another:
            another.map(about, range(4))
            print(imports(), pool.apply(parent_of_worker) == another.apply(parent_of_worker))
    os.environ["NEW"] = "1"  # another surrounding: another template
    with Pool(1) as pool:
        print(pool.apply(os.getenv, ("NEW",)), imports())
''')
        self.assertEqual(lines, ["4 True", "1 True", "1 2"])

    def test_a_main_module_with_a_thread(self):
        lines = self.program('''
if __name__ == "__main__":
    with Pool(2) as pool:
        seen = set()
        while len({pid for pid, *_ in seen}) < 2:
            seen |= set(pool.map(about, range(40), chunksize=1))
        print({threads for *_, threads in seen}, imports())
''', "threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n")
        self.assertEqual(lines, ["{2} 3"])  # in vain for the template, and then by each worker

    def test_a_main_module_with_an_open_file(self):
        lines = self.program('''
def place(_):
    time.sleep(0.01)
    handle.read(1)
    return os.getpid(), handle.tell()
if __name__ == "__main__":
    with Pool(2) as pool:
        seen = []
        while len({pid for pid, _ in seen}) < 2:
            seen += pool.map(place, range(20), chunksize=1)
        for pid in {pid for pid, _ in seen}:
            places = sorted(where for of, where in seen if of == pid)
            print(places == list(range(1, len(places) + 1)))
''', "handle = open(__file__, 'rb', buffering=0)\n")
        self.assertEqual(lines, ["True", "True"])

    def test_it_does_not_hold_on_to_the_programs_streams(self):
        path = self.write(PRELUDE + '''
if __name__ == "__main__":
    with Pool(1) as pool:
        print(pool.apply(len, ("abc",)))
''')
        done = subprocess.run([sys.executable, path, self.count_file()], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              env=self.environment(), text=True, timeout=SOON)  # reads to the end of the stream
        self.assertEqual(done.stdout, "3\n")

    def test_a_main_module_that_takes_for_ever(self):
        lines = self.program('''
if __name__ == "__main__":
    pool = Pool(2)
    began = time.monotonic()
    result = pool.apply_async(about, (1,))
    while not os.path.exists(sys.argv[1]):
        pass  # the import has begun
    pool.terminate()
    pool.join()
    print(type(outcome(result)).__name__, time.monotonic() - began < 5)
''', '''
def outcome(result):
    try:
        return result.get()
    except Exception as error:
        return error
if __name__ != "__main__":
    time.sleep(600)
''')
        self.assertEqual(lines, ["Cancelled True"])

    def test_a_killed_template(self):
        process = self.start(PRELUDE + '''
if __name__ == "__main__":
    with Pool(2) as pool:
        print(pool.apply(parent_of_worker), flush=True)
        sys.stdin.readline()
        while True:
            try:
                print(pool.map(abs, range(3)), flush=True)
                break
            except Exception as error:
                print(type(error).__name__, flush=True)
''', self.count_file(), stdin=subprocess.PIPE)
        template = int(process.stdout.readline())
        workers = wait_for(lambda: [row["pid"] for row in self.daemon.workers() if row["pool"].startswith("Pool-")], "workers")
        os.kill(template, signal.SIGKILL)
        wait_for(lambda: not any(wire.is_alive(pid) for pid in workers), "they end with it", SOON)
        process.stdin.write("\n")
        process.stdin.flush()
        out, err = self.finish(process, SOON)
        self.assertEqual(out.splitlines()[-1], "[0, 1, 2]", err)


if __name__ == "__main__":
    unittest.main()
