#!/usr/bin/env python3
"""A program on the Python package, which notes each call and what became of it: `python_client.py JOURNAL NUMBER SEED`, until
SIGTERM. Its pool and its objects end with the daemon; it makes new ones."""

import queue
import random
import signal
import sys
import time

import taskpool
from journal import Journal, mixed, note_effect
from taskpool.errors import DaemonError

stopping = False


def effect(number):
    note_effect(number)
    return mixed(number)


def slow_effect(number):
    note_effect(number)
    time.sleep(0.01)
    return mixed(number)


def reversed_bytes(data):
    return data[::-1]


def code_of(error):
    return error.code if isinstance(error, DaemonError) else type(error).__name__


class Client:
    def __init__(self, journal, luck):
        self.journal, self.luck = journal, luck

    def stop(self, *_):
        global stopping
        stopping = True

    def run(self):
        signal.signal(signal.SIGTERM, self.stop)
        while not stopping:
            try:
                self.round()
            except (DaemonError, OSError) as error:  # the daemon went away, or has no room; the calls have said so
                self.journal.write(e="broken", detail=repr(error))
                time.sleep(0.1)

    def round(self):
        manager = taskpool.Manager()
        with manager, taskpool.Pool(2) as pool:
            objects = {name: manager.open(kind, "chaos." + name, **options) for name, kind, options in (
                ("counters", "dict", {}), ("list", "list", {}), ("queue", "Queue", {"maxsize": 100}), ("lock", "Lock", {}),
                ("guarded", "Value", {"initial": 0}))}
            for _ in range(self.luck.randrange(10, 60)):
                if stopping:
                    break
                self.luck.choice([self.apply, self.map, self.imap, self.native, self.large, self.incr, self.append, self.put,
                                  self.get, self.section])(pool, objects)
                time.sleep(self.luck.random() * 0.05)
            pool.close()
            pool.join()

    def noted(self, call, work, again=True):
        """Ends the call with what `work` gives as its fields, or with the error's code; that of a broken session goes on."""
        try:
            fields = work()
        except queue.Empty:
            fields = {"code": "empty"}
        except queue.Full:
            fields = {"code": "full"}
        except Exception as error:  # pylint: disable=broad-except
            self.journal.end(call, code_of(error), detail=str(error)[:500])
            if isinstance(error, (taskpool.errors.DaemonGone, taskpool.errors.OutcomeUnknown, taskpool.errors.NoDaemon,
                                  taskpool.errors.StartFailed, taskpool.errors.PoolClosed)) or not isinstance(error, DaemonError):
                raise
            return
        self.journal.end(call, **(fields or {}))

    # Calls

    def apply(self, pool, _):
        number = self.journal.new_id()
        call = self.journal.begin("apply", effects=[number, 1])
        self.noted(call, lambda: {"wrong": [0]} if pool.apply(slow_effect, (number,)) != mixed(number) else {})

    def outcomes(self, base, found):
        failed, wrong = {}, []
        for index, value in enumerate(found):
            if isinstance(value, BaseException):
                failed.setdefault(code_of(value), []).append(index)
            elif value != mixed(base + index):
                wrong.append(index)
        return {"outcomes": len(found), "failed": failed, "wrong": wrong}

    def map(self, pool, _):
        size = self.luck.randrange(1, 200)
        base = self.journal.new_id(size)
        # Of a chunk whose worker died, all that had no result yet run again.
        call = self.journal.begin("map", effects=[base, size], items=size, repeats=True)
        self.noted(call, lambda: self.outcomes(base, pool.map_async(effect, range(base, base + size)).outcomes()))

    def imap(self, pool, _):
        size = self.luck.randrange(1, 40)
        base = self.journal.new_id(size)
        call = self.journal.begin("imap", effects=[base, size], items=size)

        def work():
            found = []
            values = pool.imap(slow_effect, range(base, base + size))
            while True:
                try:
                    found.append(next(values))
                except StopIteration:
                    return self.outcomes(base, found)
                except Exception as error:  # pylint: disable=broad-except
                    found.append(error)
                    if len(found) > size:
                        return {**self.outcomes(base, found), "detail": repr(error)}

        self.noted(call, work)

    def native(self, pool, _):
        number = self.journal.new_id()
        call = self.journal.begin("apply", effects=[number, 1])
        self.noted(call, lambda: {"wrong": [0]} if pool.apply("effect", (number, 1)) != mixed(number) else {})

    def large(self, pool, _):
        data = self.luck.randbytes(self.luck.randrange(1, 500_000))
        call = self.journal.begin("apply")
        self.noted(call, lambda: {"wrong": [0]} if pool.apply(reversed_bytes, (data,)) != data[::-1] else {})

    # Shared objects

    def incr(self, _, objects):
        name = str(self.journal.number)
        call = self.journal.begin("incr", key=name)
        self.noted(call, lambda: objects["counters"].incr(name) and None)

    def append(self, _, objects):
        token = self.journal.new_id()
        call = self.journal.begin("append", token=token)
        self.noted(call, lambda: objects["list"].append(token))

    def put(self, _, objects):
        token = self.journal.new_id()
        call = self.journal.begin("put", token=token)
        self.noted(call, lambda: objects["queue"].put(token, timeout=0.3))

    def get(self, _, objects):
        call = self.journal.begin("get")
        self.noted(call, lambda: {"token": objects["queue"].get(timeout=0.3)})

    def section(self, _, objects):
        call = self.journal.begin("section")

        def work():
            if not objects["lock"].acquire(timeout=10):
                return {"code": "not_held"}
            before = objects["guarded"].value
            time.sleep(self.luck.random() * 0.003)
            objects["guarded"].value = before + 1
            after = objects["guarded"].value
            objects["lock"].release()
            return {"wrong": [before, after]} if after != before + 1 else {}

        self.noted(call, work)


def main():
    path, number, seed = sys.argv[1:]
    Client(Journal(path, int(number)), random.Random(int(seed))).run()


if __name__ == "__main__":
    main()
