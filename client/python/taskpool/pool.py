"""Pool: multiprocessing.pool.Pool's interface, on workers of the daemon."""

from __future__ import annotations

import itertools
import math
import os
import threading
import warnings
import weakref
from multiprocessing.pool import MaybeEncodingError, RemoteTraceback, ThreadPool  # type: ignore[attr-defined]
from typing import Any, Callable, Iterable, Iterator, Mapping

from . import client, wire, workers
from .calls import ApplyResult, AsyncResult, Callback, Caller
from .client import Session
from .errors import Cancelled, DaemonError
from .imaps import IMapIterator, IMapUnorderedIterator
from .maps import Job, MapResult
from .progress import Progress
from .runtime import setup

__all__ = ["ApplyResult", "AsyncResult", "IMapIterator", "IMapUnorderedIterator", "MapResult", "MaybeEncodingError", "Pool", "current_pool",
           "RemoteTraceback", "ThreadPool"]

RUN, CLOSE, TERMINATE = "RUN", "CLOSE", "TERMINATE"
_numbers = itertools.count(1)
#: What `limits` may hold, and the factor to the unit of `pool_open`.
_LIMITS = {"max_task_memory": 1, "max_task_processes": 1, "max_task_files": 1, "cpu_timeout": 1000, "nice": 1,
           "max_worker_memory": 1}


def _limit_fields(limits: Mapping[str, float]) -> dict[str, int]:
    """`limits` as `pool_open` has them. Raises ValueError."""
    fields = {}
    for key, limit in limits.items():
        if key not in _LIMITS:
            raise ValueError(f"limits: there is no {key!r}, but {', '.join(_LIMITS)}")
        if limit < 0:
            raise ValueError(f"limits: {key} must not be negative")
        fields["cpu_timeout_ms" if key == "cpu_timeout" else key] = math.ceil(limit * _LIMITS[key])
    return fields


class _Opening:
    """Hears how the opening of a pool went."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self.done = False

    def is_done(self) -> bool:
        return self.done

    def on_frame(self, frame: wire.Frame) -> bool:
        if frame.op == wire.ERROR:
            self._caller.start_error = self._caller.error_of(frame.fields())
        self.done = True
        return True

    def on_lost(self, error: DaemonError) -> None:
        self._caller.start_error = error
        self.done = True


class _Jobs:
    """The maps of a pool, as long as somebody has them. No WeakSet: that runs code when one of them goes, and a KeyboardInterrupt
    that comes just then is lost."""

    def __init__(self) -> None:
        self._references: list[weakref.ref[Job]] = []
        self._most = 64
        self._lock = threading.Lock()

    def add(self, job: Job) -> None:
        with self._lock:
            self._references.append(weakref.ref(job))
            if len(self._references) > self._most:
                self._references = [reference for reference in self._references if reference() is not None]
                self._most = max(64, 2 * len(self._references))

    def living(self) -> list[Job]:
        with self._lock:
            return [job for reference in self._references if (job := reference()) is not None]


class Pool:
    """A process pool object which controls a pool of worker processes to which jobs can be submitted.

    The workers are the daemon's: forked from a warm interpreter, with this program's main module imported as the spawn start
    method does. What multiprocessing does not have is named after its arguments: `timeout` and `soft_timeout` (seconds, of
    each task), `retries`, `lost_retries` and `oom_retries` (how often a task is run again that raised, whose worker died, or
    that ran out of memory), `priority` (-100 to 100), `stdout` and `stderr` (a file or descriptor for what tasks print), `name`
    (shown by `taskpool pools`). `limits` is a dict of `max_task_memory` (bytes), `max_task_processes`, `max_task_files`,
    `cpu_timeout` (seconds), `nice`, `max_worker_memory` (bytes, above which a worker is replaced).
    """

    def __init__(self, processes: int | None = None, initializer: Callable[..., Any] | None = None,
                 initargs: Iterable[Any] = (), maxtasksperchild: int | None = None, context: Any = None, *,
                 timeout: float | None = None, soft_timeout: float | None = None, retries: int = 0, lost_retries: int = 0,
                 priority: int = 0, stdout: Any = None, stderr: Any = None, name: str | None = None, oom_retries: int = 0,
                 limits: Mapping[str, float] = {}) -> None:
        self._state = RUN
        if processes is None:
            processes = os.cpu_count() or 1
        if processes < 1:
            raise ValueError("Number of processes must be at least 1")
        if maxtasksperchild is not None and (not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0):
            raise ValueError("maxtasksperchild must be a positive int or None")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        bounds = _limit_fields(limits)
        self._processes = processes
        self._name = name or f"Pool-{next(_numbers)}"
        options: dict[str, Any] = {}
        for key, seconds in (("timeout_ms", timeout), ("soft_timeout_ms", soft_timeout)):
            if seconds is not None:
                options[key] = max(1, int(seconds * 1000))
        for key, number in (("retries", retries), ("lost_retries", lost_retries), ("oom_retries", oom_retries),
                            ("priority", priority)):
            if number:
                options[key] = number
        content = {"initializer": initializer, "initializer_arguments": tuple(initargs)}
        setup_fd = setup.write(setup.preparation_data("PoolWorker"), content)
        self._session: Session = client.default()
        self._caller = Caller(self._session, self._name, options)
        self._native = Caller(self._session, "", options)
        self._opening = _Opening(self._caller)
        head: dict[str, Any] = {"name": self._name, "workers": processes, **bounds}
        if maxtasksperchild is not None:
            head["max_tasks_per_worker"] = maxtasksperchild
        self._jobs = _Jobs()
        self._closed = False
        self._closing = _Closing()
        workers.open_pool(self._session, self._opening, head, setup_fd, workers.standard_streams(stdout, stderr))

    # One call

    def apply(self, func: Any, args: Any = (), kwds: Mapping[str, Any] = {}) -> Any:
        """Equivalent of `func(*args, **kwds)`. A function given as text is a native one: `pool.apply("square", 7)`."""
        self._check_running()
        result = (self._native if isinstance(func, str) else self._caller).submit(func, args, kwds)
        try:
            return result.get()
        except BaseException:
            if not result._done:
                result.sent()
            raise

    def apply_async(self, func: Any, args: Any = (), kwds: Mapping[str, Any] = {}, callback: Callback | None = None,
                    error_callback: Callback | None = None) -> AsyncResult:
        """Asynchronous version of `apply()` method."""
        self._check_running()
        caller = self._native if isinstance(func, str) else self._caller
        if callback is None and error_callback is None:
            return caller.submit(func, args, kwds).sent()
        return caller.submit_told(func, args, kwds, callback, error_callback)

    # Maps

    def map(self, func: Any, iterable: Iterable[Any], chunksize: int | None = None, *, progress: Any = False) -> list[Any]:
        """Apply `func` to each element in `iterable`, collecting the results in a list that is returned."""
        return self._map(func, iterable, chunksize, False, progress=progress).get()

    def starmap(self, func: Any, iterable: Iterable[Any], chunksize: int | None = None, *,
                progress: Any = False) -> list[Any]:
        """Like `map()` method but the elements of the `iterable` are expected to be iterables as well and will be unpacked
        as arguments. Hence `func` and (a, b) becomes func(a, b)."""
        return self._map(func, iterable, chunksize, True, progress=progress).get()

    def map_async(self, func: Any, iterable: Iterable[Any], chunksize: int | None = None, callback: Callback | None = None,
                  error_callback: Callback | None = None) -> MapResult:
        """Asynchronous version of `map()` method."""
        return self._map(func, iterable, chunksize, False, callback, error_callback, background=True)

    def starmap_async(self, func: Any, iterable: Iterable[Any], chunksize: int | None = None,
                      callback: Callback | None = None, error_callback: Callback | None = None) -> MapResult:
        """Asynchronous version of `starmap()` method."""
        return self._map(func, iterable, chunksize, True, callback, error_callback, background=True)

    def imap(self, func: Any, iterable: Iterable[Any], chunksize: int = 1) -> Iterator[Any]:
        """Equivalent of `map()` -- can be MUCH slower than `Pool.map()`."""
        return self._imap(IMapIterator, func, iterable, chunksize)

    def imap_unordered(self, func: Any, iterable: Iterable[Any], chunksize: int = 1) -> Iterator[Any]:
        """Like `imap()` method but ordering of results is arbitrary."""
        return self._imap(IMapUnorderedIterator, func, iterable, chunksize)

    def _map(self, func: Any, iterable: Iterable[Any], chunksize: int | None, star: bool, callback: Callback | None = None,
             error_callback: Callback | None = None, background: bool = False, progress: Any = False) -> MapResult:
        self._check_running()
        elements = list(iterable)
        if chunksize is not None and chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize:n}")
        bar = None
        if progress:
            bar = Progress(len(elements)) if progress is True else progress
        caller = self._native if isinstance(func, str) else self._caller
        result = MapResult(caller, func, elements, star, self._processes, chunksize, callback, error_callback, bar)
        self._jobs.add(result)
        result.start(background)
        return result

    def _imap(self, kind: type[IMapIterator], func: Any, iterable: Iterable[Any], chunksize: int) -> Iterator[Any]:
        self._check_running()
        if chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize:n}")
        caller = self._native if isinstance(func, str) else self._caller
        iterator = kind(caller, func, iterable, self._processes, chunksize)
        self._jobs.add(iterator)
        iterator.feed()
        return iterator

    # The end

    def close(self) -> None:
        """Prevents any more tasks from being submitted to the pool. Once all the tasks have been completed the worker
        processes will exit."""
        if self._state == RUN:
            self._state = CLOSE
            self._caller.when_idle(self._on_idle)

    def terminate(self) -> None:
        """Stops the worker processes immediately without completing outstanding work, whose results raise Cancelled."""
        if self._state == TERMINATE:
            return
        self._state = TERMINATE
        error = self._caller.start_error or Cancelled("the pool was terminated")
        for job in self._jobs.living():
            job.abort(error)
        self._close(True)

    def join(self) -> None:
        """Wait for the worker processes to exit. One must call `close()` or `terminate()` before using `join()`."""
        if self._state == RUN:
            raise ValueError("Pool is still running")
        if self._state not in (CLOSE, TERMINATE):
            raise ValueError("In unknown state")
        self._session.wait(lambda: self._caller.outstanding == 0 and self._native.outstanding == 0)
        self._close(False)
        self._session.wait(self._closing.is_done)

    def _on_idle(self) -> None:
        if self._state == CLOSE:
            self._close(False)

    def _close(self, terminate: bool) -> None:
        if self._closed and not terminate:
            return
        self._closed = True
        self._caller.forget_all()
        self._native.forget_all()
        request = self._session.new_request()
        self._session.expect(request, self._closing)
        head = {"pool": self._name, "terminate": terminate}
        self._session.send(wire.encode(wire.POOL_CLOSE, head=head, request=request))

    def _check_running(self) -> None:
        if self._state != RUN:
            raise ValueError("Pool not running")
        if self._caller.start_error is not None:
            raise self._caller.start_error
        self._session._check_process()

    def __enter__(self) -> Pool:
        self._check_running()
        return self

    def __exit__(self, *_: object) -> None:
        self.terminate()

    def __del__(self) -> None:
        if getattr(self, "_closed", True) or self._session.is_broken or self._session.pid != os.getpid():
            return
        if self._state == RUN:
            warnings.warn(f"unclosed running multiprocessing pool {self!r}", ResourceWarning, source=self)
        self._closed = True
        workers.close_pool(self._session, self._name, True)

    def __repr__(self) -> str:
        kind = type(self)
        return f"<{kind.__module__}.{kind.__qualname__} state={self._state} pool_size={self._processes}>"

    def __reduce__(self) -> Any:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")


class _Closing:
    """Hears that a pool has ended."""

    def __init__(self) -> None:
        self.done = False

    def is_done(self) -> bool:
        return self.done

    def on_frame(self, _: wire.Frame) -> bool:
        self.done = True
        return True

    def on_lost(self, _: DaemonError) -> None:
        self.done = True




class OwnPool(Pool):
    """The pool that runs this task, for tasks of its own: whoever opened it ends it."""

    def __init__(self) -> None:
        self._closed = True  # by others, as far as this process is concerned
        self._session = client.default()
        if not self._session.is_in_task:
            raise RuntimeError("this process runs no task of a pool")
        if "own_pool" not in self._session.welcome.get("capabilities", ()):
            raise RuntimeError("this daemon is too old for tasks that call their own pool")
        self._state = RUN
        self._name = "."
        self._processes = os.cpu_count() or 1
        self._caller = Caller(self._session, self._name, {})
        self._native = Caller(self._session, "", {})
        self._jobs = _Jobs()

    def close(self) -> None:
        """Raises ValueError: it is not this task's to close."""
        raise ValueError("a task cannot close the pool that runs it")

    def terminate(self) -> None:
        """Raises ValueError: it is not this task's to terminate."""
        raise ValueError("a task cannot terminate the pool that runs it")

    def __exit__(self, *_: object) -> None:
        pass


def current_pool() -> Pool:
    """The pool that runs the task which calls this: a task may submit to it, and wait, since its worker's place is lent meanwhile.
    Raises RuntimeError outside a task."""
    return OwnPool()
