"""Locks and their kin in shared memory, without names and without the daemon.

Unlike multiprocessing's they survive their users: a lock whose owner was killed goes to the next who asks, with a RuntimeWarning;
an event, a condition or a semaphore does not count on those who waited and were killed; a barrier breaks. Where the package runs
without its extension they are multiprocessing's own."""

from __future__ import annotations

import mmap
import multiprocessing.synchronize
import os
import struct
import threading
import time
from multiprocessing import context, reduction
from multiprocessing.synchronize import SemLock
from typing import Any, Callable

try:
    from . import _native  # type: ignore[attr-defined]
except ImportError:
    _native = None  # type: ignore[assignment]

__all__ = ["Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "RLock", "SemLock", "Semaphore"]

_MEMORY_BYTES = 1 << 16
_PLACE_BYTES = 64
#: How often somebody who waits at a barrier looks whether the others still live, in seconds.
_LOOK_SECONDS = 0.1


class Memory:
    """Shared bytes, which go with the last process that has them. Places in them are handed out once and never again: another
    process may still use what is forgotten here."""

    def __init__(self, fd: int | None = None, size: int = _MEMORY_BYTES) -> None:
        if fd is None:
            fd = os.memfd_create("taskpool-sync", os.MFD_CLOEXEC)
            os.truncate(fd, size)
        self.fd = fd
        self.map = mmap.mmap(fd, size)
        self.size = size
        self._used = 0

    def __del__(self) -> None:
        os.close(self.fd)

    def take(self, size: int) -> int | None:
        offset = self._used
        if offset + size > self.size:
            return None
        self._used += size
        return offset

    def __reduce__(self) -> Any:
        return _open_memory, (reduction.DupFd(self.fd), self.size)


def _open_memory(passed: Any, size: int) -> Memory:
    return Memory(passed.detach(), size)


_current: Memory | None = None
_lock = threading.Lock()


def _forget_after_fork() -> None:
    global _current, _lock
    _current, _lock = None, threading.Lock()  # the parent goes on handing out places of its memory


os.register_at_fork(after_in_child=_forget_after_fork)


def _take(size: int = _PLACE_BYTES) -> tuple[Memory, int]:
    """A new place of zeros."""
    global _current
    rounded = -(-size // _PLACE_BYTES) * _PLACE_BYTES
    with _lock:
        if rounded > _MEMORY_BYTES:
            return Memory(size=-(-rounded // mmap.PAGESIZE) * mmap.PAGESIZE), 0
        offset = None if _current is None else _current.take(rounded)
        if offset is None:
            _current = Memory()
            offset = _current.take(rounded)
        assert _current is not None and offset is not None
        return _current, offset


def _refuse_pickling(what: Any) -> None:
    context.assert_spawning(what)


if _native is not None:

    class _LockBase(_native.Lock):
        _recursive = False

        def __new__(cls, *, ctx: Any = None, _place: tuple[Memory, int] | None = None) -> Any:
            memory, offset = _place or _take()
            self = super().__new__(cls, memory.map, offset, cls._recursive)
            self._place = (memory, offset)
            return self

        def __init__(self, *, ctx: Any = None, _place: Any = None) -> None:
            pass

        def __reduce__(self) -> Any:
            _refuse_pickling(self)
            return _rebuild, (type(self), *self._place)

        @property
        def _semlock(self) -> Any:
            return self

        def _get_value(self) -> int:
            return 0 if self._owner() else 1

        def _is_zero(self) -> bool:
            return bool(self._owner())

        def __repr__(self) -> str:
            owner = self._owner()
            return f"<{type(self).__name__}(owner={owner or None})>"

    class Lock(_LockBase):
        """A non-recursive lock; any process or thread may release it."""

    class RLock(_LockBase):
        """A recursive lock; its owner, a thread of one process, has to release it."""

        _recursive = True

        def __repr__(self) -> str:
            return f"<RLock({self._owner() or None}, {self._depth() + 1 if self._owner() else 0})>"

    class Semaphore(_native.Semaphore):
        """A semaphore."""

        def __new__(cls, value: int = 1, *, ctx: Any = None, _place: tuple[Memory, int] | None = None) -> Any:
            memory, offset = _place or _take()
            self = super().__new__(cls, memory.map, offset)
            self._place = (memory, offset)
            return self

        def __init__(self, value: int = 1, *, ctx: Any = None, _place: Any = None) -> None:
            if value < 0:
                raise OSError(22, "Invalid argument")
            if _place is None:
                self._initialize(value, self._most(value))

        @staticmethod
        def _most(value: int) -> int:
            return 0

        def __enter__(self) -> bool:
            return bool(self.acquire())

        def __exit__(self, *_: object) -> None:
            self.release()

        def __reduce__(self) -> Any:
            _refuse_pickling(self)
            return _rebuild, (type(self), *self._place)

        @property
        def _semlock(self) -> Any:
            return self

        def _get_value(self) -> int:
            return int(self.get_value())

        def _is_zero(self) -> bool:
            return self.get_value() == 0

        def __repr__(self) -> str:
            return f"<{type(self).__name__}(value={self.get_value()})>"

    class BoundedSemaphore(Semaphore):
        """A semaphore whose value never rises above its first."""

        @staticmethod
        def _most(value: int) -> int:
            return value

    class _Signal(_native.Signal):
        """Counts how often something happened; others wait for the next time."""

        def __new__(cls, place: tuple[Memory, int] | None = None) -> Any:
            memory, offset = place or _take()
            self = super().__new__(cls, memory.map, offset)
            self._place = (memory, offset)
            return self

        def __init__(self, place: Any = None) -> None:
            pass

        def advance(self, waiters: int = 0x7FFFFFFF) -> None:
            while not self.raise_from(self.count(), waiters):
                pass

        def __reduce__(self) -> Any:
            return _Signal, (self._place,)

    def _rebuild(kind: Any, memory: Memory, offset: int) -> Any:
        return kind(_place=(memory, offset))

    class Condition:
        """A condition variable."""

        def __init__(self, lock: Any = None, *, ctx: Any = None) -> None:
            self._lock = lock or RLock()
            self._signal = _Signal()
            self._bind()

        def _bind(self) -> None:
            self.acquire = self._lock.acquire
            self.release = self._lock.release

        def __getstate__(self) -> Any:
            _refuse_pickling(self)
            return self._lock, self._signal

        def __setstate__(self, state: Any) -> None:
            self._lock, self._signal = state
            self._bind()

        def __enter__(self) -> Any:
            return self._lock.__enter__()

        def __exit__(self, *arguments: object) -> Any:
            return self._lock.__exit__(*arguments)

        def __repr__(self) -> str:
            return f"<Condition({self._lock})>"

        def wait(self, timeout: float | None = None) -> bool:
            """Releases the lock, waits to be notified, and takes the lock again. False after `timeout` seconds."""
            assert self._lock._is_mine(), "must acquire() condition before using wait()"
            again = self._lock._depth() if self._lock._recursive else 0
            seen = self._signal.count()
            for _ in range(again + 1):
                self._lock.release()
            try:
                return bool(self._signal.wait(seen, timeout))
            finally:
                for _ in range(again + 1):
                    self._lock.acquire()

        def notify(self, n: int = 1) -> None:
            """Wakes at least `n` of those who wait, if there are so many."""
            assert self._lock._is_mine(), "lock is not owned"
            self._signal.advance(n)

        def notify_all(self) -> None:
            assert self._lock._is_mine(), "lock is not owned"
            self._signal.advance()

        def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
            """Waits until the predicate is true, or for `timeout` seconds; returns what it last said."""
            end = None if timeout is None else time.monotonic() + timeout
            result = predicate()
            while not result:
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    break
                self.wait(left)
                result = predicate()
            return result

    class Event:
        """A flag that processes wait for."""

        def __init__(self, *, ctx: Any = None) -> None:
            self._signal = _Signal()  # odd: the flag is set

        def __getstate__(self) -> Any:
            _refuse_pickling(self)
            return (self._signal,)

        def __setstate__(self, state: Any) -> None:
            (self._signal,) = state

        def is_set(self) -> bool:
            return bool(self._signal.count() & 1)

        def set(self) -> None:
            while not (seen := self._signal.count()) & 1:
                self._signal.raise_from(seen)

        def clear(self) -> None:
            while (seen := self._signal.count()) & 1:
                self._signal.raise_from(seen)

        def wait(self, timeout: float | None = None) -> bool:
            """Waits until the flag is set, be it for a moment; False after `timeout` seconds."""
            seen = self._signal.count()
            if seen & 1:
                return True
            return bool(self._signal.wait(seen, timeout)) or self.is_set()  # what is counted first after `clear` is a `set`

        def __repr__(self) -> str:
            return f"<{type(self).__qualname__} at {id(self):#x} {'set' if self.is_set() else 'unset'}>"

    class Barrier:
        """A barrier for a fixed number of parties. Breaks when one of them dies while it waits."""

        _STATE = struct.Struct("<III")  # how many wait, whether it is broken, a bit for each of the last rounds: let through or not

        def __init__(self, parties: int, action: Callable[[], Any] | None = None, timeout: float | None = None, *,
                     ctx: Any = None) -> None:
            if parties < 1:
                raise ValueError("parties must be > 0")
            self._parties, self._action, self._timeout = parties, action, timeout
            self._lock = RLock()
            self._rounds = _Signal()
            self._place = _take(self._STATE.size + 4 * parties)
            self._write(0, 0, 0)

        def __getstate__(self) -> Any:
            _refuse_pickling(self)
            return self._parties, self._action, self._timeout, self._lock, self._rounds, self._place

        def __setstate__(self, state: Any) -> None:
            self._parties, self._action, self._timeout, self._lock, self._rounds, self._place = state

        def _read(self) -> tuple[int, int, int]:
            memory, offset = self._place
            return self._STATE.unpack_from(memory.map, offset)  # type: ignore[return-value]

        def _write(self, waiting: int, broken: int, rounds: int) -> None:
            memory, offset = self._place
            self._STATE.pack_into(memory.map, offset, waiting, broken, rounds)

        def _slot(self, index: int) -> int:
            return self._place[1] + self._STATE.size + 4 * index

        def wait(self, timeout: float | None = None) -> int:
            """Waits for the others; returns this one's place, 0 to parties - 1. Raises threading.BrokenBarrierError."""
            end = None
            if (limit := self._timeout if timeout is None else timeout) is not None:
                end = time.monotonic() + limit
            with self._lock:
                waiting, broken, rounds = self._read()
                if broken:
                    raise threading.BrokenBarrierError
                this_round = self._rounds.count()
                struct.pack_into("<I", self._place[0].map, self._slot(waiting), os.getpid())
                if waiting + 1 == self._parties:
                    self._let_through()
                    return waiting
                self._write(waiting + 1, 0, rounds)
            try:
                self._await(this_round, end)
            except BaseException:
                self._break(this_round)
                raise
            return waiting

        def _break(self, this_round: int) -> None:
            with self._lock:
                if self._rounds.count() == this_round:  # else it was reset or broken meanwhile, and that stands
                    self.abort()

        def _end_round(self, broken: int, passed: int) -> None:
            _, _, rounds = self._read()
            self._write(0, broken, (rounds << 1 | passed) & 0xFFFFFFFF)
            self._rounds.advance()

        def _was_let_through(self, round_: int) -> bool:
            with self._lock:
                ago = min((self._rounds.count() - round_ - 1) & 0xFFFFFFFF, 31)
                return bool(self._read()[2] >> ago & 1)

        def _let_through(self) -> None:
            try:
                if self._action is not None:
                    self._action()
            except BaseException:
                self.abort()
                raise
            self._end_round(0, 1)

        def _await(self, this_round: int, end: float | None) -> None:
            while True:
                left = _LOOK_SECONDS if end is None else min(_LOOK_SECONDS, max(0.0, end - time.monotonic()))
                if self._rounds.wait(this_round, left):
                    if self._was_let_through(this_round):
                        return
                    raise threading.BrokenBarrierError
                if end is not None and time.monotonic() >= end:
                    raise threading.BrokenBarrierError
                self._look_for_the_dead()

        def _look_for_the_dead(self) -> None:
            with self._lock:
                for index in range(self._read()[0]):
                    (pid,) = struct.unpack_from("<I", self._place[0].map, self._slot(index))
                    if not _native.is_alive(pid):
                        raise threading.BrokenBarrierError

        def reset(self) -> None:
            """Empties the barrier; who waits gets BrokenBarrierError."""
            with self._lock:
                waiting, _, rounds = self._read()
                if waiting:
                    self._end_round(0, 0)
                else:
                    self._write(0, 0, rounds)

        def abort(self) -> None:
            """Breaks the barrier until it is reset."""
            with self._lock:
                self._end_round(1, 0)

        @property
        def parties(self) -> int:
            return self._parties

        @property
        def n_waiting(self) -> int:
            return self._read()[0]

        @property
        def broken(self) -> bool:
            return bool(self._read()[1])

        def __repr__(self) -> str:
            return f"<Barrier at {id(self):#x}: waiters={self.n_waiting}/{self.parties}{', broken' if self.broken else ''}>"

else:
    Barrier = multiprocessing.synchronize.Barrier  # type: ignore[assignment, misc]
    BoundedSemaphore = multiprocessing.synchronize.BoundedSemaphore  # type: ignore[assignment, misc]
    Condition = multiprocessing.synchronize.Condition  # type: ignore[assignment, misc]
    Event = multiprocessing.synchronize.Event  # type: ignore[assignment, misc]
    Lock = multiprocessing.synchronize.Lock  # type: ignore[assignment, misc]
    RLock = multiprocessing.synchronize.RLock  # type: ignore[assignment, misc]
    Semaphore = multiprocessing.synchronize.Semaphore  # type: ignore[assignment, misc]
