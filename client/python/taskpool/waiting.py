"""Proxies of shared objects that processes wait for: locks, semaphores, events, conditions and barriers.

What a process holds, its end releases."""

from __future__ import annotations

import threading
import time
import warnings
from typing import Any, Callable

from . import store
from .errors import DaemonError
from .proxies import StoreProxy, milliseconds


#: How many acquisitions of one lock are remembered: the depth of an rlock.
_MOST_HELD = 64
_thread = threading.get_native_id  # who, in this process, holds what


class AcquirerProxy(StoreProxy):
    """A shared lock or semaphore. What a process holds, its end releases; the next owner of a lock is warned then."""

    #: Whether what one acquired is one's own to release.
    _is_lock = False

    def _adopt(self, opened: store.Opened) -> store.Opened:
        self.__dict__["_held"] = []  # (object, thread) of each acquire() that was not released
        return super()._adopt(opened)

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        wait = 0 if not blocking else milliseconds(None if timeout is None or timeout < 0 else timeout)
        try:
            died = self._do(store.ACQUIRE, "ii", _thread(), wait)
        except DaemonError as error:
            if error.code != "timed_out":
                raise
            return False
        if self._is_lock:
            held = self.__dict__["_held"]
            held.append((self._opened, _thread()))
            del held[:-_MOST_HELD]  # others may release it, too
        if died and died[0]:
            _warn_of_death(self)
        return True

    def release(self, n: int = 1) -> None:
        if self._is_lock and n == 1 and self._release_held():
            return
        try:
            if n == 1:
                self._do(store.RELEASE, "i", _thread())
            else:
                self._do(store.RELEASE, "ii", _thread(), n)
        except DaemonError as error:
            if error.code == "out_of_range":
                raise ValueError("Semaphore released too many times") from None
            if error.code == "not_owner":
                raise RuntimeError("cannot release un-acquired lock") from None
            raise

    def _release_held(self) -> bool:
        """Gives back what this thread got by this proxy: that cannot fail, unless somebody else did it, so nobody waits for it."""
        opened, held = self._opened, self.__dict__["_held"]
        try:
            held.remove((opened, _thread()))
        except ValueError:
            return False
        opened.do_quietly(store.RELEASE, _thread())
        return True

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def __str__(self) -> str:
        free, waiting = self._one(store.SYNC_STATE)
        return f"<{self._typeid} free={free} waiting={waiting}>"


def _warn_of_death(what: Any) -> None:
    warnings.warn(f"the last owner of {what!r} died with it: what it protects may be half done", RuntimeWarning, stacklevel=3)


class LockProxy(AcquirerProxy):
    _type, _typeid = "lock", "Lock"
    _is_lock = True


class RLockProxy(AcquirerProxy):
    _type, _typeid = "rlock", "RLock"
    _is_lock = True


class SemaphoreProxy(AcquirerProxy):
    _type, _typeid = "semaphore", "Semaphore"


class BoundedSemaphoreProxy(AcquirerProxy):
    _type, _typeid = "bounded_semaphore", "BoundedSemaphore"


class EventProxy(StoreProxy):
    """A shared flag that processes wait for."""

    _type, _typeid = "event", "Event"

    def is_set(self) -> bool:
        return bool(self._one(store.EVENT_IS_SET)[0])

    def set(self) -> None:
        self._one(store.EVENT_SET)

    def clear(self) -> None:
        self._one(store.EVENT_CLEAR)

    def wait(self, timeout: float | None = None) -> bool:
        try:
            self._do(store.EVENT_WAIT, "i", milliseconds(timeout))
        except DaemonError as error:
            if error.code != "timed_out":
                raise
            return False
        return True

    def __str__(self) -> str:
        return f"<Event at {id(self):#x} {'set' if self.is_set() else 'unset'}>"


class ConditionProxy(AcquirerProxy):
    """A shared condition, with its lock."""

    _type, _typeid = "condition", "Condition"
    _is_lock = True

    def wait(self, timeout: float | None = None) -> bool:
        try:
            notified, died = self._do(store.CONDITION_WAIT, "ii", _thread(), milliseconds(timeout))
        except DaemonError as error:
            if error.code == "not_owner":
                raise RuntimeError("cannot wait on un-acquired lock") from None
            raise
        if died:
            _warn_of_death(self)
        return bool(notified)

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        end = None if timeout is None else time.monotonic() + timeout
        result = predicate()
        while not result:
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                break
            self.wait(left)
            result = predicate()
        return result

    def notify(self, n: int = 1) -> None:
        self._notify(n)

    def notify_all(self) -> None:
        self._notify(-1)

    def _notify(self, count: int) -> None:
        try:
            self._do(store.CONDITION_NOTIFY, "ii", _thread(), count)
        except DaemonError as error:
            if error.code == "not_owner":
                raise RuntimeError("cannot notify on un-acquired lock") from None
            raise


class BarrierProxy(StoreProxy):
    """A shared barrier. A party that dies while it waits breaks it."""

    _type, _typeid = "barrier", "Barrier"

    def _state(self) -> Any:
        return self.__dict__["_action"], self.__dict__["_timeout"]

    def _set_state(self, state: Any) -> None:
        self.__dict__["_action"], self.__dict__["_timeout"] = state

    def wait(self, timeout: float | None = None) -> int:
        limit = self.__dict__["_timeout"] if timeout is None else timeout
        try:
            place, acts = self._do(store.BARRIER_WAIT, "i", milliseconds(limit))
            if acts:
                self._act()
        except DaemonError as error:
            if error.code in ("broken", "timed_out", "cancelled"):
                raise threading.BrokenBarrierError from None
            raise
        return int(place)

    def _act(self) -> None:
        done = 0
        try:
            self.__dict__["_action"]()
            done = 1
        finally:
            self._do(store.BARRIER_ACTED, "i", done)

    def reset(self) -> None:
        self._one(store.BARRIER_RESET)

    def abort(self) -> None:
        self._one(store.BARRIER_ABORT)

    @property
    def parties(self) -> int:
        return int(self._one(store.BARRIER_STATE)[0])

    @property
    def n_waiting(self) -> int:
        return int(self._one(store.BARRIER_STATE)[1])

    @property
    def broken(self) -> bool:
        return bool(self._one(store.BARRIER_STATE)[2])
