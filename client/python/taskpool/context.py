"""The context: what the package's functions are methods of, so that a library which takes a context can be given this one."""

from __future__ import annotations

import os
from multiprocessing.context import (AuthenticationError, BaseContext, BufferTooShort, ProcessError, TimeoutError,  # type: ignore[attr-defined]
                                     assert_spawning, get_spawning_popen, reduction, set_spawning_popen)
from typing import Any, Callable, Iterable

from . import process, queues, synchronize
from .pool import Pool as PoolType

__all__ = ["AuthenticationError", "BaseContext", "BufferTooShort", "Process", "ProcessError", "TaskpoolContext",
           "TimeoutError", "assert_spawning", "get_spawning_popen", "reduction", "set_spawning_popen"]

Process = process.Process
#: The one start method that there is, and those of multiprocessing, which are taken to mean it.
START_METHOD = "taskpool"
_ACCEPTED = (START_METHOD, "spawn", "forkserver", "fork")


class TaskpoolContext(BaseContext):
    """multiprocessing's context on the daemon's workers. There is one start method: workers are forked from a warm
    interpreter that has imported this program's main module, as with spawn."""

    _name = START_METHOD
    Process = Process

    def Pool(self, processes: int | None = None, initializer: Callable[..., Any] | None = None, initargs: Iterable[Any] = (),  # type: ignore[override]
             maxtasksperchild: int | None = None, **options: Any) -> PoolType:
        """Returns a process pool object."""
        return PoolType(processes, initializer, initargs, maxtasksperchild, self, **options)

    def Lock(self) -> Any:
        """Returns a non-recursive lock object."""
        return synchronize.Lock(ctx=self)

    def RLock(self) -> Any:
        """Returns a recursive lock object."""
        return synchronize.RLock(ctx=self)

    def Condition(self, lock: Any = None) -> Any:
        """Returns a condition object."""
        return synchronize.Condition(lock, ctx=self)

    def Semaphore(self, value: int = 1) -> Any:
        """Returns a semaphore object."""
        return synchronize.Semaphore(value, ctx=self)

    def BoundedSemaphore(self, value: int = 1) -> Any:
        """Returns a bounded semaphore object."""
        return synchronize.BoundedSemaphore(value, ctx=self)

    def Event(self) -> Any:
        """Returns an event object."""
        return synchronize.Event(ctx=self)

    def Barrier(self, parties: int, action: Callable[[], Any] | None = None, timeout: float | None = None) -> Any:
        """Returns a barrier object."""
        return synchronize.Barrier(parties, action, timeout, ctx=self)

    def Queue(self, maxsize: int = 0) -> Any:
        """Returns a queue object."""
        return queues.Queue(maxsize, ctx=self)

    def JoinableQueue(self, maxsize: int = 0) -> Any:
        """Returns a queue object whose items are said to be done."""
        return queues.JoinableQueue(maxsize, ctx=self)

    def Manager(self, nested: bool = False) -> Any:
        """Returns a manager, which makes shared objects in the daemon's store."""
        from .managers import SyncManager

        manager = SyncManager(ctx=self, nested=nested)
        manager.start()
        return manager

    def get_context(self, method: str | None = None) -> Any:
        if method is not None and method not in _ACCEPTED:
            raise ValueError(f"cannot find context for {method!r}")
        return self

    def get_start_method(self, allow_none: bool = False) -> str:
        return START_METHOD

    def set_start_method(self, method: str | None, force: bool = False) -> None:
        """Accepted, and without effect: there is one start method."""
        if method is not None and method not in _ACCEPTED:
            raise ValueError(f"cannot find context for {method!r}")

    def get_all_start_methods(self) -> list[str]:
        return [START_METHOD]

    def set_executable(self, executable: str | bytes | os.PathLike[str]) -> None:
        """The interpreter that workers are forked from; sys.executable otherwise."""
        from . import workers

        workers.executable = os.fsdecode(executable)

    def set_forkserver_preload(self, module_names: list[str]) -> None:
        """Accepted, and without effect: workers are forked from an interpreter that has imported the main module."""

    @property
    def reducer(self) -> Any:
        """Controls how objects will be reduced to a form that can be shared with other processes."""
        return reduction

    @reducer.setter
    def reducer(self, value: Any) -> None:
        raise NotImplementedError("the reducer cannot be replaced")

    def _check_available(self) -> None:
        pass


default_context = TaskpoolContext()
