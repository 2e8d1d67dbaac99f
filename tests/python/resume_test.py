#!/usr/bin/env python3
"""What a program holds in the store outlives a daemon that is killed and started again."""

import signal
import subprocess
import time
import unittest

from support import DEADLINE, SOON, Daemons

PROGRAM = '''
import os, sys, threading, time
import taskpool
from taskpool import Manager

def say(*what): print(*what, flush=True)
if __name__ == "__main__":
    manager = Manager()
    lock, rlock, other = manager.Lock(), manager.RLock(), manager.Lock()
    d = manager.dict(a=1)
    queue = manager.Queue()
    lock.acquire()
    rlock.acquire()
    rlock.acquire()
    other.acquire()
    got = []
    def wait_for_lock():
        got.append(other.acquire())
    def wait_for_item():
        got.append(queue.get())
    waiting = [threading.Thread(target=call) for call in (wait_for_lock, wait_for_item)]
    for thread in waiting: thread.start()
    while "waiting=1" not in str(other): time.sleep(0.001)
    say("ready", os.getpid())
    sys.stdin.readline()
    say(d["a"], lock.acquire(False), str(lock))
    d["b"] = 2
    say(dict(d))
    other.release()
    queue.put("item")
    for thread in waiting: thread.join(20)
    say(sorted(map(str, got)), [thread.is_alive() for thread in waiting])
    lock.release()
    say(lock.acquire(False))
    for _ in range(2): rlock.release()
    try: rlock.release()
    except RuntimeError as error: say(error)
'''


class Resume(Daemons):
    def test_locks_and_waits_survive_the_daemon(self):
        program = self.start(PROGRAM, stdin=subprocess.PIPE)
        self.assertTrue(program.stdout.readline().startswith("ready"))
        self.daemon.process.send_signal(signal.SIGKILL)
        self.daemon.process.wait(DEADLINE)
        self.daemon.start()
        program.stdin.write("go\n")
        program.stdin.flush()
        out, err = self.finish(program)
        self.assertEqual(program.returncode, 0, out + err + self.daemon.log()[-3000:])
        self.assertEqual(out.splitlines(), ["1 False <Lock free=0 waiting=0>", "{'a': 1, 'b': 2}", "['True', 'item'] [False, False]", "True",
                                            "cannot release un-acquired lock"], err)

    def finish_without_daemon(self, program, ready="ready\n"):
        """Kills the daemon once the program is ready; what it prints, and another daemon runs."""
        self.assertEqual(program.stdout.readline(), ready)
        self.daemon.process.send_signal(signal.SIGKILL)
        self.daemon.process.wait(DEADLINE)
        try:
            return self.finish(program)
        finally:
            self.daemon.start()

    def test_waits_of_every_kind_end_and_do_not_spin(self):
        """With a daemon that stays away; also one whose end nobody tells."""
        program = self.start("""
            import os, threading, time
            import taskpool
            from taskpool import client

            def end(kind, call):
                begun, before = time.monotonic(), time.thread_time()
                try:
                    call()
                    how = "returned"
                except Exception as error:
                    how = "ended" if isinstance(error, taskpool.DaemonError) else repr(error)
                ended[kind] = how, time.monotonic() - begun < 20, time.thread_time() - before < 1

            if __name__ == "__main__":
                ended = {}
                pool, manager = taskpool.Pool(2), taskpool.Manager()
                lock, queue = manager.Lock(), manager.Queue()
                lock.acquire()
                result = pool.apply_async(time.sleep, (60,))
                told = pool.apply_async(time.sleep, (60,), callback=print, error_callback=lambda error: None)
                several = pool.map_async(time.sleep, [60, 60])
                each = pool.imap(time.sleep, [60, 60])
                other = taskpool.Pool(1)
                other.apply_async(time.sleep, (60,))
                other.close()
                process = taskpool.Process(target=time.sleep, args=(60,))
                process.start()
                session = client.default()
                calls = {"get": result.get, "told": told.get, "map": several.get, "imap": each.next, "join": other.join,
                         "lock": lock.acquire, "queue": queue.get, "process": process.join, "nobody": lambda: session.wait(lambda: False)}
                threads = [threading.Thread(target=end, args=call) for call in calls.items()]
                for thread in threads: thread.start()
                print("ready", flush=True)
                for thread in threads: thread.join(30)
                for kind, how in sorted(ended.items()): print(kind, *how)
                print(len(ended), time.process_time() < 10)
        """)
        out, err = self.finish_without_daemon(program)
        lines = out.splitlines()
        self.assertEqual(lines.pop(), "9 True", out + err)
        for line in lines:
            kind, *how = line.split(" ", 1)
            self.assertEqual(how, [f"{'returned' if kind in ('join', 'process') else 'ended'} True True"], out + err)

    def test_connections_and_exits_without_the_daemon(self):
        """Processes end with the daemon: who reads from one hears the end, and what this program does at its exit takes no time."""
        program = self.start("""
            import atexit, sys, time
            import taskpool
            from taskpool import Manager, Pipe, Pool, Process, active_children

            def keep(end):
                end.send("here")
                time.sleep(600)

            if __name__ == "__main__":
                pool, manager = Pool(2), Manager()
                d, lock, queue = manager.dict(a=1), manager.Lock(), taskpool.Queue()
                lock.acquire()
                waiting = pool.map_async(time.sleep, [600])
                lazy = pool.imap(time.sleep, [600])
                ours, theirs = Pipe()
                child = Process(target=keep, args=(theirs,))
                child.start()
                theirs.close()
                print(ours.recv(), flush=True)
                begun = time.monotonic()
                try: ours.recv()
                except EOFError as error: print("EOFError", time.monotonic() - begun < SOON)
                atexit.register(lambda: print("left", time.monotonic() - begun < SOON, flush=True))
                begun = time.monotonic()
            """.replace("SOON", str(SOON)))
        begun = time.monotonic()
        out, err = self.finish_without_daemon(program, "here\n")
        self.assertEqual((program.returncode, out.splitlines()), (0, ["EOFError True", "left True"]), err)
        self.assertLess(time.monotonic() - begun, 2 * SOON, err)

    def test_a_daemon_that_stays_away(self):
        """Whatever waits ends with an error, soon."""
        program = self.start("""
            import taskpool, threading, time
            manager = taskpool.Manager()
            queue = manager.Queue()
            print("ready", flush=True)
            begun = time.monotonic()
            try: queue.get()
            except taskpool.DaemonError as error: print(type(error).__name__)
            try: queue.put(1)
            except taskpool.DaemonError as error: print(type(error).__name__, time.monotonic() - begun < 20)
            """)
        out, err = self.finish_without_daemon(program)
        self.assertEqual(program.returncode, 0, out + err)
        self.assertRegex(out, r"^OutcomeUnknown\n(DaemonGone|NoDaemon) True\n$")


if __name__ == "__main__":
    unittest.main()
