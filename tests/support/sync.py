"""Waiting and holding in the shared store, as tests use it: sessions of their own, and processes that can be killed."""

import os
import select
import signal
import time

from store import Int, Object, Store
from wire import DEADLINE, Failed

FOR_EVER, TRY = -1, 0


class Party:
    """One session and what it has open. Lives until it is closed, or its process ends."""

    kept = []

    def __init__(self, daemon, **hello):
        Party.kept.append(self)
        self.session = daemon.session(**hello)
        self.store = Store(self.session)

    def open(self, kind, name="", **options):
        return Primitive.of(self.store.open(kind, name, **options))

    def close(self):
        if self in Party.kept:
            Party.kept.remove(self)
            self.session.close()


class Primitive(Object):
    """An opened object whose operations wait. begin() is of Object: it returns a request, for end()."""

    @staticmethod
    def of(opened):
        opened.__class__ = Primitive
        return opened

    def acquire(self, thread=1, timeout=FOR_EVER):
        """True if the last holder died with it."""
        return bool(self.op("acquire", Int(thread), Int(timeout)))

    def begin_acquire(self, thread=1, timeout=FOR_EVER):
        return self.begin("acquire", Int(thread), Int(timeout))

    def release(self, thread=1, units=1):
        self.op("release", Int(thread), Int(units))

    def is_free(self):
        """Whether somebody could take it now, and how many wait."""
        return tuple(self.op("sync_state"))

    def waiters(self):
        return self.is_free()[1]

    def wait(self, thread=1, timeout=FOR_EVER):
        return self.op("condition_wait", Int(thread), Int(timeout))

    def begin_wait(self, thread=1, timeout=FOR_EVER):
        return self.begin("condition_wait", Int(thread), Int(timeout))

    def notify(self, count=1, thread=1):
        return self.op("condition_notify", Int(thread), Int(count))

    def put(self, value, timeout=FOR_EVER):
        self.op("queue_put", value, Int(timeout))

    def get_item(self, timeout=FOR_EVER):
        return self.op("queue_get", Int(timeout))

    def has_ended(self, request, within=0.0):
        """Whether the answer to a request has come; it stays for end()."""
        session = self.store.session
        end = time.monotonic() + within
        while True:
            if any(frame.request == request for frame in session.frames):
                return True
            left = max(0.0, end - time.monotonic())
            if not session.buffer and not select.select([session.socket], [], [], left)[0]:
                return False
            frame = session.next_frame()
            assert frame is not None, "the daemon closed the connection"
            session.frames.append(frame)


class Child:
    """A process that does some work and then waits to be killed. `work` may return text, which report() gives."""

    def __init__(self, work):
        reading, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                os.close(reading)
                said = work()
                os.write(writing, (said or "ok").encode() + b"\n")
                while True:
                    signal.pause()
            except Failed as failed:
                os.write(writing, f"failed: {failed}\n".encode())
            finally:
                os._exit(status)
        os.close(writing)
        self.reading = reading
        self.alive = True

    def report(self):
        said = b""
        end = time.monotonic() + DEADLINE
        while not said.endswith(b"\n"):
            assert select.select([self.reading], [], [], max(0, end - time.monotonic()))[0], "the child says nothing"
            more = os.read(self.reading, 4096)
            assert more, "the child died"
            said += more
        return said.decode().strip()

    def kill(self, signo=signal.SIGKILL):
        if self.alive:
            os.kill(self.pid, signo)
            os.waitpid(self.pid, 0)
            os.close(self.reading)
            self.alive = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()


def lock_rows(session, **options):
    """Rows of `locks` by the name of the object."""
    return {row["name"] or row["object"]: row for row in session.ask("locks", options)["locks"]}
