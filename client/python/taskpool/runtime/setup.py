"""What a pool's workers begin with, besides their streams: written by the client, read by each worker. PROTOCOL.md, 3.6."""

from __future__ import annotations

import array
import io
import os
import pickle
import socket
import struct
import sys
from multiprocessing import context, process, reduction, spawn, util
from typing import Any

from .. import logs, names

#: The message's bytes: for a pool; for a process, whose first descriptor is where it tells of its birth.
_POOL, _PROCESS = b"pool", b"proc"
_PID = struct.Struct("<I")
_MOST_FDS = 250  # of one message; the kernel takes 253


class Passed:
    """A descriptor inside a pickle: its number in the message. Has the interface of multiprocessing's DupFd."""

    arrived: list[int] = []

    def __init__(self, index: int) -> None:
        self._index = index

    def detach(self) -> int:
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
        socket.send_fds(ours, [_POOL if birth is None else _PROCESS], [memory, *collector.fds])
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
    if util._logger is not None:  # type: ignore[attr-defined]
        data["log_level"] = util._logger.getEffectiveLevel()  # type: ignore[attr-defined]
    main = names.main_module()
    if main is not None:
        data[f"init_main_from_{main[0]}"] = main[1]
    return data


def read(setup: int, environment: dict[str, str]) -> Any:
    """In the worker: prepares the process and returns the content. `environment` is added to the client's. Raises whatever
    the client's main module raises when it is imported."""
    with socket.socket(fileno=setup) as end:
        room = socket.CMSG_SPACE(253 * array.array("i").itemsize)
        word, ancillary, _, _ = end.recvmsg(len(_POOL), room, socket.MSG_PEEK | socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, passed in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(passed)
    if word not in (_POOL, _PROCESS) or not fds:
        raise ValueError("the pool's setup is not one of this runtime")
    Passed.arrived = list(fds[1:])
    if word == _PROCESS:
        tell_birth(Passed.arrived[0])
    with open(os.dup(fds[0]), "rb") as file:
        os.close(fds[0])
        file.seek(0)
        data = file.read()
    stream = io.BytesIO(data)
    current = process.current_process()
    current._inheriting = True  # type: ignore[attr-defined]  # so that a main module without a guard is told so
    try:
        preparation = pickle.load(stream)
        os.environ.clear()
        os.environ.update(preparation.pop("environment"))
        os.environ.update(environment)
        _set_parent(*preparation.pop("parent"))
        log, log_level = preparation.pop("log")
        spawn.prepare(preparation)
        logs.install(log.detach(), log_level)
        return pickle.load(stream)
    finally:
        del current._inheriting  # type: ignore[attr-defined]


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
