"""Process: a process of its own, forked from a warm interpreter of the daemon's."""

from __future__ import annotations

import itertools
import os
import select
import signal
import socket
import sys
from multiprocessing import process, util
from multiprocessing.process import active_children, current_process, parent_process
from typing import Any

from . import client, wire, workers
from .calls import AsyncResult, Caller
from .client import Session
from .errors import DaemonError, PoolClosed, StartFailed, WorkerLost
from .pool import _Opening
from .runtime import setup

__all__ = ["BaseProcess", "Process", "active_children", "current_process", "parent_process"]

BaseProcess = process.BaseProcess
#: What a process is said to have exited with of which nobody knows: the daemon has gone, and it with it.
_UNKNOWN = 255
_numbers = itertools.count(1)


class Popen:
    """A started process, as BaseProcess wants it: a pool of one worker that lives once, and the one task that it runs."""

    method = "taskpool"

    def __init__(self, process_obj: BaseProcess) -> None:
        util._flush_std_streams()  # type: ignore[attr-defined]
        self.returncode: int | None = None
        self._signal = 0  # the first that was sent to it
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                preparation = setup.preparation_data(process_obj.name)
                setup_fd = setup.write(preparation, {"process": process_obj}, theirs.fileno())
            self._session: Session = client.default()
            name = f"{process_obj.name[:100]}#{next(_numbers)}"
            self._caller = Caller(self._session, name, {})
            self._opening = _Opening(self._caller)
            head = {"name": name, "workers": 1, "once": True}
            workers.open_pool(self._session, self._opening, head, setup_fd, workers.standard_streams())
            self._result = AsyncResult(self._caller)
            request = self._session.new_request()
            self._result.start(request, None)
            self._session.send(wire.encode(wire.APPLY, head=self._caller.head_of("!process"), request=request, count=1,
                                           encoding=wire.AS_PICKLE))
            self._session.flush()
            self.pid, self.sentinel = self._hear_birth(ours)
        self.finalizer = util.Finalize(self, util.close_fds, (self.sentinel,))  # type: ignore[attr-defined]

    def _hear_birth(self, end: socket.socket) -> tuple[int, int]:
        poll = select.poll()
        poll.register(end, select.POLLIN)
        while not poll.poll(20):
            self._session.peek()
            if self._result.ready():
                break
        else:
            born = setup.hear_birth(end)
            if born is not None:
                return born
        self._session.wait(self._result._is_done)
        try:
            self._result.get()
        except StartFailed:
            raise
        except DaemonError as error:
            raise StartFailed(f"the process ended before it had begun: {error}") from None
        raise StartFailed("the process ended before it had begun")

    def duplicate_for_child(self, fd: int) -> int:
        raise NotImplementedError  # descriptors are collected by runtime.setup

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        if self.returncode is None and self._has_exited():
            self.wait()
        return self.returncode

    def _has_exited(self) -> bool:
        poll = select.poll()
        poll.register(self.sentinel, select.POLLIN)
        return bool(poll.poll(0))

    def wait(self, timeout: float | None = None) -> int | None:
        if self.returncode is None:
            self._result.wait(timeout)
            if not self._result._done:
                return None
            self.returncode = self._exit_code()
        return self.returncode

    def _exit_code(self) -> int:
        try:
            self._result.get()
        except StartFailed as error:  # its main module cannot be imported: as spawn shows it
            print(error.detail, file=sys.stderr)
            return 1
        except WorkerLost as error:
            return error.exitcode if "signal" in error.fields or "exit_code" in error.fields else 0
        except PoolClosed:  # it ended before it had taken its task
            return -self._signal if self._signal else _UNKNOWN
        except Exception:
            return _UNKNOWN
        return 0

    def _send_signal(self, number: int) -> None:
        if self.returncode is None:
            try:
                signal.pidfd_send_signal(self.sentinel, number)
                self._signal = self._signal or number
            except ProcessLookupError:
                pass

    def terminate(self) -> None:
        self._send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self._send_signal(signal.SIGKILL)

    def close(self) -> None:
        self.finalizer()


class Process(BaseProcess):
    """Process objects represent activity that is run in a separate process. The class is analogous to `threading.Thread`."""

    _start_method = None

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Any:
        return Popen(process_obj)

    @staticmethod
    def _after_fork() -> None:
        pass  # the worker was no copy of this process: nothing in it is to be forgotten
