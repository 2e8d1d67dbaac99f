#!/usr/bin/env python3
"""The module's queues behave as multiprocessing's, and go on when who uses them is killed."""

import unittest

from support import Daemons

PRELUDE = '''\
import os, queue, random, signal, socket, sys, threading, time
import taskpool as multiprocessing
from taskpool import JoinableQueue, Process, Queue

def attempt(call, *arguments, **keywords):
    try:
        return call(*arguments, **keywords)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
def produce(q, name, count, size=0):
    for i in range(count): q.put((name, i, b"x" * size))
def produce_and_leave(q, count):
    for i in range(count): q.put(i)
    q.cancel_join_thread()
def pass_on(q, found):
    while (item := q.get()) is not None: found.put(item)
def work(q):
    for _ in range(20):
        q.get()
        q.task_done()
def endless(q, name, size):
    i = 0
    while True:
        q.put((name, i, b"x" * random.randrange(size)))
        i += 1
def devour(q):
    while True: q.get()
def in_order(items):
    last = {}
    for name, i, _ in items:
        if i <= last.get(name, -1): return f"{name}: {i} behind {last[name]}"
        last[name] = i
    return True
'''


class Queues(Daemons):
    def program(self, body, **more):
        return self.run_main(PRELUDE, body, **more)

    def test_what_multiprocessing_promises(self):
        lines = self.program('''
q = Queue(3)
for item in (1, "two", None): q.put(item)
print(q.full(), q.empty(), q.qsize(), attempt(q.put_nowait, 4), attempt(q.put, 4, True, 0.01), attempt(q.put, 4, timeout=0))
print(q.get(), q.get_nowait(), q.get(True, 1), q.full(), q.empty(), attempt(q.get_nowait), attempt(q.get, True, 0.01), attempt(q.get, False))
q.put(lambda: 0)
q.put(5)
print(q.get(timeout=10), q.qsize())
ours, theirs = socket.socketpair()
q.put(ours)
q.get().send(b"through")
print(theirs.recv(10))
late = threading.Timer(0.05, lambda: [q.get() for _ in range(3)])
for i in range(3): q.put(i)
late.start()
q.put("waited")
print(q.get(timeout=10))
q.close()
print(attempt(q.put, 1).split(": ")[0], attempt(q.get).split(": ")[0])
q.join_thread()
print(attempt(Queue().join_thread), attempt(__import__("pickle").dumps, Queue())[:12])
''')
        self.assertEqual(lines, ["True False 3 Full:  Full:  Full: ", "1 two None False True Empty:  Empty:  Empty: ", "5 0", "b'through'",
                                 "waited", "ValueError ValueError", lines[6]])
        self.assertRegex(lines[6], "AssertionError: Queue .* not closed RuntimeError")
        self.assertIn("PicklingError", self.stderr)

    def test_more_than_there_is_room_for(self):
        self.assertEqual(self.program('''
q = Queue()
q.put(b"x" * 20_000_000)
q.put(b"y" * 100_000)
producer = Process(target=produce, args=(q, "a", 100_000))
producer.start()
print(len(q.get()), len(q.get()))
items = [q.get(timeout=30) for _ in range(100_000)]
producer.join()
print(producer.exitcode, in_order(items), items[-1], q.empty())
for i in range(150_000): q.put(i)
print(q.qsize())
print([q.get() for _ in range(150_000)] == list(range(150_000)))
large = Queue(5)
producer = Process(target=produce, args=(large, "b", 50, 300_000))
producer.start()
items = [large.get(timeout=30) for _ in range(50)]
producer.join()
print(in_order(items), {len(item[2]) for item in items})
leaving = Process(target=produce_and_leave, args=(q, 300_000))
leaving.start()
leaving.join(30)
print(leaving.exitcode, q.get(timeout=10))
'''), ["20000000 100000", "0 True ('a', 99999, b'') True", "150000", "True", "True {300000}", "0 0"])

    def test_joinable(self):
        self.assertEqual(self.program('''
q = JoinableQueue()
workers = [Process(target=work, args=(q,)) for _ in range(2)]
for worker in workers: worker.start()
for i in range(40): q.put(i)
q.join()
for worker in workers: worker.join()
print(q.empty(), attempt(q.task_done))
q.put(lambda: 0)
q.join()
bounded = JoinableQueue(1)
bounded.put(1)
print(attempt(bounded.put, 2, False))
bounded.get()
bounded.task_done()
bounded.join()
print("joined")
'''), ["True ValueError: task_done() called too many times", "Full: ", "joined"])

    def test_killed_users(self):
        """Whoever is killed in the middle of a put or a get neither stops the others nor spoils what they put."""
        self.assertEqual(self.program('''
q = Queue(200)
steady = [Process(target=produce, args=(q, name, 3000, 200), daemon=True) for name in "ab"]
for process in steady: process.start()
victims, found, chance = [], [], random.Random(3)
def victim(round):
    kind = (endless, (q, f"v{round}", 50_000)) if round % 3 else (devour, (q,))
    process = Process(target=kind[0], args=kind[1], daemon=True)
    process.start()
    return process
end = time.monotonic() + 60
for round in range(1, 13):
    process = victim(round)
    for _ in range(chance.randrange(50, 300)):
        try: found.append(q.get(timeout=0.5))
        except queue.Empty: break
    os.kill(process.pid, signal.SIGKILL)
    process.join(10)
while any(process.is_alive() for process in steady) or not q.empty():
    try: found.append(q.get(timeout=0.5))
    except queue.Empty: pass
    assert time.monotonic() < end, (q.qsize(), [process.is_alive() for process in steady])
print([process.exitcode for process in steady], in_order(found), q.qsize(), len(found) > 1000)
q.put("still")
print(q.get(timeout=5))
''', deadline=120), ["[0, 0] True 0 True", "still"])


if __name__ == "__main__":
    unittest.main()
