#!/usr/bin/env python3
"""Manager's objects behave as multiprocessing's, live in the daemon, and survive who uses them."""

import unittest

from support import Daemons

PRELUDE = '''\
import os, queue, sys, threading, time, warnings
import taskpool as multiprocessing
from taskpool import Manager, Pool, Process
from taskpool.managers import BaseManager, SyncManager

class Maths:
    def __init__(self, base): self.base = base
    def add(self, x): return self.base + x

class MyManager(SyncManager): pass
MyManager.register("Maths", Maths)
class PlainManager(BaseManager): pass
PlainManager.register("Maths", Maths)

def hold(lock, held):
    lock.acquire()
    held.set()
    time.sleep(600)
def put(q, count):
    for i in range(count): q.put(i)
    return q.qsize()
def nest(shared, names):
    shared["inner"]["a"] = 1
    shared["list"].append(7)
    names.x = 5
def count(d, lock, times):
    for _ in range(times):
        d.incr("sum")
        with lock:
            d["n"] = d.get("n", 0) + 1
def meet(barrier, found):
    try:
        found.put(("passed", barrier.wait()))
    except threading.BrokenBarrierError:
        found.put("broken")
def await_notice(condition, ready, found):
    with condition:
        ready.release()
        found.put(condition.wait(30))
def let_go(lock):
    lock.release()
def attempt(call, *arguments, **keywords):
    try:
        return call(*arguments, **keywords)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
def make(number):
    manager = Manager()
    return manager.dict(number=number)
def make_inside(numbers):
    return {"a": make(numbers[0]), "b": (None, make(numbers[1]))}
'''


class Managers(Daemons):
    def program(self, body):
        return self.run_main(PRELUDE, body)

    def test_dict(self):
        lines = self.program('''
with Manager() as manager:
    d = manager.dict({"a": 1}, b=2)
    d[("t", 1)] = [1, 2]; d[None] = None; d[2.5] = "x"; d[10**30] = b"y"; d[frozenset([1])] = {"k": {1}}
    print(d)
    print(len(d), "a" in d, "z" in d, d["b"], d.get("z"), d.get("z", 0), d.keys() == list(d))
    print(attempt(lambda: d["z"]), attempt(d.pop, "z"), d.pop("z", 9), d.pop("a"), d.popitem())
    del d[None]
    print(attempt(d.__delitem__, None), d.setdefault("new", []), d.setdefault("b", 7))
    d["new"].append(1)
    print(d["new"], d.items()[0], d.values()[0], d.copy() == dict(d.items()), d._callmethod("get", ("b",)))
    print(d.incr("n"), d.incr("n", 4), d.compare_and_set("n", 5, 6), d.compare_and_set("n", 5, 7), d["n"])
    d.set("short", 1, ttl=0.05)
    while "short" in d: time.sleep(0.01)
    d.update({i: i * i for i in range(1000)})
    print(d[999], len(d), attempt(lambda: d.__setitem__([], 1)))
    d["large"] = b"z" * 1_000_000
    print(len(d["large"]))
    d.clear()
    print(d, repr(d).startswith("<DictProxy object, typeid 'dict' at "))
''')
        self.assertEqual(lines[0], "{'a': 1, 'b': 2, ('t', 1): [1, 2], None: None, 2.5: 'x', "
                                   f"{10**30}: b'y', frozenset({{1}}): {{'k': {{1}}}}}}")
        self.assertEqual(lines[1], "7 True False 2 None 0 True")
        self.assertEqual(lines[2], "KeyError: 'z' KeyError: 'z' 9 1 (frozenset({1}), {'k': {1}})")
        self.assertEqual(lines[3], "KeyError: None [] 2")
        self.assertEqual(lines[4], "[] ('b', 2) 2 True 2")
        self.assertEqual(lines[5], "1 5 True False 6")
        self.assertTrue(lines[6].startswith("998001 1006 TypeError: unhashable"), lines[6])
        self.assertEqual(lines[7:], ["1000000", "{} True"])

    def test_list(self):
        lines = self.program('''
with Manager() as manager:
    l = manager.list(range(5))
    l.append("x"); l.insert(0, "first"); l.extend([7, 8]); l += [9]
    print(l, len(l), l[0], l[-1], l[1:3], l[::-1][0], 3 in l, "no" in l)
    print(l.pop(), l.pop(0), l.index(3), l.count(7), attempt(l.index, "no"), attempt(l.pop, 99))
    l.remove("x"); l.sort(key=lambda x: -x)
    print(l, attempt(lambda: l[99]), attempt(l.__setitem__, 99, 1))
    l[0] = "zero"; l[1:3] = ["one", "two"]; del l[-1]; l.reverse()
    print(l, list(reversed(l))[0], l + [1], (l * 2)[-1], [x for x in l][0])
    big = manager.list([b"q" * 50_000] * 20)
    print(sum(map(len, big)))
''')
        self.assertEqual(lines[0], "['first', 0, 1, 2, 3, 4, 'x', 7, 8, 9] 10 first 9 [0, 1] 9 True False")
        self.assertEqual(lines[1], "9 first 3 1 ValueError: 'no' is not in list IndexError: pop index out of range")
        self.assertEqual(lines[2], "[8, 7, 4, 3, 2, 1, 0] IndexError: list index out of range "
                                   "IndexError: list assignment index out of range")
        self.assertEqual(lines[3], "[1, 2, 3, 'two', 'one', 'zero'] zero [1, 2, 3, 'two', 'one', 'zero', 1] zero 1")
        self.assertEqual(lines[4], "1000000")

    def test_values(self):
        lines = self.program('''
with Manager() as manager:
    n = manager.Namespace(a=1); n.b = [2]; n._own = 3
    print(n, n.b, n._own, hasattr(n, "c")); del n.a
    print(n, attempt(lambda: n.a))
    v = manager.Value("i", 5); v.value += 1
    print(str(v), v.get(), v.incr(2), v.compare_and_set(8, 9), v.value)
    a = manager.Array("d", [1, 2]); a[0] = 3
    print(a, len(a), a[1:], attempt(a.__setitem__, 0, "x"))
''')
        self.assertEqual(lines[0:3], ["Namespace(a=1, b=[2]) [2] 3 False",
                                      "Namespace(b=[2]) AttributeError: 'Namespace' object has no attribute 'a'",
                                      "Value('i', 6) 6 8 True 9"])
        self.assertEqual(lines[3], "array('d', [3.0, 2.0]) 2 [2.0] TypeError: must be real number, not str")

    def test_across_processes(self):
        lines = self.program('''
with Manager() as manager:
    d, lock = manager.dict(), manager.Lock()
    children = [Process(target=count, args=(d, lock, 50)) for _ in range(3)]
    for child in children: child.start()
    for child in children: child.join()
    print(d)
    q = manager.Queue()
    with Pool(2) as pool:
        print(max(pool.starmap(put, [(q, 2), (q, 3)])), sorted(q.get() for _ in range(5)))
    outer = manager.dict()
    outer["list"] = manager.list([1])
    outer["list"].append(2)
    print(outer["list"], type(outer["list"]).__name__)
''')
        self.assertEqual(lines, ["{'sum': 150, 'n': 150}", "5 [0, 0, 1, 1, 2]", "[1, 2] ListProxy"])

    def test_nested(self):
        lines = self.program('''
with Manager() as manager:
    d = manager.dict(inner={}, list=[])
    child = Process(target=nest, args=(d, manager.Namespace())); child.start(); child.join()
    print(d)
with Manager(nested=True) as manager:
    d, n = manager.dict(inner={}, list=[]), manager.Namespace()
    child = Process(target=nest, args=(d, n)); child.start(); child.join()
    print(d["inner"], d["list"], n.x)
''')
        self.assertEqual(lines, ["{'inner': {}, 'list': []}", "{'a': 1} [7] 5"])

    def test_waiting(self):
        lines = self.program('''
with Manager() as manager:
    lock = manager.Lock()
    with lock: print(lock.acquire(False), lock.acquire(timeout=0.05))
    print(attempt(manager.RLock().release).split(":")[0])
    bounded = manager.BoundedSemaphore(2)
    print(bounded.acquire(), bounded.acquire(), bounded.acquire(timeout=0.05), bounded.release(), bounded.release(),
          attempt(bounded.release))
    event = manager.Event()
    print(event.is_set(), event.wait(0.05), event.set(), event.wait(), event.clear(), event.is_set())
    q = manager.Queue(1)
    q.put(1)
    print(q.full(), attempt(q.put_nowait, 2), attempt(q.put, 2, timeout=0.05), q.get(), attempt(q.get_nowait), q.empty())
    jobs = manager.JoinableQueue()
    jobs.put("x"); jobs.get(); jobs.task_done(); jobs.join()
    print(attempt(jobs.task_done))
    condition, ready, found = manager.Condition(), manager.Semaphore(0), manager.Queue()
    child = Process(target=await_notice, args=(condition, ready, found)); child.start(); ready.acquire()
    with condition: condition.notify()
    print(found.get(), attempt(condition.notify)); child.join()
    barrier = manager.Barrier(2, action=None, timeout=30)
    child = Process(target=meet, args=(barrier, found)); child.start()
    places = {barrier.wait(), found.get()[1]}; child.join()
    print(places, barrier.parties, barrier.n_waiting, barrier.broken)
''')
        self.assertEqual(lines[0:4], ["False False", "RuntimeError",
                                      "True True False None None ValueError: Semaphore released too many times",
                                      "False False None True None False"])
        self.assertEqual(lines[4], "True Full:  Full:  1 Empty:  True")
        self.assertEqual(lines[5], "ValueError: task_done() called too many times")
        self.assertEqual(lines[6], "True RuntimeError: cannot notify on un-acquired lock")
        self.assertEqual(lines[7], "{0, 1} 2 0 False")

    def test_the_dead_hold_nothing(self):
        lines = self.program('''
with Manager() as manager:
    for lock in (manager.Lock(), manager.RLock()):
        held = manager.Event()
        child = Process(target=hold, args=(lock, held)); child.start(); held.wait(); child.kill(); child.join()
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            print(lock.acquire(timeout=30), [w.category.__name__ for w in said]); lock.release()
    barrier, found = manager.Barrier(3), manager.Queue()
    doomed = Process(target=meet, args=(barrier, found)); doomed.start()
    while barrier.n_waiting < 1: time.sleep(0.01)
    doomed.kill(); doomed.join()
    try: barrier.wait(30)
    except threading.BrokenBarrierError: print("broken")
''')
        self.assertEqual(lines, ["True ['RuntimeWarning']"] * 2 + ["broken"])

    def test_results(self):
        """What a task makes and returns is there for whoever takes the result, also if that is later."""
        lines = self.program('''
with Pool(2) as pool:
    made = pool.apply(make, (1,))
    print(made["number"])
    many = pool.map(make, range(20), chunksize=5)
    print([one["number"] for one in many] == list(range(20)))
    inside = pool.apply(make_inside, ([3, 4],))
    print(inside["b"][1]["number"], inside["a"]["number"])
''')
        self.assertEqual(lines, ["1", "True", "4 3"])

    def test_watching(self):
        self.assertEqual(self.program('''
with Manager() as manager:
    d, l, v, q = manager.dict(), manager.list([1]), manager.Value("i", 0), manager.Queue()
    with d.watch() as changes, d.watch("a") as of_a:
        d["a"] = 1; d["b"] = 2; del d["a"]
        print([changes.next(30)[:2] for _ in range(3)])
        print([of_a.next(30)[:2] for _ in range(2)])
        try: changes.next(0.01)
        except multiprocessing.TimeoutError as error: print(type(error).__name__)
    print(list(changes))
    watches = [each.watch() for each in (l, v, q)]
    l.append(2); v.value = 3; q.put(4)
    print([watch.next(30).kind for watch in watches])
    child = Process(target=d.update, args=({"c": 1},))
    with d.watch("c") as changes:
        child.start()
        print(changes.next(30)[:2])
    child.join()
    changes = d.watch()
    manager.delete(d)
    print([change.kind for change in changes])
    names = manager.Namespace()
    names.watch = 5
    print(names.watch)
'''), ["[('set', 'a'), ('set', 'b'), ('deleted', 'a')]", "[('set', 'a'), ('deleted', 'a')]", "TimeoutError", "[]",
            "['changed', 'changed', 'changed']", "('set', 'c')", "['removed']", "5"])

    def test_names(self):
        lines = self.program('''
with Manager() as manager:
    d = manager.open("dict", "settings")
    d["x"] = 1
    print(manager.open("Value", "counter", initial=5).incr())
with Manager() as manager:
    d = manager.open("dict", "settings", create="never")
    print(d, manager.open("Value", "counter").get(), attempt(manager.open, "dict", "settings", create="exclusive").split(":")[1])
    manager.delete(d)
    print(attempt(manager.open, "dict", "settings", create="never").split(":")[1], attempt(manager.open, "thing", "x")[:36])
''')
        self.assertEqual(lines, ["6", "{'x': 1} 6  object_exists", " unknown_object ValueError: there is no type 'thing'"])

    def test_life(self):
        lines = self.program('''
manager = SyncManager()
print(attempt(manager.dict))
manager.start()
print(attempt(manager.start))
d = manager.dict()
manager.shutdown()
print(attempt(d.__setitem__, 1, 1).split(":")[1])
with MyManager() as manager:
    print(manager.Maths(5).add(3), manager.list([1]))
with PlainManager() as manager:
    print(manager.Maths(5).add(4))
for _ in range(2): manager.join()
with Manager() as manager:
    put_there = manager.list()
    other = SyncManager()
    print(attempt(other.start, "no function"))
    other.start(put_there.append, ("begun",))
    print(put_there, other.list([2]))
    other.shutdown()
    other.join()
    manager.shutdown()
    print(manager.join(), manager.join(0.1))
''')
        self.assertEqual(lines, ["AssertionError: server not yet started", "ProcessError: Already started server",
                                 " unknown_object", "8 [1]", "9", "TypeError: initializer must be a callable",
                                 "['begun'] [2]", "None None"])

    def test_an_address(self):
        lines = self.program('''
with MyManager(address=("127.0.0.1", 0), authkey=b"key") as server:
    client = MyManager(server.address, b"key")
    client.connect()
    print(client.address == server.address, client.Maths(1).add(1), client.dict(a=1))
    print(attempt(MyManager(server.address, b"other").connect))
print(attempt(MyManager(server.address, b"key").connect).split(":")[0])
without = MyManager()
without.connect()
print(without.Maths(2).add(3), without.list([4]))
without.shutdown()
print(MyManager(("127.0.0.1", 0)).get_server().address[0])
''')
        self.assertEqual(lines, ["True 2 {'a': 1}", "AuthenticationError: digest sent was rejected", "ConnectionRefusedError",
                                 "5 [4]", "127.0.0.1"])

    def test_releasing(self):
        """A lock that one has is released without waiting for an answer; that somebody else was quicker becomes a warning."""
        self.assertEqual(self.program('''
manager = Manager()
lock, rlock, condition = manager.Lock(), manager.RLock(), manager.Condition()
for each in (lock, rlock, condition): print(attempt(each.release))
for each in (lock, rlock, condition):
    for _ in range(1000):
        with each: pass
    print(attempt(each.acquire), attempt(each.release), attempt(each.release))
for _ in range(5): rlock.acquire()
for _ in range(5): rlock.release()
print(attempt(rlock.release))
lock.acquire()
child = Process(target=let_go, args=(lock,))
child.start()
child.join()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    lock.release()
    lock.acquire()
    print([each.category.__name__ for each in caught])
semaphore = manager.BoundedSemaphore(1)
semaphore.acquire()
semaphore.release()
print(attempt(semaphore.release))
'''), ["RuntimeError: cannot release un-acquired lock"] * 3 + ["True None RuntimeError: cannot release un-acquired lock"] * 3 +
            ["RuntimeError: cannot release un-acquired lock", "['RuntimeWarning']", "ValueError: Semaphore released too many times"])

    def test_groups(self):
        """What others of a group may have pickled is not unpickled: that would run what they like."""
        lines = self.program('''
import grp
group = grp.getgrgid(os.getegid()).gr_name
manager = Manager()
d = manager.open("dict", "of the group", group=group)
q = manager.open("Queue", "of the group, too", group=group)
d["plain"], d["pickled"] = "text", (1, 2)
print(multiprocessing.info()["reader"], attempt(d.get, "pickled"))
print(d["plain"], d.pop("plain"), attempt(d.pop, "pickled"))
q.put(1)
q.put((1, 2))
print(q.get(), attempt(q.get))
manager.delete(d)
manager.delete(q)
''')
        refused = "UntrustedPickle: untrusted_pickle: a value that another user may have pickled"
        self.assertIn(lines[0], ("extension (1, 2)", "python (1, 2)", f"daemon {refused}"))
        self.assertEqual(lines[1:], [f"text text {refused}", f"1 {refused}"])


class Releases(Daemons):
    """Objects that only results keep."""

    config = 'session_grace = "300ms"'

    def program(self, body):
        return self.run_main(PRELUDE, body)

    def test_an_object_lives_as_long_as_the_result_that_names_it(self):
        """Of single calls, taken, waiting and dropped, and of maps."""
        self.assertEqual(self.program('''
from taskpool import client
def objects(): return len(client.default().ask(135)["objects"])
def wait_for(count):
    end = time.monotonic() + 30
    while objects() != count and time.monotonic() < end: time.sleep(0.01)
    print(objects())
with Pool(1) as pool:
    pool.apply(os.getpid)
    kept = [pool.apply_async(make, (i,)) for i in range(3)]
    dropped = pool.apply_async(make, (9,))
    for each in kept: each.wait()
    dropped.wait()
    print(objects())
    del dropped
    wait_for(3)
    values = [each.get() for each in kept]
    wait_for(3)
    print([value["number"] for value in values])
    del values, kept, each
    wait_for(0)
    mapped = pool.map(make, range(5))
    wait_for(5)
    del mapped
    wait_for(0)
    kept = [pool.apply_async(make_inside, ((i, i + 1),)) for i in range(3)]
    for each in kept: each.wait()
    del kept[0], each
    wait_for(4)
    print([(value["a"]["number"], value["b"][1]["number"]) for value in [each.get() for each in kept]])
'''), ["4", "3", "3", "[0, 1, 2]", "0", "5", "0", "4", "[(1, 2), (2, 3)]"])


if __name__ == "__main__":
    unittest.main()
