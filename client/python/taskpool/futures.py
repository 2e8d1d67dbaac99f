"""concurrent.futures on the daemon's workers: `from taskpool.futures import Executor`."""

from __future__ import annotations

import atexit
import concurrent.futures
import os
import threading
import time
import weakref
from typing import Any, Callable, Iterable, Iterator

from .calls import AsyncResult, send_single
from .errors import Cancelled
from .maps import MapResult
from .pool import Pool

__all__ = ["Executor"]


_executors: weakref.WeakSet[Executor] = weakref.WeakSet()


@atexit.register
def _await_all() -> None:
    """A program does not end before what it has submitted, whether it has shut the executor down or not."""
    for executor in list(_executors):
        if executor._is_ours():
            executor.shutdown()


class _Future(concurrent.futures.Future):  # type: ignore[type-arg]
    """A future whose call the daemon keeps from beginning."""

    _result_of: AsyncResult | None = None

    def cancel(self) -> bool:
        """True if the call had not begun, and is not going to be. False if it runs or has ended."""
        result = self._result_of
        if result is not None and not self.done() and result.cancel_waiting():
            concurrent.futures.wait([self])
        return self.cancelled()


class Executor(concurrent.futures.Executor):
    """An executor with ProcessPoolExecutor's interface. A worker that dies fails its own call with WorkerLost, and no other.

    Further keywords are those of Pool."""

    def __init__(self, max_workers: int | None = None, mp_context: Any = None, initializer: Callable[..., Any] | None = None,
                 initargs: Iterable[Any] = (), *, max_tasks_per_child: int | None = None, **options: Any) -> None:
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        self._max_workers = max_workers or os.cpu_count() or 1
        self._pool = Pool(self._max_workers, initializer, initargs, max_tasks_per_child, mp_context, **options)
        self._lock = threading.Lock()
        self._is_shut_down = False
        self._pending: set[_Future] = set()
        _executors.add(self)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[Any]:
        """Submits a callable to be executed with the given arguments; returns a future of the call."""
        with self._lock:
            if self._is_shut_down:
                raise RuntimeError("cannot schedule new futures after shutdown")
        future = _Future()

        def succeed(value: Any) -> None:
            self._pending.discard(future)
            if future.set_running_or_notify_cancel():
                future.set_result(value)

        def fail(error: BaseException) -> None:
            self._pending.discard(future)
            if isinstance(error, Cancelled):
                concurrent.futures.Future.cancel(future)
            if future.set_running_or_notify_cancel():
                future.set_exception(error)

        self._pool._check_running()
        caller = self._pool._caller
        try:
            function, encoding, item = caller.encode_call(fn, args, kwargs)
        except Exception as error:
            fail(error)
            return future
        result = AsyncResult(caller, succeed, fail)
        future._result_of = result
        self._pending.add(future)
        send_single(caller, result, function, encoding, item)
        return future

    def map(self, fn: Callable[..., Any], *iterables: Iterable[Any], timeout: float | None = None,
            chunksize: int = 1) -> Iterator[Any]:
        """Returns an iterator equivalent to map(fn, iter). All calls are submitted at once."""
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        with self._lock:
            if self._is_shut_down:
                raise RuntimeError("cannot schedule new futures after shutdown")
        elements = list(zip(*iterables))
        end = None if timeout is None else time.monotonic() + timeout
        result = self._pool.starmap_async(fn, elements, chunksize if chunksize > 1 else None)
        return _results(self, result, len(elements), end)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Frees what the executor holds once pending futures are done."""
        with self._lock:
            self._is_shut_down = True
        if cancel_futures:
            for future in list(self._pending):
                future.cancel()
        self._pool.close()
        if wait:
            self._pool.join()

    def _is_ours(self) -> bool:
        session = self._pool._session
        return session.pid == os.getpid() and not session.is_broken


def _results(_: Executor, result: MapResult, count: int, end: float | None) -> Iterator[Any]:
    """The outcomes one after the other, each as soon as it is there; `end` is of time.monotonic(). Keeps the executor alive."""
    try:
        for index in range(count):
            left = None if end is None else max(0.0, end - time.monotonic())
            if not result.wait_for(index, left):
                raise TimeoutError
            yield result.take_outcome(index)
    finally:
        if not result.ready():
            result.cancel(waiting=True)  # as concurrent.futures does when its iterator is dropped

