#!/usr/bin/env python3
"""A client that speaks frames itself, so that it sees what a library would hide: a second outcome, a frame that nobody asked
for, a connection that the daemon closed. `wire_client.py JOURNAL NUMBER SEED MODE`; modes: calls (until SIGTERM), and once each
fill_queue, fill_store, break_frames, crowd, hold."""

import array
import grp
import os
import random
import signal
import socket
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))

from journal import Journal, mixed  # noqa: E402
from store import Int, Store, Value, key_argument, operation  # noqa: E402
from wire import BYTES, IN_ARENA, Failed, Session, encode, JSON  # noqa: E402

PATH = os.environ["TASKPOOL_SOCKET"]


class Gone(Exception):
    """The connection broke."""


class Client:
    def __init__(self, journal, luck):
        self.journal, self.luck = journal, luck
        self.session = None
        self.stopping = False

    # Connecting

    def connect(self, tries=600):
        """A session, once there is a daemon that has room for it."""
        for _ in range(tries):
            session = None
            try:
                session = Session(PATH, greet=False)
                session.send("hello", head={"version": 1, "client": "chaos-wire"})
                reply = session.receive("welcome", "error")
                if reply.op == "welcome":
                    session.welcome = reply.head
                    self.session = session
                    return session
            except (OSError, EOFError):
                pass
            if session:
                session.close()
            if self.stopping:
                raise SystemExit(0)
            time.sleep(0.05)
        self.journal.violation("no session within 30 s")
        raise SystemExit(1)

    def drop(self):
        if self.session:
            self.session.close()
        self.session = None

    # Calls

    def outcome(self, request):
        """(code, value, detail) of an apply."""
        try:
            return "ok", self.session.result(request), ""
        except Failed as error:
            return error.code, None, error.detail

    def single(self, call, number, request):
        code, value, detail = self.outcome(request)
        fields = {"wrong": [0]} if code == "ok" and value != mixed(number) else {}
        self.journal.end(call, code, detail=detail, **fields)

    def pipelined(self):
        """Several calls under way at once; each has one outcome."""
        started = []
        for _ in range(self.luck.randrange(1, 20)):
            number = self.journal.new_id()
            call = self.journal.begin("apply", effects=[number, 1])
            try:
                request = self.session.start("effect", [number, self.luck.randrange(5)])
            except OSError:
                request = None
            started.append((call, number, request))
        for position, (call, number, request) in enumerate(started):
            try:
                if request is None:
                    raise EOFError
                self.single(call, number, request)
            except (OSError, EOFError):
                for rest, _, _ in started[position:]:
                    self.journal.end(rest, "outcome_unknown")
                raise Gone from None

    def job(self):
        self.end_job(*self.begin_job(self.luck.randrange(1, 60), 3))

    def begin_job(self, size, most_ms=1):
        base = self.journal.new_id(size)
        call = self.journal.begin("map", effects=[base, size], items=size)
        try:
            request = self.session.start_map("effect", [[base + i, self.luck.randrange(most_ms)] for i in range(size)])
        except OSError:
            request = None
        return call, base, size, request

    def end_job(self, call, base, size, request):
        try:
            if request is None:
                raise EOFError
            found, done = self.session.outcomes(request)
        except AssertionError as error:
            self.journal.violation(f"map {call}: {error}")
            return
        except Failed as error:
            self.journal.end(call, error.code, detail=error.detail)
            return
        except (OSError, EOFError):
            self.journal.end(call, "outcome_unknown")
            raise Gone from None
        failed, wrong = {}, []
        for index, value in found.items():
            if isinstance(value, Failed):
                failed.setdefault(value.code, []).append(index)
            elif value != mixed(base + index):
                wrong.append(index)
        if done["total"] != size or done["succeeded"] + done["failed"] + done.get("cancelled", 0) != size:
            self.journal.violation(f"map {call}: done says {done} of {size}")
        self.journal.end(call, outcomes=len(found), failed=failed, wrong=wrong)

    def detached(self):
        """Accepted, joined, waited for, fetched once; a second time it is gone."""
        number = self.journal.new_id()
        key = f"chaos-{number}"
        under_way = self.journal.begin("apply", effects=[number, 1], detached=True, key=key)
        submit = lambda: self.outcome(  # noqa: E731
            self.session.start("effect", [number, self.luck.randrange(20)], detached=True, idempotency_key=key))
        try:
            code, accepted, detail = submit()
            self.journal.end(under_way, code, detail=detail, **({"task": accepted["task"]} if accepted else {}))
            if code != "ok":
                return
            task = accepted["task"]
            under_way = self.journal.begin("join", key=key)
            code, again, detail = submit()
            self.journal.end(under_way, code, detail=detail)
            if again and again["task"] != task:
                self.journal.violation(f"key {key}: a second submission gave {again}, not {task}")
            under_way = self.journal.begin("fetch", task=task, of=number)
            self.session.ask("wait", {"task": task})
            self.single(under_way, number, self.fetch(task))
            under_way = None
            code = self.outcome(self.fetch(task))[0]
            if code != "unknown_task":
                self.journal.violation(f"task {task}: fetched twice, {code}")
        except Failed as error:
            self.journal.end(under_way, error.code, detail=error.detail)
        except (OSError, EOFError):
            if under_way is not None:
                self.journal.end(under_way, "outcome_unknown")
            raise Gone from None

    def fetch(self, task):
        request = self.session.new_request()
        self.session.send("fetch", head={"task": task}, request=request)
        return request

    def batch(self):
        """Two entries that change together or not at all."""
        call = self.journal.begin("batch")
        try:
            store = Store(self.session)
            counters = store.open("dict", "chaos.counters")
            for fd in counters.fds:
                os.close(fd)
            store.run(*(operation("incr", counters.target, key_argument(name), Value(b"1", JSON))
                        for name in ("pair.a", "pair.b")))
            counters.close()
            self.journal.end(call)
        except Failed as error:
            self.journal.end(call, error.code, detail=error.detail)
        except (OSError, EOFError):
            self.journal.end(call, "outcome_unknown")
            raise Gone from None

    def settle(self):
        """Nothing may be left over that nobody waits for."""
        try:
            self.session.ask("ping")
        except (OSError, EOFError):
            raise Gone from None
        if self.session.frames:
            self.journal.violation(f"frames that nobody asked for: {list(self.session.frames)[:3]}")
            self.session.frames.clear()

    def calls(self):
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "stopping", True))
        kinds = [self.pipelined, self.job, self.detached, self.batch]
        while not self.stopping:
            try:
                if self.session is None:
                    self.connect()
                self.luck.choice(kinds)()
                self.settle()
                if self.luck.random() < 0.05:
                    self.drop()
            except Gone:
                self.journal.write(e="broken")
                self.drop()
            time.sleep(self.luck.random() * 0.05)

    # Faults

    def fill_queue(self):
        """More than the pool's queue takes: each call ends with its result or `queue_full`, once."""
        self.connect()
        jobs = [self.begin_job(500) for _ in range(24)]
        for job in jobs:  # of a broken connection, each of them
            try:
                self.end_job(*job)
            except Gone:
                pass

    def fill_store(self):
        """Until it is full; then gives it all back. In the group's segment: who fills the one that all others use takes its
        memory for sizes that are of no use to them, also when it is free again."""
        name, group = f"chaos.fill.{self.journal.number}", grp.getgrgid(os.getgid()).gr_name
        try:
            ballast = Store(self.connect()).open("dict", name, group=group)
            refused, size = 0, 512
            for first in range(0, 1_000_000, 512):
                try:
                    ballast.store.run(*(operation("set", ballast.target, key_argument(first + index),
                                                  bytes(self.luck.randrange(1, 1200))) for index in range(size)))
                except Failed as error:
                    if error.code != "store_full":
                        self.journal.violation(f"filling the store: {error}")
                    size = 1
                    refused += 1
                    if refused == 20:
                        break
                    time.sleep(0.01)
            if not refused:
                self.journal.violation("the store never was full")
        except (OSError, EOFError, Failed):
            pass  # the daemon went away, or is out of descriptors
        self.drop()
        for _ in range(100):
            try:
                Store(self.connect()).open("dict", name, create="never", group=group).delete()
                return
            except Failed as error:
                if error.code == "unknown_object":  # it was never made, or is deleted, and the answer was lost
                    return
            except (OSError, EOFError):
                pass
            self.drop()
        self.journal.violation(f"{name} cannot be deleted")

    def break_frames(self):
        """What no client sends. The daemon closes the connection, or the death of this process does."""
        for _ in range(5):
            try:
                session = Session(PATH, greet=self.luck.random() < 0.7)
            except (OSError, EOFError):
                continue
            try:
                self.break_one(session)
            except (OSError, EOFError, Failed):
                pass
            session.close()

    def break_one(self, session):
        luck, raw = self.luck, session.socket
        variant = luck.randrange(9)
        good = encode("apply", head={"function": "mixed"}, body=b"7", encoding=JSON, count=1, request=1)
        if variant == 0:
            raw.sendall(luck.randbytes(luck.randrange(1, 5000)))
        elif variant == 1:
            raw.sendall(good[:luck.randrange(1, len(good))])  # the rest never comes
        elif variant == 2:
            raw.sendall(struct.pack("<IHBBQIIBB6x", 1 << 19, 0, 7, 0, 1, 0, 1, 2, 0) + b"x" * luck.randrange(1 << 18))
        elif variant == 3:
            raw.sendall(struct.pack("<IHBBQIIBB6x", 0xFFFFFFFF, 0, 7, 0, 1, 0, 1, 2, 0))
        elif variant == 4:  # descriptors that no frame asks for, with garbage and without
            with open("/dev/null", "rb") as null:
                fds = array.array("i", [null.fileno()] * luck.randrange(1, 20))
                raw.sendmsg([luck.choice([good, b"\xff" * 40, good[:7]])], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        elif variant == 5:  # a frame that asks for more descriptors than came
            with open("/dev/null", "rb") as null:
                raw.sendmsg([encode("pool_open", head={"runtime": "command"}, request=1, fds=3)],
                            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [null.fileno()]))])
        elif variant == 6:  # calls whose results nobody reads
            for number in range(1, 200):
                raw.sendall(encode("apply", head={"function": "echo"}, body=b"x" * 20000, encoding=BYTES, count=1, request=number))
        elif variant == 7:  # a job whose input never ends, and a body in an arena that is not there
            raw.sendall(encode("map", head={"function": "mixed"}, request=1) + encode(
                "apply", head={"function": "echo"}, body=struct.pack("<QQQ", 9, 64, 1000), flags=IN_ARENA, encoding=BYTES, count=1,
                request=2))
        else:  # an arena, a pool of its own and a lock, and then nothing more
            session.open_arena(1 << 20)
            session.ask("pool_open", {"runtime": "command", "workers": 1})
            Store(session).open("lock", f"chaos.broken.{self.journal.number}").op("acquire", Int(1), Int(0))
        if luck.random() < 0.5:
            raw.settimeout(0.2)
            try:
                while raw.recv(1 << 16):
                    pass
            except OSError:
                pass

    def crowd(self):
        """More connections than there may be, for a moment."""
        sessions = []
        try:
            for _ in range(100):
                connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                connection.settimeout(1)
                sessions.append(connection)
                connection.connect(PATH)
                connection.sendall(encode("hello", head={"version": 1, "client": "crowd"}))
        except OSError:
            pass
        time.sleep(0.3)
        for connection in sessions:
            connection.close()

    def hold(self):
        """Takes a lock and keeps it; for the test of the checker."""
        self.connect()
        lock = Store(self.session).open("lock", "chaos.leaked")
        lock.op("acquire", Int(1), Int(-1))
        self.journal.write(e="holding")
        time.sleep(600)


def main():
    path, number, seed, mode = sys.argv[1:]
    client = Client(Journal(path, int(number)), random.Random(int(seed)))
    getattr(client, mode)()


if __name__ == "__main__":
    main()
