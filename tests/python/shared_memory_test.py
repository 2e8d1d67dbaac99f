#!/usr/bin/env python3
"""Shared memory with a name outlives the workers that used it, and not the program that made it."""

import os
import unittest

from support import Daemons, wait_for

PRELUDE = '''\
import os, sys
import taskpool as multiprocessing
from taskpool import Pool, Process
from IMPORTED import shared_memory

def add(name):
    memory = shared_memory.SharedMemory(name)
    memory.buf[0] += 1
    memory.close()
    return memory.buf is None
def make(value):
    memory = shared_memory.SharedMemory(create=True, size=16)
    memory.buf[0] = value
    memory.close()
    return memory.name
def look(name):
    memory = shared_memory.SharedMemory(name)
    value = memory.buf[0]
    memory.close()
    return value, memory
def remove(name): shared_memory.SharedMemory(name).unlink()
'''


class SharedMemories(Daemons):
    def program(self, body, imported="taskpool"):
        return self.run_main(PRELUDE.replace("IMPORTED", imported), body)

    def test_workers_end_and_it_stays(self):
        for imported in ("taskpool", "multiprocessing"):
            lines = self.program('''
memory = shared_memory.SharedMemory(create=True, size=16)
for options in ({}, {"maxtasksperchild": 1}):
    with Pool(1, **options) as pool:
        for _ in range(3): pool.apply(add, (memory.name,))
        pool.close()
        pool.join()
child = Process(target=add, args=(memory.name,)); child.start(); child.join()
print(child.exitcode, look(memory.name)[0])
memory.close()
memory.unlink()
''', imported)
            self.assertEqual((lines, self.stderr), (["0 7"], ""))

    def test_made_after_the_pool(self):
        lines = self.program('''
with Pool(1) as pool:
    pool.apply(os.getpid)
    memory = shared_memory.SharedMemory(create=True, size=16)
    pool.apply(add, (memory.name,))
    pool.close()
    pool.join()
print(look(memory.name)[0])
with Pool(1) as pool: pool.apply(remove, (memory.name,))
memory.close()
''')
        self.assertEqual((lines, self.stderr), (["1"], ""))

    def test_made_by_a_worker(self):
        for imported in ("taskpool", "multiprocessing"):
            lines = self.program('''
with Pool(1) as pool:
    name = pool.apply(make, (5,))
    pool.close()
    pool.join()
value, memory = look(name)
print(value)
memory.unlink()
''', imported)
            self.assertEqual((lines, self.stderr), (["5"], ""))

    def test_the_end_awaits_nobody(self):
        lines = self.program('''
import time
from multiprocessing import resource_tracker
with Pool(1) as pool: name = pool.apply(make, (5,))
remove(name)
began = time.monotonic()
resource_tracker._resource_tracker._stop()  # as later Pythons do at their end
print(time.monotonic() - began < 5)
''')
        self.assertEqual((lines, self.stderr), (["True"], ""))

    def test_left_behind(self):
        lines = self.program('''
with Pool(1) as pool: print(pool.apply(make, (5,)))
memory = shared_memory.SharedMemory(create=True, size=16)
print(memory.name)
sys.stdout.flush()
os._exit(0)
''')
        for name in lines:
            wait_for(lambda name=name: not os.path.exists(f"/dev/shm/{name}"), f"the removal of {name}")


if __name__ == "__main__":
    unittest.main()
