"""Finds the daemon to talk to, and starts a private one where none runs."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from typing import NamedTuple

from .errors import DaemonError, DaemonGone, NoDaemon, TaskTimeout

SYSTEM_SOCKET = "/run/taskpool/taskpool.sock"
_FIRST_POLL, _LONGEST_POLL = 0.001, 0.02  # seconds
#: A private daemon leaves after so long without work and clients.
_IDLE_EXIT = "60s"
_BUILD_DIGITS = 12


class Place(NamedTuple):
    """Where a daemon may listen."""

    socket: str
    is_private: bool


def connect(path: str) -> socket.socket:
    """A connection to the daemon there. Raises NoDaemon, PermissionError, OSError."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        connection.connect(path)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        connection.close()
        raise NoDaemon(f"no daemon listens on {path}") from None
    except BaseException:
        connection.close()
        raise
    return connection


def find_program(name: str = "taskpoold") -> str | None:
    """The daemon's program: in $TASKPOOL_HOME/bin, beside the interpreter, or in $PATH."""
    directories = [os.path.dirname(sys.executable or "")]
    if home := os.environ.get("TASKPOOL_HOME"):
        directories.insert(0, os.path.join(home, "bin"))
    for directory in filter(None, directories):
        path = os.path.join(directory, name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return shutil.which(name)


def places(named: str | None = None) -> list[Place]:
    """Where to look, in order. Raises NoDaemon if there is nowhere."""
    if named or (named := os.environ.get("TASKPOOL_SOCKET")):
        return [Place(named, False)]
    found = [Place(SYSTEM_SOCKET, False)] if _is_ours(SYSTEM_SOCKET) else []
    program = find_program()
    if program is not None:
        found.append(Place(private_socket(program), True))
    if not found:
        raise NoDaemon("no daemon runs, and no taskpoold is in $TASKPOOL_HOME/bin, beside this interpreter or in $PATH")
    return found


def _is_ours(path: str) -> bool:
    """True for a system daemon that runs workers as this user: another's would run our functions as somebody else."""
    try:
        return os.stat(path).st_uid == os.geteuid()
    except OSError:
        return False


def private_socket(program: str) -> str:
    """Where the private daemon of this user and this build listens."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime and os.access(runtime, os.W_OK):
        directory = os.path.join(runtime, "taskpool")
    else:
        parent = "/dev/shm" if os.access("/dev/shm", os.W_OK) else "/tmp"
        directory = f"{parent}/taskpool-{os.geteuid()}"
    return f"{directory}/taskpool-{_build_id(program)[:_BUILD_DIGITS]}.sock"


_build_ids: dict[tuple[str, int, int], str] = {}


def _build_id(program: str) -> str:
    """What tells the program's build from others, so that nobody talks to yesterday's daemon after a rebuild."""
    status = os.stat(program)
    key = (program, status.st_ino, status.st_mtime_ns)
    if key not in _build_ids:
        asked = subprocess.run([program, "--build-id"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
        if asked.returncode != 0:
            raise NoDaemon(f"{program} --build-id: {asked.stderr.strip() or asked.returncode}")
        _build_ids[key] = asked.stdout.strip()
    return _build_ids[key]


def start(path: str, deadline: float) -> None:
    """Starts a private daemon on the socket, unless somebody else has meanwhile. `deadline` is of time.monotonic(). Raises
    NoDaemon with the daemon's own words, TaskTimeout, PermissionError."""
    program = find_program()
    if program is None:
        raise NoDaemon("no taskpoold is in $TASKPOOL_HOME/bin, beside this interpreter or in $PATH")
    _check_directory(os.path.dirname(path))
    # One starter at a time: the others wait here and then find it running. The lock goes with the descriptor.
    lock = os.open(path + ".start", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        _lock(lock, path, deadline)
        if _listens(path):
            return
        log = path + ".log"
        try:
            os.unlink(log)  # of the last daemon: it must not grow for ever
        except FileNotFoundError:
            pass
        pidfd = _spawn(program, path, log)
        try:
            _await(program, path, log, pidfd, deadline)
        finally:
            if pidfd is not None:
                os.close(pidfd)
    finally:
        os.close(lock)


def _check_directory(path: str) -> None:
    """Makes the directory, and checks on an open descriptor that it is ours and nobody else's: in /tmp anybody could have
    made it first."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    directory = os.open(path, os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(directory)
    finally:
        os.close(directory)
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise PermissionError(f"{path}: not a directory of this user alone")


def _lock(lock: int, path: str, deadline: float) -> None:
    pause = _FIRST_POLL
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TaskTimeout(f"{path}.start: another process is starting the daemon") from None
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_POLL)


def _listens(path: str) -> bool:
    try:
        connect(path).close()
    except DaemonError:
        return False
    return True


# Starts the daemon as nobody's child, in a session of its own, and prints its pid. A program of its own, because a fork of
# this one, which may have threads and large memory, would have to be an exec at once anyway.
_STARTER = """\
import os, sys
os.setsid()
pid = os.fork()
if pid:
    print(pid, flush=True)
    os._exit(0)
log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
null = os.open(os.devnull, os.O_RDWR)
os.dup2(null, 0); os.dup2(null, 1); os.dup2(log, 2)
os.closerange(3, 1024)
os.chdir("/")
os.execv(sys.argv[2], sys.argv[2:])
"""


def _spawn(program: str, path: str, log: str) -> int | None:
    """Returns the daemon's pidfd, or None if it has ended already."""
    concerns_us = {"TASKPOOL_WORKER_TOKEN", "TASKPOOL_SOCKET"}
    environment = {name: value for name, value in os.environ.items() if name not in concerns_us}
    starter = subprocess.run(
        [sys.executable, "-S", "-E", "-c", _STARTER, log, program, "--socket", path, "--idle-exit", _IDLE_EXIT, "--audit", "none"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment, check=True, timeout=30, restore_signals=True)
    try:
        return os.pidfd_open(int(starter.stdout))
    except ProcessLookupError:
        return None


def _await(program: str, path: str, log: str, pidfd: int | None, deadline: float) -> None:
    import select

    pause = _FIRST_POLL
    while not _listens(path):
        if pidfd is None or select.select([pidfd], [], [], 0)[0]:
            raise NoDaemon(f"{program} ended: {_last_line(log)}")
        if time.monotonic() > deadline:
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
            raise TaskTimeout(f"{program} does not listen yet: {_last_line(log)}")
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_POLL)


def _last_line(path: str) -> str:
    try:
        with open(path, errors="replace") as file:
            lines = file.read()[-4096:].strip().splitlines()
    except OSError:
        return f"no log at {path}"
    return lines[-1] if lines else "it said nothing"


def may_start(error: BaseException) -> bool:
    """True if this is what an absent, or a just leaving, daemon looks like."""
    return isinstance(error, (NoDaemon, DaemonGone))
