"""The zygote: speaks the control protocol, imports modules once, and forks workers. One thread. PROTOCOL.md, section 3.3."""

from __future__ import annotations

import array
import fcntl
import gc
import importlib
import inspect
import mmap
import os
import select
import signal
import socket
import sys
import traceback
from typing import Any, NoReturn, Sequence

from .. import wire
from . import page

try:
    from .. import _native  # type: ignore[attr-defined]
except ImportError:
    _native = None  # type: ignore[assignment]

_CONTROL_FD = 3
_PR_SET_PDEATHSIG = 1
_MOST_LISTED = 4096  # kMaxListed
#: Where a worker's channel goes: above the numbers that a task's own files get.
_LEAST_CHANNEL_FD = 200
_EXIT_START_FAILED = 1
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Zygote:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._decoder = wire.Decoder()
        self._workers: dict[int, tuple[int, int]] = {}  # pidfd: (worker, pid)
        self._listed: list[str] = []
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)

    def run(self) -> int:
        """Serves until the control channel closes; the exit code."""
        while True:
            for fd, _ in self._poll.poll():
                if fd in self._workers:
                    self._report_exit(fd)
                elif not self._receive():
                    return 0
            while (frame := self._decoder.next()) is not None:
                if frame.op == wire.START:
                    if not self._start(frame.fields()):
                        return 1
                elif frame.op == wire.FORK:
                    self._fork(frame)
                else:
                    raise wire.BrokenStream(f"op {frame.op}: not for a zygote")

    def _receive(self) -> bool:
        data, ancillary, _, _ = self._control.recvmsg(1 << 16, socket.CMSG_SPACE(32 * 4), socket.MSG_CMSG_CLOEXEC)
        fds = array.array("i")
        for level, kind, passed in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(passed)
        self._decoder.feed(data, fds)
        return bool(data)

    def _send(self, op: int, head: dict[str, Any], fds: Sequence[int] = ()) -> None:
        data = wire.encode(op, head=head, fds=len(fds))
        if fds:
            sent = socket.send_fds(self._control, [data], list(fds))
            data = data[sent:]
        self._control.sendall(data)

    def _start(self, fields: dict[str, Any]) -> bool:
        functions = []
        for name in fields.get("modules", ()):
            try:
                functions += list_functions(importlib.import_module(name))
            except BaseException:
                self._send(wire.START_FAILED, {"detail": f"module {name}: {traceback.format_exc(limit=-20)}"[-30000:]})
                return False
        gc.collect()
        gc.freeze()  # what is there stays: a collection in a worker would only touch, and so copy, its pages
        head: dict[str, Any] = {"open": True}
        if not page.Page.claims:
            head["claims"] = False
        if functions:
            head["functions"] = functions[:_MOST_LISTED]
            self._listed = [function["name"] for function in head["functions"]]
        self._control.sendall(ready_frame(head))
        return True

    def _fork(self, frame: wire.Frame) -> None:
        fields = frame.fields()
        try:
            self._fork_worker(fields, list(frame.fds))
        except OSError as error:
            self._send(wire.FORK_FAILED, {"worker": fields["worker"], "detail": str(error)})
        finally:
            for fd in frame.fds:
                os.close(fd)

    def _fork_worker(self, fields: dict[str, Any], fds: list[int]) -> None:
        memory, shared = make_page()
        channel, worker_end = socket.socketpair()
        try:
            zygote = os.getpid()
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            pid = os.fork()
            if pid == 0:
                os.close(memory)
                channel.close()
                self._be_worker(zygote, fields, fds, worker_end, shared)
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            pidfd = os.pidfd_open(pid)
            self._workers[pidfd] = (fields["worker"], pid)
            self._poll.register(pidfd, select.POLLIN)
            self._send(wire.FORKED, {"worker": fields["worker"], "pid": pid}, (channel.fileno(), pidfd, memory))
        finally:
            os.close(memory)
            channel.close()
            worker_end.close()

    def _be_worker(self, zygote: int, fields: dict[str, Any], fds: list[int], end: socket.socket, shared: Any) -> NoReturn:
        """The life of a worker, in the child."""
        code = _EXIT_START_FAILED
        try:
            set_parent_death_signal()
            if os.getppid() != zygote:  # it died before that took hold
                os._exit(_EXIT_START_FAILED)
            self._control.close()
            for pidfd in self._workers:
                os.close(pidfd)
            self._workers.clear()
            setup = fds.pop() if fields.get("setup") else None
            high = fcntl.fcntl(end.fileno(), fcntl.F_DUPFD_CLOEXEC, _LEAST_CHANNEL_FD)
            end.close()
            take_streams(fds)
            reset_signals()
            from .worker import run_worker

            code = run_worker(socket.socket(fileno=high), shared, fields, setup, self._listed)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def _report_exit(self, pidfd: int) -> None:
        worker, pid = self._workers.pop(pidfd)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        head: dict[str, Any] = {"worker": worker, "pid": pid}
        try:
            _, status, used = os.wait4(pid, 0)
        except ChildProcessError:  # a module has reaped it
            head["exit_code"] = -1
        else:
            if os.WIFSIGNALED(status):
                head["signal"] = os.WTERMSIG(status)
            elif os.WEXITSTATUS(status):
                head["exit_code"] = os.WEXITSTATUS(status)
            head["user_us"], head["system_us"] = int(used.ru_utime * 1e6), int(used.ru_stime * 1e6)
            head["max_rss_bytes"] = used.ru_maxrss * 1024
        self._send(wire.EXITED, head)


def ready_frame(head: dict[str, Any]) -> bytes:
    """`ready` whose list may be too long for a head: it goes into the body then."""
    import json

    try:
        return wire.encode(wire.READY, head=head)
    except ValueError:
        return wire.encode(wire.READY, body=json.dumps(head).encode()[:wire.MAX_BODY_BYTES])


def list_functions(module: Any) -> list[dict[str, str]]:
    """The public functions of a module, as `ready` lists them."""
    listed = []
    for name in getattr(module, "__all__", None) or vars(module):
        value = getattr(module, name, None)
        if name.startswith("_") or not callable(value) or getattr(value, "__module__", None) != module.__name__:
            continue
        try:
            signature = str(inspect.signature(value))
        except (TypeError, ValueError):
            signature = ""
        full = f"{module.__name__}.{name}"
        if len(full) <= wire.MAX_FUNCTION_BYTES:
            listed.append({"name": full, "signature": full + signature, "doc": inspect.getdoc(value) or ""})
    return listed


def preload() -> None:
    """What every worker needs, and what the main modules that they import are likely to: found imported, it costs them neither
    time nor memory of their own."""
    import multiprocessing.managers
    import multiprocessing.queues
    import multiprocessing.synchronize
    import random

    from .. import client, context, managers, pool, synchronize
    from . import setup, worker

    del client, context, managers, pool, random, setup, synchronize, worker


def make_page() -> tuple[int, mmap.mmap]:
    """A claim page and outbox: the memfd, and its mapping, which the worker inherits."""
    memory = os.memfd_create("taskpool-worker", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.truncate(memory, page.PAGE_BYTES)
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, _SEALS)
        shared = mmap.mmap(memory, page.PAGE_BYTES)
    except BaseException:
        os.close(memory)
        raise
    page.initialize(memoryview(shared))
    return memory, shared


def set_parent_death_signal() -> None:
    if _native is not None:
        _native.set_parent_death_signal(signal.SIGKILL)
        return
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def reset_signals() -> None:
    """The actions and the mask that a Python program starts with."""
    for number in signal.valid_signals():
        if number not in (signal.SIGKILL, signal.SIGSTOP, signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
            try:
                signal.signal(number, signal.SIG_DFL)
            except (OSError, ValueError):  # one that has no action, or that the C library keeps for itself
                pass
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def take_streams(stdio: list[int]) -> None:
    """Makes the descriptors the standard streams, and Python's streams line by line: what a task printed is seen even if its
    worker is killed later."""
    for number, fd in enumerate(stdio):
        os.dup2(fd, number)
        os.close(fd)
    sys.stdin = open(0, closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr, attr-defined]


def main() -> int:
    control = socket.socket(fileno=_CONTROL_FD)
    control.set_inheritable(False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor says when to end
    preload()
    try:
        return Zygote(control).run()
    except ConnectionError:  # the supervisor has gone; the workers go with this process
        return 0
    except wire.BrokenStream as error:
        print(f'level=error event=control_broken detail="{error}"', file=sys.stderr)
        return 1
