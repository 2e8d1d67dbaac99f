"""multiprocessing on the workers of a daemon: `import taskpool as multiprocessing`.

The names, signatures and behaviour are those of Python 3.11's multiprocessing; client/python/README.md lists the differences.
What is the package's own: `info()`, `current_pool()`, `taskpool.futures.Executor`, `taskpool.joblib`, and the errors in `taskpool.errors`."""

from __future__ import annotations

from typing import Any

from . import client as _client
from .context import TaskpoolContext, default_context
from .errors import (AuthenticationError, BufferTooShort, Cancelled, DaemonError, DaemonGone, MaybeEncodingError, NoDaemon,
                     OutcomeUnknown, OutOfMemory, PoolClosed, ProcessError, RemoteError, StartFailed, TaskTimeout,
                     TimeoutError, UntrustedPickle, WorkerLost)
from .pool import current_pool
from .process import BaseProcess, Process, active_children, current_process, parent_process

__version__ = "0.1.0"

Array = default_context.Array
Barrier = default_context.Barrier
BoundedSemaphore = default_context.BoundedSemaphore
Condition = default_context.Condition
Event = default_context.Event
JoinableQueue = default_context.JoinableQueue
Lock = default_context.Lock
Manager = default_context.Manager
Pipe = default_context.Pipe
Pool = default_context.Pool
Queue = default_context.Queue
RLock = default_context.RLock
RawArray = default_context.RawArray
RawValue = default_context.RawValue
Semaphore = default_context.Semaphore
SimpleQueue = default_context.SimpleQueue
Value = default_context.Value
allow_connection_pickling = default_context.allow_connection_pickling
cpu_count = default_context.cpu_count
freeze_support = default_context.freeze_support
get_all_start_methods = default_context.get_all_start_methods
get_context = default_context.get_context
get_logger = default_context.get_logger
get_start_method = default_context.get_start_method
log_to_stderr = default_context.log_to_stderr
reducer = default_context.reducer
set_executable = default_context.set_executable
set_forkserver_preload = default_context.set_forkserver_preload
set_start_method = default_context.set_start_method


def info() -> dict[str, Any]:
    """What this program talks to, and with what: the daemon's version, build, pid and socket, whether the extension module is
    in use, and what reads shared objects: "extension", "python", or the "daemon", which is then asked for everything."""
    from . import mapping
    from .runtime import page

    session = _client.default()
    welcome = session.welcome
    return {"version": __version__, "daemon_version": welcome.get("daemon_version", ""), "build": welcome.get("build", ""),
            "pid": welcome.get("pid", 0), "socket": session.place.socket, "session": welcome.get("session", 0),
            "extension": page.Page.claims, "reader": mapping.READER, "capabilities": list(welcome.get("capabilities", ()))}


__all__ = [
    "Array", "AuthenticationError", "Barrier", "BaseProcess", "BoundedSemaphore", "BufferTooShort", "Cancelled", "Condition",
    "DaemonError", "DaemonGone", "Event", "JoinableQueue", "Lock", "Manager", "MaybeEncodingError", "NoDaemon", "OutOfMemory",
    "OutcomeUnknown", "Pipe", "Pool", "PoolClosed", "Process", "ProcessError", "Queue", "RLock", "RawArray", "RawValue",
    "RemoteError", "Semaphore", "SimpleQueue", "StartFailed", "TaskTimeout", "TaskpoolContext", "TimeoutError",
    "UntrustedPickle", "Value", "WorkerLost", "active_children", "allow_connection_pickling", "cpu_count", "current_pool",
    "current_process",
    "default_context", "freeze_support", "get_all_start_methods", "get_context", "get_logger", "get_start_method", "info",
    "log_to_stderr", "parent_process", "reducer", "set_executable", "set_forkserver_preload", "set_start_method",
]
