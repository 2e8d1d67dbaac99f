#!/usr/bin/env python3
"""The module's own locks and their kin: multiprocessing's behaviour, and no harm from those who die."""

import unittest

from support import Daemons

PRELUDE = '''\
import os, signal, threading, time, warnings
import taskpool as multiprocessing
from taskpool import *

def hold(lock, held):
    lock.acquire()
    held.set()
    time.sleep(600)
def listen(event, ready):
    ready.release()
    event.wait()
def meet(barrier, found):
    try:
        found.put(barrier.wait())
    except threading.BrokenBarrierError:
        found.put("broken")
def await_notice(condition, ready, found):
    with condition:
        ready.release()
        found.put(condition.wait(30))
def count(value, times):
    for _ in range(times):
        with value.get_lock():
            value.value += 1
def attempt(call, *arguments, **keywords):
    try:
        return call(*arguments, **keywords)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
def start(target, *arguments):
    process = Process(target=target, args=arguments)
    process.start()
    return process
'''


class Synchronize(Daemons):
    def program(self, body):
        return self.run_main(PRELUDE, body)

    def test_alone(self):
        lines = self.program('''
lock, rlock, semaphore, bounded = Lock(), RLock(), Semaphore(2), BoundedSemaphore(1)
print(str(lock), lock.acquire(), lock.acquire(False), lock.acquire(timeout=0.05), lock.release(), attempt(lock.release))
print(str(rlock), rlock.acquire(), rlock.acquire(), rlock.release(), rlock.release(), attempt(rlock.release))
print(str(semaphore), semaphore.acquire(), semaphore.acquire(), semaphore.acquire(True, 0.05), semaphore.get_value())
print(bounded.acquire(), bounded.release(), attempt(bounded.release))
event = Event()
print(repr(event) == f"<Event at {id(event):#x} unset>", event.is_set(), event.wait(0.05), event.set(), event.wait(), event.is_set(), event.clear(), event.is_set())
import pickle
print(attempt(pickle.dumps, lock).split(":")[0], attempt(Barrier, 0))
with rlock:
    other = threading.Thread(target=lambda: print(rlock.acquire(timeout=0.05)))
    other.start(); other.join()
''')
        self.assertEqual(lines[0], "<Lock(owner=None)> True False False None "
                                   "ValueError: semaphore or lock released too many times")
        self.assertEqual(lines[1], "<RLock(None, 0)> True True None None "
                                   "AssertionError: attempt to release recursive lock not owned by thread")
        self.assertEqual(lines[2], "<Semaphore(value=2)> True True False 0")
        self.assertEqual(lines[3], "True None ValueError: semaphore or lock released too many times")
        self.assertEqual(lines[4], "True False False None True True None False")
        self.assertEqual(lines[5], "RuntimeError ValueError: parties must be > 0")
        self.assertEqual(lines[6], "False")

    def test_across_processes(self):
        lines = self.program('''
value = Value("i", 0)
for child in [start(count, value, 1000) for _ in range(3)]: child.join()
print(value.value)
found, ready = Queue(), Semaphore(0)
condition = Condition()
waiters = [start(await_notice, condition, ready, found) for _ in range(2)]
ready.acquire(); ready.acquire()
with condition: condition.notify_all()
print(found.get(), found.get())
for waiter in waiters: waiter.join()
barrier = Barrier(3)
for _ in range(2):
    for child in [start(meet, barrier, found) for _ in range(3)]: child.join()
    print(sorted(found.get() for _ in range(3)))
children = [start(meet, barrier, found) for _ in range(2)]
while barrier.n_waiting < 2: time.sleep(0.01)
barrier.reset()
for child in children: child.join()
print(found.get(), found.get(), barrier.broken, barrier.n_waiting)
for child in [start(meet, barrier, found) for _ in range(3)]: child.join()
print(sorted(found.get() for _ in range(3)))
two = Barrier(2)
slow = start(meet, two, found)
while two.n_waiting < 1: time.sleep(0.01)
os.kill(slow.pid, signal.SIGSTOP)
two.reset()
for child in [start(meet, two, found) for _ in range(2)]: child.join()
os.kill(slow.pid, signal.SIGCONT)
slow.join()
print(sorted([found.get(), found.get()]), found.get())
barrier.abort()
try: barrier.wait()
except threading.BrokenBarrierError: print("broken", barrier.broken)
from taskpool import sharedctypes
value = sharedctypes.Value("i", 1)
start(count, value, 6).join()
print(value.value, type(value.get_lock()) is type(RLock()), type(sharedctypes.Array("i", 2).get_lock()) is type(RLock()))
array = Array("d", 3)
array[1] = 2.5
print(array[:])
jobs = JoinableQueue(2)
jobs.put(1); jobs.put(2)
print(jobs.full(), jobs.qsize(), jobs.get(), jobs.task_done(), jobs.get(), jobs.task_done(), jobs.join())
''')
        self.assertEqual(lines, ["3000", "True True", "[0, 1, 2]", "[0, 1, 2]", "broken broken False 0", "[0, 1, 2]",
                                 "[0, 1] broken", "broken True", "7 True True", "[0.0, 2.5, 0.0]",
                                 "True 2 1 None 2 None None"])

    def test_the_dead_do_no_harm(self):
        lines = self.program('''
for lock in (Lock(), RLock()):
    held = Event()
    owner = start(hold, lock, held); held.wait(); owner.kill(); owner.join()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        began = time.monotonic()
        print(lock.acquire(), time.monotonic() - began < 2, [w.category.__name__ for w in said]); lock.release()
event, ready = Event(), Semaphore(0)
listener = start(listen, event, ready); ready.acquire(); listener.kill(); listener.join()
event.set()
print(event.is_set())
condition, found = Condition(), Queue()
waiter = start(await_notice, condition, ready, found); ready.acquire()
with condition: pass
waiter.kill(); waiter.join()
with condition: condition.notify_all()
print("notified")
barrier = Barrier(2)
doomed = start(meet, barrier, found)
while barrier.n_waiting < 1: time.sleep(0.01)
third = Barrier(3)
doomed_too = start(meet, third, found)
while third.n_waiting < 1: time.sleep(0.01)
doomed_too.kill(); doomed_too.join()
began = time.monotonic()
try: third.wait(30)
except threading.BrokenBarrierError: print("broken", third.broken, time.monotonic() - began < 2)
doomed.kill(); doomed.join()
''')
        self.assertEqual(lines, ["True True ['RuntimeWarning']"] * 2 + ["True", "notified", "broken True True"])


if __name__ == "__main__":
    unittest.main()
