#!/usr/bin/env python3
"""Process is a process of its own, with multiprocessing's behaviour."""

import glob
import os
import subprocess
import sys
import unittest

from support import Daemons

PRELUDE = '''\
import os, signal, sys, time, threading
import taskpool as multiprocessing
from taskpool import Pipe, Pool, Process, Queue, active_children, current_process, parent_process
from taskpool.connection import wait

class Greeter(Process):
    def __init__(self, greeting):
        super().__init__(name="greeter")
        self.greeting = greeting
    def run(self):
        print(self.greeting, self.name, flush=True)
def fail(): raise KeyError("lost")
def leave(code): sys.exit(code)
def surroundings(): print(os.getcwd(), os.environ["COLOUR"], sys.stdin.read(), sys.argv[1:], flush=True)
def who(): print(current_process().name, current_process().daemon, parent_process().name, parent_process().pid == int(sys.argv[1]), flush=True)
def send(connection, value): connection.send(value); connection.close()
def receive(connection): return connection.recv()
def tell_whether_in_task(shared):
    from taskpool import client
    shared["told"] = 1
    print(client.default().is_in_task, flush=True)
def attempt(call, *arguments):
    try: return call(*arguments)
    except Exception as error: return f"{type(error).__name__}: {error}"
'''


class Processes(Daemons):
    def program(self, body, *arguments, **options):
        return self.run_main(PRELUDE, body, *arguments, **options)

    def test_life(self):
        lines = self.program('''
child = Greeter("hello")
print(child.is_alive(), child.exitcode, child.pid, child.ident)
child.start()
twice = attempt(child.start)
child.join()  # it prints, too
print(twice)
print(child.is_alive(), child.exitcode, isinstance(child.pid, int), active_children())
child.close()
print(attempt(child.join))
for target, arguments in ((fail, ()), (leave, (3,)), (leave, ("why",)), (leave, (None,)), (os._exit, (4,)), (os.abort, ())):
    child = Process(target=target, args=arguments); child.start(); child.join()
    print(child.exitcode)
''')
        self.assertEqual(lines, ["False None None None", "hello greeter", "AssertionError: cannot start a process twice",
                                 "False 0 True []", "ValueError: process object is closed", "1", "3", "1", "0", "4", "-6"])
        self.assertIn("KeyError: 'lost'", self.stderr)
        self.assertIn("Process Process-2:", self.stderr)

    def test_is_no_task(self):
        """What a process waits for is its own affair, also if its arguments have opened its session: it lends no worker's place."""
        lines = self.program('''
with multiprocessing.Manager() as manager:
    shared = manager.dict()
    child = Process(target=tell_whether_in_task, args=(shared,)); child.start(); child.join()
    with Pool(1) as pool: pool.apply(tell_whether_in_task, (shared,))
''')
        self.assertEqual(lines, ["False", "True"], self.stderr)

    def test_sentinels_and_signals(self):
        lines = self.program('''
children = [Process(target=time.sleep, args=(seconds,)) for seconds in (600, 0.1, 600)]
for child in children: child.start()
print(len(active_children()), children[0].join(0.05), children[0].is_alive())
ready = wait([child.sentinel for child in children])
print(ready == [children[1].sentinel])
children[0].terminate(); children[2].kill()
for child in children: child.join()
print([child.exitcode for child in children], children[0])
''')
        self.assertEqual(lines[:3], ["3 None True", "True", lines[2]])
        self.assertRegex(lines[2], r"\[-15, 0, -9\] <Process name='Process-1' pid=\d+ parent=\d+ stopped exitcode=-SIGTERM>")

    def test_ended_at_once(self):
        lines = self.program('''
for end in (Process.terminate, Process.kill):
    children = [Process(target=time.sleep, args=(600,)) for _ in range(4)]
    for child in children: child.start(); end(child)
    for child in children: child.join()
    print([child.exitcode for child in children])
''')
        self.assertEqual(lines, ["[-15, -15, -15, -15]", "[-9, -9, -9, -9]"])

    def test_surroundings(self):
        source = PRELUDE + '''
if __name__ == "__main__":
    os.environ["COLOUR"] = "blue"
    os.chdir(sys.argv[1])
    child = Process(target=surroundings); child.start(); child.join()
'''
        folder = os.path.realpath(self.directory)
        process = self.start(source, folder, "word", stdin=subprocess.PIPE)
        out, err = process.communicate("typed", timeout=60)
        self.assertEqual(out, f"{folder} blue typed ['{folder}', 'word']\n", err)

    def test_the_interpreter_may_be_a_path(self):
        lines = self.program('''
import pathlib
for path in (pathlib.Path(sys.executable), os.fsencode(sys.executable), sys.executable):
    multiprocessing.set_executable(path)
    child = Process(target=print, args=("here",)); child.start(); child.join()
''')
        self.assertEqual(lines, ["here"] * 3)

    def test_names_and_parents(self):
        lines = self.program('''
sys.argv[1:] = [str(os.getpid())]
child = Process(target=who, daemon=True); child.start(); child.join()
''')
        self.assertEqual(lines, ["Process-1 True MainProcess True"])

    def test_ends_with_the_program(self):
        lines = self.program('''
daemon = Process(target=time.sleep, args=(600,), daemon=True)
daemon.start()
other = Process(target=print, args=("waited for",))
other.start()
print("main ends", flush=True)
''')
        self.assertEqual(sorted(lines), ["main ends", "waited for"])

    def test_a_process_inside_a_process(self):
        lines = self.program('''
child = Process(target=have_a_child, args=(3,), name="outer"); child.start(); child.join()
print(child.exitcode)
''')
        self.assertEqual(lines, ["outer of MainProcess", "Process-1:1 of outer", "Process-1:1:1 of Process-1:1", "3"])

    def test_two_virtual_environments_on_one_daemon(self):
        pids = set()
        for name in ("first", "second"):
            environment = os.path.join(self.directory, name)
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True, timeout=60)
            packages = glob.glob(os.path.join(environment, "lib", "python*", "site-packages"))[0]
            with open(os.path.join(packages, "only_here.py"), "w") as file:
                file.write(f"NAME = {name!r}\ndef where(_=None):\n    import sys\n    return NAME, sys.prefix\n")
            path = self.write(PRELUDE + '''
import only_here
if __name__ == "__main__":
    with Pool(2) as pool:
        print(set(pool.map(only_here.where, range(4))), pool.apply(os.getppid))
    child = Process(target=print_prefix); child.start(); child.join()
''')
            done = subprocess.run([os.path.join(environment, "bin", "python"), path], env=self.environment(), capture_output=True,
                                  text=True, timeout=60)
            self.assertEqual(done.returncode, 0, done.stderr)
            first, second = done.stdout.splitlines()
            where, pids_parent = first.rsplit(" ", 1)
            pids.add(pids_parent)
            self.assertEqual(where, str({(name, environment)}))
            self.assertEqual(second, environment)
        self.assertEqual(len(pids), 2)

    def test_challenges(self):
        lines = self.program('''
from taskpool.connection import answer_challenge, deliver_challenge
for key in (b"key", b"other"):
    ours, theirs = Pipe()
    asked = threading.Thread(target=attempt, args=(answer_challenge, theirs, key)); asked.start()
    print(attempt(deliver_challenge, ours, b"key")); asked.join()
''')
        self.assertEqual(lines, ["None", "AuthenticationError: digest received was wrong"])

    def test_connections_travel(self):
        lines = self.program('''
ours, theirs = Pipe()
child = Process(target=send, args=(theirs, b"x" * 100_000)); child.start(); theirs.close()
print(len(ours.recv()), attempt(ours.recv).split(":")[0]); child.join()
ours, theirs = Pipe()
with Pool(1) as pool:
    result = pool.apply_async(receive, (theirs,))
    ours.send("to a task")
    print(result.get(30))
queue = Queue()
with Pool(2, initializer=share, initargs=(queue,)) as pool:
    pool.map(put_shared, range(4))
print(sorted(queue.get() for _ in range(4)))
''')
        self.assertEqual(lines, ["100000 EOFError", "to a task", "[0, 1, 2, 3]"])


PRELUDE += '''
def print_prefix(): print(sys.prefix)
def have_a_child(depth):
    print(current_process().name, "of", parent_process().name, flush=True)
    if depth > 1:
        child = Process(target=have_a_child, args=(depth - 1,)); child.start(); child.join()
    sys.exit(depth)
def put_shared(x): shared.put(x)
def share(queue):
    global shared
    shared = queue
'''

if __name__ == "__main__":
    unittest.main()
