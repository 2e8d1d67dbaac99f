"""A template: a zygote of the second level, which has imported one program's main module and forks the workers of its pools, so
that the module is imported once and its memory is shared. PROTOCOL.md, section 3.6.

The zygote asks a template for workers as the supervisor asks the zygote, with the same frames, and passes on what it answers. What
a fork could not give to each worker of its own, a template must not have: one whose main module leaves a thread or an open
descriptor behind says so and ends, and the workers import the module themselves."""

from __future__ import annotations

import atexit
import gc
import os
import select
import signal
import socket
import sys
import threading
import time
from multiprocessing import process
from typing import Any, Callable, NamedTuple, Sequence

from .. import fd_passing, wire
from . import setup

#: How long a template without workers is kept, in case that its program opens another pool. Seconds.
KEEP_WARM = 10.0
#: What a worker sets itself before it runs code of the program's. Nobody does so in a template.
_LIMITS = {"cgroup", "data_bytes", "processes", "open_files", "nice"}
#: Programs that are remembered because their main module cannot be shared.
_MOST_UNFIT = 256

Answer = Callable[[wire.Frame], None]


class Request(NamedTuple):
    """A `fork` that is under way; the descriptors are owned."""

    fields: dict[str, Any]
    fds: Sequence[int]

    def close(self) -> None:
        for fd in self.fds:
            os.close(fd)


class Template:
    """A template as the zygote sees it."""

    def __init__(self, key: bytes, channel: socket.socket, pid: int, client: int | None) -> None:
        self.key = key
        self.channel = channel
        self.pid = pid
        self.client = client  # a pidfd of the program
        self.is_ready = False
        self.is_unfit = False
        self.idle_since = time.monotonic()
        self.keep_warm = KEEP_WARM  # less when its program has ended
        self.asked: dict[int, Request] = {}  # by worker
        self.workers: dict[int, int] = {}  # worker: pid
        self._decoder = wire.Decoder()

    def ask(self, request: Request) -> None:
        """Asks for a worker; what the template is asked before it is ready is sent when it is."""
        self.asked[request.fields["worker"]] = request
        if self.is_ready:
            self._send(request)

    def _send(self, request: Request) -> None:
        data = wire.encode(wire.FORK, head=request.fields, fds=len(request.fds))
        try:
            sent = socket.send_fds(self.channel, [data], list(request.fds))
            self.channel.sendall(data[sent:])
        except OSError:  # it has died, which is seen where its answers are read
            pass

    def receive(self, answer: Answer) -> bool:
        """Reads what it says, and tells `answer` of each frame; false if it has died, or is of no use."""
        try:
            data, fds = fd_passing.receive(self.channel, 1 << 16)
        except OSError:
            return False
        if not data:
            return False
        self._decoder.feed(data, fds)
        while (frame := self._decoder.next()) is not None:
            if frame.op == wire.READY:
                self.is_ready = True
                for request in self.asked.values():
                    self._send(request)
                continue
            if frame.op == wire.START_FAILED:
                self.is_unfit = True
                return False
            self._note(frame)
            answer(frame)
        return True

    def _note(self, frame: wire.Frame) -> None:
        fields = frame.fields()
        worker = fields["worker"]
        if frame.op == wire.EXITED:
            self.workers.pop(worker, None)
        elif request := self.asked.pop(worker, None):
            request.close()
            if frame.op == wire.FORKED:
                self.workers[worker] = fields["pid"]
        self.idle_since = time.monotonic()

    @property
    def is_idle(self) -> bool:
        return not self.asked and not self.workers

    def end(self) -> None:
        """Lets it go. One that still imports its module is killed: nobody knows how long that would take."""
        if not self.is_ready:
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.channel.close()
        if self.client is not None:
            os.close(self.client)
            self.client = None


class Templates:
    """The templates of a zygote: by what they have loaded."""

    def __init__(self, start: Callable[[bytes, setup.Setup, Request], Template], poll: select.poll) -> None:
        self._start = start
        self._poll = poll
        self._by_key: dict[bytes, Template] = {}
        self._by_fd: dict[int, Template] = {}
        self._unfit: dict[bytes, None] = {}
        self._ended: list[int] = []

    def ask(self, request: Request) -> bool:
        """Asks the template of that pool for a worker; false if the zygote has to fork it itself. Takes the descriptors if not."""
        if not request.fields.get("setup") or not _LIMITS.isdisjoint(request.fields):
            return False
        found = setup.look(request.fds[-1])
        try:
            if not found.is_pool:
                return False
            key = found.key(request.fields)
            if key in self._unfit:
                return False
            template = self._by_key.get(key)
            if template is None:
                template = self._start(key, found, request)
                self._by_key[key] = self._by_fd[template.channel.fileno()] = template
                self._poll.register(template.channel, select.POLLIN)
                if template.client is not None:
                    self._by_fd[template.client] = template
                    self._poll.register(template.client, select.POLLIN)
        finally:
            found.close()
        template.ask(Request(request.fields, [os.dup(fd) for fd in request.fds]))
        return True

    def has(self, fd: int) -> bool:
        return fd in self._by_fd

    def on_readable(self, fd: int, answer: Answer) -> tuple[list[Request], dict[int, int]]:
        """Takes what a template said. What it has left undone if it has ended: workers that were asked of it, and its workers
        (and their pids), which end with it."""
        template = self._by_fd.get(fd)
        if template is None:  # ended in the same turn
            return [], {}
        if fd == template.client:  # whoever could want another worker has gone; those that there are end by themselves
            if not template.is_ready or template.is_idle:
                unwanted, orphans = self._forget(template)
                for request in unwanted:
                    refusal = wire.encode(wire.FORK_FAILED, head={"worker": request.fields["worker"],
                                                                  "detail": "the program has ended"})
                    answer(wire.decode(refusal))
                    request.close()
                return [], orphans
            self._poll.unregister(fd)
            del self._by_fd[fd]
            template.keep_warm = 0.0
            return [], {}
        if template.receive(answer):
            return [], {}
        if template.is_unfit or not template.is_ready:
            if len(self._unfit) >= _MOST_UNFIT:
                del self._unfit[next(iter(self._unfit))]
            self._unfit[template.key] = None
        return self._forget(template)

    def _forget(self, template: Template) -> tuple[list[Request], dict[int, int]]:
        del self._by_key[template.key]
        for fd in (template.channel.fileno(), template.client):
            if fd is not None and self._by_fd.pop(fd, None) is not None:
                self._poll.unregister(fd)
        template.end()
        self._ended.append(template.pid)
        self._reap()
        return list(template.asked.values()), template.workers

    def _reap(self) -> None:
        still = []
        for pid in self._ended:
            try:
                if os.waitpid(pid, os.WNOHANG)[0] == 0:
                    still.append(pid)
            except ChildProcessError:
                pass
        self._ended = still

    def patience_ms(self) -> int | None:
        """How long the zygote may sleep: until a template has been idle for long, or an ended one is to be reaped."""
        now = time.monotonic()
        due = [template.idle_since + template.keep_warm - now for template in self._by_key.values() if template.is_idle]
        if self._ended:
            due.append(0.1)
        return max(1, int(min(due) * 1000) + 1) if due else None

    def end_idle(self) -> None:
        """Ends those that nobody has used for a while."""
        self._reap()
        now = time.monotonic()
        for template in list(self._by_key.values()):
            if template.is_idle and now >= template.idle_since + template.keep_warm:
                self._forget(template)

    def close_all(self) -> None:
        """In a fork of the zygote: closes what is the zygote's alone."""
        for template in self._by_key.values():
            template.channel.close()
            if template.client is not None:
                os.close(template.client)
            for request in template.asked.values():
                request.close()


def load(found: setup.Setup, fields: dict[str, Any]) -> str:
    """In the template: imports the program's main module. What is wrong with it as a template, or ""."""
    threads, descriptors = _threads(), _descriptors()
    atexit._clear()
    try:
        found.prepare(setup.environment_of(fields))
    except BaseException:
        return "the main module cannot be imported"  # each worker says why
    if threading.active_count() > 1 or _threads() > threads:
        return "the main module has started threads"
    parent = process.parent_process()
    own = {str(parent.sentinel)} if parent is not None and parent.sentinel is not None else set()
    if _descriptors() - descriptors - own:
        return "the main module has opened files"
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):  # a program's own streams must not outlive it
        os.dup2(null, number)
    os.close(null)
    gc.collect()
    gc.freeze()
    return ""


def _descriptors() -> set[str]:
    """The open ones, without that of the listing itself."""
    listed = set(os.listdir("/proc/self/fd"))
    return {fd for fd in listed if os.path.lexists(f"/proc/self/fd/{fd}")}


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))
