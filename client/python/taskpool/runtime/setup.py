"""What a pool's workers begin with, besides their streams: written by the client, read by each worker. PROTOCOL.md, 3.6."""

from __future__ import annotations

import io
import json
import os
import pickle
import socket
import struct
import sys
from multiprocessing import context, process, reduction, spawn, util
from typing import Any, Sequence

from .. import fd_passing, logs, names, tracking

#: What the message's bytes begin with: for a pool; for a process, whose first descriptor is where it tells of its birth.
_POOL, _PROCESS = b"pool", b"proc"
_MESSAGE = struct.Struct("<4sII")  # one of those, bytes of the first pickle, pid of the program
_PID = struct.Struct("<I")
_MOST_FDS = 250  # of one message; the kernel takes 253


class Passed:
    """A descriptor inside a pickle: its number in the message. Has the interface of multiprocessing's DupFd."""

    arrived: list[int] = []
    taken: set[int] = set()

    def __init__(self, index: int) -> None:
        self._index = index

    def detach(self) -> int:
        Passed.taken.add(self._index)
        return Passed.arrived[self._index]


class _Given:
    """A descriptor of this process that is to be passed; becomes a Passed."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __reduce__(self) -> Any:
        return Passed, (context.get_spawning_popen().duplicate_for_child(self._fd),)  # type: ignore[union-attr]


class _Collector:
    """Stands for the process being started, where multiprocessing's reducers look for one: collects their descriptors."""

    def __init__(self) -> None:
        self.fds: list[int] = []

    def duplicate_for_child(self, fd: int) -> int:
        self.fds.append(fd)
        return len(self.fds) - 1

    DupFd = staticmethod(Passed)


def write(preparation: dict[str, Any], content: Any, birth: int | None = None) -> int:
    """A setup: `preparation` takes effect before `content` is unpickled; `birth` is a socket on which a process tells of its
    birth. Returns the setup's descriptor. Raises what pickling raises."""
    collector = _Collector()
    if birth is not None:
        collector.fds.append(birth)
    out = io.BytesIO()
    context.set_spawning_popen(collector)  # type: ignore[arg-type]
    try:
        reduction.dump(preparation, out)
        prepared_bytes = out.tell()
        _dump(content, out)
    finally:
        context.set_spawning_popen(None)
    if len(collector.fds) > _MOST_FDS:
        raise ValueError(f"{len(collector.fds)} descriptors to pass: at most {_MOST_FDS}")
    memory = os.memfd_create("taskpool-setup", os.MFD_CLOEXEC)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with open(memory, "wb", closefd=False) as file:
            file.write(out.getbuffer())
        message = _MESSAGE.pack(_POOL if birth is None else _PROCESS, prepared_bytes, os.getpid())
        socket.send_fds(ours, [message], [memory, *collector.fds])
        return theirs.detach()
    finally:
        ours.close()
        os.close(memory)


def _dump(content: Any, out: io.BytesIO) -> None:
    from ..payload import cloudpickle

    begin = out.tell()
    try:
        reduction.dump(content, out)
    except (pickle.PicklingError, AttributeError, TypeError):
        if cloudpickle is None:
            raise
        out.seek(begin)
        out.truncate()
        pickler = cloudpickle.CloudPickler(out)
        pickler.dispatch_table = pickler.dispatch_table.new_child(
            dict(reduction.ForkingPickler._extra_reducers))  # type: ignore[attr-defined]
        pickler.dump(content)


def preparation_data(name: str) -> dict[str, Any]:
    """What multiprocessing.spawn.prepare() wants, of this process."""
    spawn._check_not_importing_main()  # type: ignore[attr-defined]
    data: dict[str, Any] = {
        "log_to_stderr": util._log_to_stderr,  # type: ignore[attr-defined]
        "authkey": process.current_process().authkey,
        "name": name,
        "sys_path": [os.getcwd() if path == "" else path for path in sys.path],
        "sys_argv": list(sys.argv),
        "orig_dir": process.ORIGINAL_DIR,  # type: ignore[attr-defined]
        "dir": os.getcwd(),
        "environment": dict(os.environ),
        "parent": (process.current_process().name, os.getpid()),
    }
    log_fd, log_level = logs.channel()
    data["log"] = (_Given(log_fd), log_level)
    tracker_fd = tracking.descriptor()
    data["tracker"] = None if tracker_fd is None else _Given(tracker_fd)
    if util._logger is not None:  # type: ignore[attr-defined]
        data["log_level"] = util._logger.getEffectiveLevel()  # type: ignore[attr-defined]
    main = names.main_module()
    if main is not None:
        data[f"init_main_from_{main[0]}"] = main[1]
    return data


class Setup:
    """A setup as a worker, or a template, has received it. Owns its descriptors."""

    def __init__(self, message: bytes, fds: Sequence[int]) -> None:
        word, self._prepared_bytes, self.client = _MESSAGE.unpack(message)
        self.is_pool = word == _POOL
        self._memory, *self.passed = fds

    def key(self, fields: dict[str, Any]) -> bytes:
        """What makes two pools able to share a template: the program and its state, and what `fork` says of the process."""
        said = json.dumps([fields.get(name) for name in ("environment", "cwd", "socket")]).encode()
        return os.pread(self._memory, self._prepared_bytes, 0) + said

    def prepare(self, environment: dict[str, str]) -> None:
        """Makes this process one of the program's; `environment` is added to the program's. Raises whatever the program's main
        module raises when it is imported."""
        self._claim_passed()
        preparation = pickle.loads(os.pread(self._memory, self._prepared_bytes, 0))
        os.environ.clear()
        os.environ.update(preparation.pop("environment"))
        os.environ.update(environment)
        _set_parent(*preparation.pop("parent"))
        log, log_level = preparation.pop("log")
        tracker = preparation.pop("tracker")
        tracking.adopt(None if tracker is None else tracker.detach())
        with _Inheriting():
            spawn.prepare(preparation)
        logs.install(log.detach(), log_level)

    def content(self) -> Any:
        """What the worker is for. Closes what it has no use for. Raises what unpickling raises."""
        self._claim_passed()
        content_bytes = os.fstat(self._memory).st_size - self._prepared_bytes
        with _Inheriting():
            content = pickle.loads(os.pread(self._memory, content_bytes, self._prepared_bytes))
        self.close()
        return content

    def take(self, index: int) -> None:
        """That descriptor is somebody else's from now on."""
        self._claim_passed()
        Passed.taken.add(index)

    def _claim_passed(self) -> None:
        if Passed.arrived is not self.passed:
            Passed.arrived, Passed.taken = self.passed, set()

    def close(self) -> None:
        """Closes the descriptors that nothing took."""
        taken = Passed.taken if Passed.arrived is self.passed else ()
        for fd in (self._memory, *(fd for index, fd in enumerate(self.passed) if index not in taken)):
            os.close(fd)


def look(setup: int) -> Setup:
    """The setup that waits in that socket. Raises ValueError for one that is not of this runtime."""
    with socket.socket(fileno=os.dup(setup)) as end:
        message, fds = fd_passing.receive(end, _MESSAGE.size, _MOST_FDS + 1, socket.MSG_PEEK)
    if len(message) != _MESSAGE.size or message[:4] not in (_POOL, _PROCESS) or not fds:
        raise ValueError("the pool's setup is not one of this runtime")
    return Setup(message, fds)


class _Inheriting:
    """So that a main module without a guard is told so."""

    def __enter__(self) -> None:
        process.current_process()._inheriting = True  # type: ignore[attr-defined]

    def __exit__(self, *_: object) -> None:
        del process.current_process()._inheriting  # type: ignore[attr-defined]


def environment_of(fields: dict[str, Any]) -> dict[str, str]:
    """What `fork` adds to the environment of a worker, or of its template."""
    return {"TASKPOOL_SOCKET": fields.get("socket", ""), **fields.get("environment", {})}


def read(setup: int, environment: dict[str, str], found: Setup | None) -> Any:
    """In the worker: returns the content. `found`: the setup, if its template has looked and has prepared the process; else that
    is done here. Closes `setup`. Raises whatever the client's main module raises when it is imported."""
    is_prepared = found is not None
    if found is None:
        found = look(setup)
    os.close(setup)
    if not found.is_pool:
        found.take(0)
        tell_birth(found.passed[0])
        for where in (environment, os.environ):
            where.pop("TASKPOOL_WORKER_TOKEN", None)  # a process is no task: what it waits for is its own affair
    if not is_prepared:
        found.prepare(environment)
    return found.content()


def tell_birth(fd: int) -> None:
    """Tells whoever starts this process its pid, and gives him a descriptor that says when it ends."""
    with socket.socket(fileno=fd) as end:
        pidfd = os.pidfd_open(os.getpid())
        try:
            socket.send_fds(end, [_PID.pack(os.getpid())], [pidfd])
        except OSError:  # he has gone
            pass
        finally:
            os.close(pidfd)


def hear_birth(end: socket.socket) -> tuple[int, int] | None:
    """The pid of the process and a descriptor that becomes readable when it ends; None if it has ended before it could say
    so."""
    data, fds, _, _ = socket.recv_fds(end, _PID.size, 1)
    if len(data) < _PID.size or not fds:
        return None
    os.set_inheritable(fds[0], False)
    return _PID.unpack(data)[0], fds[0]


def parent_sentinel(pid: int) -> int | None:
    """A descriptor that becomes readable when that process ends; None if it has."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def _set_parent(name: str, pid: int) -> None:
    sentinel = parent_sentinel(pid)
    process._parent_process = process._ParentProcess(name, pid, sentinel)  # type: ignore[attr-defined]
