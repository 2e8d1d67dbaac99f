#!/usr/bin/env python3
"""What the threads of one program do at the same time does no harm to each other's calls."""

import unittest

from support import Daemons

PRELUDE = '''\
import threading, time
import taskpool
from taskpool import Event, Manager, Pool
from taskpool.futures import Executor
from taskpool.managers import SyncManager

class Slow:
    def __init__(self, number): self.number = number
    def __getstate__(self): return self.number
    def __setstate__(self, number):
        time.sleep(0.001 if number else 0.2)  # others run meanwhile
        self.number = number
def square(x): return x * x
def await_event(event): return event.wait(60)
def set_event(event): event.set()

class Maths:
    def __init__(self, base): self.base = base
    def add(self, x): return self.base + x
class MyManager(SyncManager): pass
MyManager.register("Maths", Maths)

def at_once(call, count=2):
    """What `count` threads get that make the same call."""
    start, found = threading.Barrier(count), []
    def run():
        start.wait()
        try: found.append(call())
        except BaseException as error: found.append(error)
    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    return found
'''


class Threads(Daemons):
    def program(self, body):
        return self.run_main(PRELUDE, body)

    def test_an_event_that_is_set_for_a_moment_ends_a_wait(self):
        self.assertEqual(self.program('''
event = Event()
waiter = threading.Thread(target=lambda: print(event.wait(20)))
waiter.start()
pulses = 0
while waiter.is_alive():  # those before it waits are none of its
    event.set(); event.clear()
    waiter.join(0.05)
    pulses += 1
print(pulses < 100)
'''), ["True", "True"])

    def test_all_who_get_one_result_get_it(self):
        self.assertEqual(self.program('''
with Pool(1) as pool:
    for _ in range(3):
        result = pool.apply_async(Slow, (0,))
        result.wait()
        print([type(value).__name__ for value in at_once(result.get, 3)])
'''), ["['Slow', 'Slow', 'Slow']"] * 3)

    def test_a_pool_that_ends_while_its_results_arrive_harms_no_other(self):
        self.assertEqual(self.program('''
other = Pool(1)
for _ in range(20):
    with Pool(2) as pool:
        result = pool.map_async(Slow, range(1, 400), chunksize=1, callback=lambda _: None)  # the driver reads
        result.wait_for(5)
    assert other.apply(square, (3,)) == 9
    try: result.get(20)
    except taskpool.Cancelled: pass
print("done")
'''), ["done"])

    def test_calls_leave_while_another_thread_waits_for_the_daemon(self):
        self.assertEqual(self.program('''
manager = Manager()
queue, event = manager.Queue(), manager.Event()
reader = threading.Thread(target=queue.get)
reader.start()
with Executor(2) as executor:
    for _ in range(5):
        waits, sets = executor.submit(await_event, event), executor.submit(set_event, event)
        print(waits.result(20))
        event.clear()
queue.put(1)
reader.join()
'''), ["True"] * 5)

    def test_what_starts_at_first_use_starts_once(self):
        self.assertEqual(self.program('''
for _ in range(3):
    with MyManager() as manager:
        print([maths.add(2) if not isinstance(maths, BaseException) else maths for maths in at_once(lambda: manager.Maths(1), 4)])
'''), ["[3, 3, 3, 3]"] * 3)


if __name__ == "__main__":
    unittest.main()
