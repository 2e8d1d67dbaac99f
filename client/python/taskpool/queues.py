"""Queues between processes.

Items lie in a ring in shared memory, without names and without the daemon: a put and a get are a short lock and a copy. Unlike
multiprocessing's they survive their users: who is killed loses at most the item that he had in hand. Without the extension they are
multiprocessing's own."""

from __future__ import annotations

import collections
import os
import pickle
import threading
import traceback
import weakref
from multiprocessing import context, queues, util
from multiprocessing.queues import Empty, Full, SimpleQueue  # type: ignore[attr-defined]
from multiprocessing.reduction import ForkingPickler
from typing import Any

from . import synchronize

try:
    from ._native import Ring  # type: ignore[import-not-found]
except ImportError:
    Ring = None

__all__ = ["Empty", "Full", "JoinableQueue", "Queue", "SimpleQueue"]

_HEADER_BYTES = 4096
_LEAST_RING, _MOST_RING = 1 << 20, 1 << 26
#: What an item takes in the ring at least, if it lies behind it.
_RECORD_BYTES = 32


def _dumps(item: Any) -> bytes:
    try:
        return pickle.dumps(item, 5)
    except Exception:  # a socket, say: multiprocessing knows how to pass it on
        return bytes(ForkingPickler.dumps(item))


class _Overflow:
    """Items of this process for which the ring had no room yet, and the thread that puts them there."""

    def __init__(self, ring: Any) -> None:
        self.items: collections.deque[bytes] = collections.deque()
        self._ring = ring
        self._change = threading.Condition()
        self._is_closed = False
        self._is_join_cancelled = False
        self._thread: threading.Thread | None = None
        self._join: Any = None

    def put(self, data: bytes) -> None:
        with self._change:
            if not self.items and self._ring.put(data):
                return
            self.items.append(data)
            if self._thread is None:
                self._start()
            self._change.notify()

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._feed, name="QueueFeederThread", daemon=True)
        self._thread.start()
        if not self._is_join_cancelled:
            self._join = util.Finalize(self._thread, _join, [weakref.ref(self._thread)], exitpriority=-5)

    def _feed(self) -> None:
        while True:
            with self._change:
                while not self.items and not self._is_closed:
                    self._change.wait()
                if not self.items:
                    return
            try:
                self._ring.put(self.items[0], None)
            except OSError:  # no memory for it
                traceback.print_exc()
            self.items.popleft()  # not before: those that come meanwhile stay behind it

    def close(self) -> None:
        with self._change:
            self._is_closed = True
            self._change.notify()

    def join(self) -> None:
        if self._join:
            self._join()

    def cancel_join(self) -> None:
        self._is_join_cancelled = True
        if self._join:
            self._join.cancel()


def _join(reference: Any) -> None:
    thread = reference()
    if thread is not None:
        thread.join()


class Queue:
    """A queue of a bounded (`maxsize` items) or any size. Any process may put and get. Items are pickled by who puts them; one
    that cannot be is reported as multiprocessing does, and left out."""

    def __init__(self, maxsize: int = 0, *, ctx: Any = None) -> None:
        self._maxsize = max(0, maxsize)
        size = _LEAST_RING
        while size < min(_MOST_RING, self._maxsize * _RECORD_BYTES):
            size *= 2
        self._memory = synchronize.Memory(size=_HEADER_BYTES + size)
        self._opid = os.getpid()
        self._attach()
        self._ring.initialize(self._maxsize)

    def _attach(self) -> None:
        self._ring: Any = Ring(self._memory.map, self._memory.fd)
        self._get, self._put = self._ring.get, self._ring.put
        self._begin()
        util.register_after_fork(self, Queue._begin)

    def _begin(self) -> None:
        self._closed = False
        self._overflow = _Overflow(self._ring)
        self._waiting = self._overflow.items
        self._close = util.Finalize(self, self._overflow.close, exitpriority=10)

    def __getstate__(self) -> Any:
        context.assert_spawning(self)
        return self._memory, self._maxsize, self._opid

    def __setstate__(self, state: Any) -> None:
        self._memory, self._maxsize, self._opid = state
        self._attach()

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError(f"Queue {self!r} is closed")

    def put(self, obj: Any, block: bool = True, timeout: float | None = None) -> None:
        if self._closed:
            self._check_open()
        try:
            data = _dumps(obj)
        except Exception as error:
            self._on_queue_feeder_error(error, obj)
            return
        if not self._waiting and self._put(data):
            return
        if not self._maxsize:
            self._overflow.put(data)
        elif not self._put(data, timeout if block else 0):
            raise Full

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        if self._closed:
            self._check_open()
        data = self._get(timeout if block else 0)
        if data is None:
            raise Empty
        return pickle.loads(data)

    def qsize(self) -> int:
        return int(self._ring.items()) + len(self._waiting)

    def empty(self) -> bool:
        return self._ring.items() == 0

    def full(self) -> bool:
        return 0 < self._maxsize <= self._ring.items()

    def get_nowait(self) -> Any:
        return self.get(False)

    def put_nowait(self, obj: Any) -> None:
        self.put(obj, False)

    def close(self) -> None:
        """No more will be put or got by this process."""
        self._closed = True
        self._close()

    def join_thread(self) -> None:
        """Waits until what this process has put is where others can get it; after close()."""
        assert self._closed, f"Queue {self!r} not closed"
        self._overflow.join()

    def cancel_join_thread(self) -> None:
        """This process ends without waiting for what is not in the ring yet, which is lost then."""
        self._overflow.cancel_join()

    @staticmethod
    def _on_queue_feeder_error(e: BaseException, obj: Any) -> None:
        traceback.print_exc()


class JoinableQueue(Queue):
    """A queue whose items are said to be done, for which others wait."""

    def __init__(self, maxsize: int = 0, *, ctx: Any = None) -> None:
        super().__init__(maxsize, ctx=ctx)
        self._unfinished_tasks = synchronize.Semaphore(0)
        self._cond = synchronize.Condition()

    def __getstate__(self) -> Any:
        return super().__getstate__(), self._cond, self._unfinished_tasks

    def __setstate__(self, state: Any) -> None:
        inner, self._cond, self._unfinished_tasks = state
        super().__setstate__(inner)

    def put(self, obj: Any, block: bool = True, timeout: float | None = None) -> None:
        self._check_open()
        self._unfinished_tasks.release()  # before somebody can say that it is done
        try:
            super().put(obj, block, timeout)
        except BaseException:
            self.task_done()
            raise

    def _on_queue_feeder_error(self, e: BaseException, obj: Any) -> None:  # type: ignore[override]
        self.task_done()
        super()._on_queue_feeder_error(e, obj)

    def task_done(self) -> None:
        with self._cond:
            if not self._unfinished_tasks.acquire(False):
                raise ValueError("task_done() called too many times")
            if self._unfinished_tasks._semlock._is_zero():
                self._cond.notify_all()

    def join(self) -> None:
        with self._cond:
            if not self._unfinished_tasks._semlock._is_zero():
                self._cond.wait()


if Ring is None:
    Queue, JoinableQueue = queues.Queue, queues.JoinableQueue  # type: ignore[attr-defined, misc, assignment]
