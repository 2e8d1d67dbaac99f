"""The zygote: speaks the control protocol, imports modules once, and forks workers. One thread. PROTOCOL.md, section 3.3."""

from __future__ import annotations

import _signal
import fcntl
import gc
import importlib
import mmap
import os
import select
import signal
import socket
import sys
import traceback
from _signal import SIG_BLOCK, SIG_SETMASK, pthread_sigmask, valid_signals  # signal's own make names of numbers, each time
from typing import Any, Callable, Sequence

from .. import fd_passing, wire
from . import page, setup, template
from .worker import run_worker

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
_SIGNALS = valid_signals()
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Forker:
    """A process that forks a worker each time it is asked, and tells of each one's end."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._decoder = wire.Decoder()
        self._workers: dict[int, tuple[int, int]] = {}  # pidfd: (worker, pid)
        self._listed: list[str] = []
        self._is_prepared = False  # workers find the client's main module imported
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)

    def run(self) -> int:
        """Serves until the control channel closes; the exit code."""
        while True:
            for fd, _ in self._poll.poll(self._patience_ms()):
                if fd in self._workers:
                    self._report_exit(fd)
                elif fd != self._control.fileno():
                    self._on_readable(fd)
                elif not self._receive():
                    return 0
            while (frame := self._decoder.next()) is not None:
                if frame.op == wire.FORK:
                    self._fork(frame)
                elif not self._on_frame(frame):
                    return 1

    def _patience_ms(self) -> int | None:
        return None

    def _on_readable(self, fd: int) -> None:
        raise NotImplementedError

    def _on_frame(self, frame: wire.Frame) -> bool:
        raise wire.BrokenStream(f"op {frame.op}: not for this process")

    def _receive(self) -> bool:
        data, fds = fd_passing.receive(self._control, 1 << 16)
        self._decoder.feed(data, fds)
        return bool(data)

    def _send(self, op: int, head: dict[str, Any], fds: Sequence[int] = ()) -> None:
        data = wire.encode(op, head=head, fds=len(fds))
        if fds:
            sent = socket.send_fds(self._control, [data], list(fds))
            data = data[sent:]
        self._control.sendall(data)

    def _fork(self, frame: wire.Frame) -> None:
        fields = frame.fields()
        try:
            self._fork_for(template.Request(fields, frame.fds))
        except (OSError, ValueError) as error:
            self._send(wire.FORK_FAILED, {"worker": fields["worker"], "detail": str(error)})
        finally:
            for fd in frame.fds:
                os.close(fd)

    def _fork_for(self, request: template.Request) -> None:
        self._fork_worker(request.fields, list(request.fds))

    def _fork_worker(self, fields: dict[str, Any], fds: list[int]) -> None:
        memory, shared = make_page()
        channel, worker_end = socket.socketpair()
        found = None
        try:
            if self._is_prepared:  # look here, where what that runs and touches is warm
                found = setup.look(fds[-1])
            pid = self._fork_into(lambda: self._be_worker(fields, fds, worker_end, shared, (memory, channel.fileno()), found))
            pidfd = os.pidfd_open(pid)
            self._workers[pidfd] = (fields["worker"], pid)
            self._poll.register(pidfd, select.POLLIN)
            self._send(wire.FORKED, {"worker": fields["worker"], "pid": pid}, (channel.fileno(), pidfd, memory))
        finally:
            os.close(memory)
            channel.close()
            worker_end.close()
            if found is not None:
                found.close()

    def _fork_into(self, life: Callable[[], int]) -> int:
        """The pid of a child whose life is that, and whose exit code is what that returns."""
        parent = os.getpid()
        blocked = pthread_sigmask(SIG_BLOCK, _SIGNALS)
        pid = os.fork()
        if pid != 0:
            pthread_sigmask(SIG_SETMASK, blocked)
            return pid
        code = _EXIT_START_FAILED
        try:
            set_parent_death_signal()
            if os.getppid() != parent:  # it died before that took hold
                os._exit(_EXIT_START_FAILED)
            os.setpgid(0, 0)  # so that what its tasks start is killed with it
            self._close_own()
            code = life()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def _close_own(self) -> None:
        """In the child: closes what is this process's alone."""
        self._control.close()
        for pidfd in self._workers:
            os.close(pidfd)
        self._workers.clear()

    def _be_worker(self, fields: dict[str, Any], fds: list[int], end: socket.socket, shared: Any,
                   unwanted: Sequence[int], found: setup.Setup | None) -> int:
        """The life of a worker, in the child. `found`: its setup, if its main module is imported."""
        for fd in unwanted:
            os.close(fd)
        setup_fd = fds.pop() if fields.get("setup") else None
        try:
            high = fcntl.fcntl(end.fileno(), fcntl.F_DUPFD_CLOEXEC, _LEAST_CHANNEL_FD)
        except OSError:  # RLIMIT_NOFILE may be lower: any number will do then
            high = os.dup(end.fileno())
        end.close()
        take_descriptors(fds)
        if found is not None:
            pthread_sigmask(SIG_SETMASK, ())
        else:
            take_streams()
            reset_signals()
        return run_worker(socket.socket(fileno=high), shared, fields, setup_fd, self._listed, found)

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


class Zygote(Forker):
    """Forks workers itself, or has templates do so."""

    def __init__(self, control: socket.socket) -> None:
        super().__init__(control)
        self._templates = template.Templates(self._start_template, self._poll)

    def _on_frame(self, frame: wire.Frame) -> bool:
        if frame.op != wire.START:
            raise wire.BrokenStream(f"op {frame.op}: not for a zygote")
        return self._start(frame.fields())

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

    def _fork_for(self, request: template.Request) -> None:
        if not self._templates.ask(request):
            super()._fork_for(request)

    def _patience_ms(self) -> int | None:
        self._templates.end_idle()
        return self._templates.patience_ms()

    def _on_readable(self, fd: int) -> None:
        unasked, orphans = self._templates.on_readable(fd, self._pass_on)
        for worker, pid in orphans.items():
            self._send(wire.EXITED, {"worker": worker, "pid": pid, "signal": int(signal.SIGKILL)})
        for request in unasked:
            try:
                self._fork_worker(request.fields, list(request.fds))
            except OSError as error:
                self._send(wire.FORK_FAILED, {"worker": request.fields["worker"], "detail": str(error)})
            finally:
                request.close()

    def _pass_on(self, frame: wire.Frame) -> None:
        self._send(frame.op, frame.fields(), frame.fds)
        for fd in frame.fds:
            os.close(fd)

    def _start_template(self, key: bytes, found: setup.Setup, request: template.Request) -> template.Template:
        ours, theirs = socket.socketpair()
        try:
            pid = self._fork_into(lambda: self._be_template(found, request, theirs, ours.fileno()))
        finally:
            theirs.close()
        return template.Template(key, ours, pid, setup.parent_sentinel(found.client))

    def _close_own(self) -> None:
        super()._close_own()
        self._templates.close_all()

    def _be_template(self, found: setup.Setup, request: template.Request, end: socket.socket, unwanted: int) -> int:
        """The life of a template, in the child."""
        os.close(unwanted)
        *streams, pool = request.fds
        os.close(pool)
        take_descriptors(streams)
        take_streams()
        reset_signals()
        wrong = template.load(found, request.fields)
        found.close()
        forker = Forker(end)
        forker._is_prepared, forker._listed = True, self._listed
        if wrong:
            forker._send(wire.START_FAILED, {"detail": wrong})
            return 0
        forker._send(wire.READY, {})
        return forker.run()


def ready_frame(head: dict[str, Any]) -> bytes:
    """`ready` whose list may be too long for a head: it goes into the body then."""
    import json

    try:
        return wire.encode(wire.READY, head=head)
    except ValueError:
        return wire.encode(wire.READY, body=json.dumps(head).encode()[:wire.MAX_BODY_BYTES])


def list_functions(module: Any) -> list[dict[str, str]]:
    """The public functions of a module, as `ready` lists them."""
    import inspect  # large, and of no use to pools that list nothing

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

    del client, context, managers, pool, random, synchronize


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
    for number in _SIGNALS:
        if number not in (signal.SIGKILL, signal.SIGSTOP, signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
            try:
                _signal.signal(number, _signal.SIG_DFL)
            except (OSError, ValueError):  # one that has no action, or that the C library keeps for itself
                pass
    signal.signal(signal.SIGINT, signal.default_int_handler)
    pthread_sigmask(SIG_SETMASK, ())


def take_descriptors(stdio: Sequence[int]) -> None:
    """Makes the descriptors the standard ones."""
    for number, fd in enumerate(stdio):
        os.dup2(fd, number)
        os.close(fd)


def take_streams() -> None:
    """Makes Python's streams those of the standard descriptors, and its output appear line by line: what a task printed is seen even
    if its worker is killed later."""
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
