"""Worker processes of this session's own: how they are asked for."""

from __future__ import annotations

import os
import sys
from multiprocessing import util
from typing import Any, Sequence

from . import wire
from .client import Handler, Session

#: What an interpreter reads before any code of ours runs; the rest of the environment comes with the setup.
_EARLY = ("PYTHON", "LD_", "LC_", "LANG", "MALLOC_", "GLIBC_", "VIRTUAL_ENV", "TZ")
#: Another interpreter than this one, if set_executable() named it.
executable: str | None = None


def runtime_command() -> list[str]:
    """The runtime as this interpreter would run it: its flags, and this very package."""
    here = os.path.dirname(os.path.abspath(__file__))
    flags = util._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return [executable or sys.executable, *flags, os.path.join(here, "runtime", "__main__.py")]


def early_environment() -> dict[str, str]:
    found = {name: value for name, value in os.environ.items() if name.startswith(_EARLY)}
    found.setdefault("PYTHONPATH", "")  # the daemon's own must not count
    return found


def standard_streams(stdout: Any = None, stderr: Any = None) -> list[int]:
    """This process's streams, or those given instead, as descriptors for the workers; the caller closes them."""
    streams = []
    for number, given in enumerate((None, stdout, stderr)):
        fd = number if given is None else given if isinstance(given, int) else given.fileno()
        try:
            streams.append(os.dup(fd))
        except OSError:  # closed here
            streams.append(os.open(os.devnull, os.O_RDWR))
    return streams


def open_pool(session: Session, handler: Handler, head: dict[str, Any], setup: int, streams: Sequence[int]) -> None:
    """Asks for a pool of Python workers; `handler` gets the reply. Closes the descriptors."""
    head = {"runtime": "python", "command": runtime_command(), "environment": early_environment(), "setup": True, **head}
    if "python" not in session.welcome.get("capabilities", ()):
        raise RuntimeError("this daemon is too old for Python pools")
    request = session.new_request()
    session.expect(request, handler)
    fds = [*streams, setup]
    session.send(wire.encode(wire.POOL_OPEN, head=head, request=request, fds=len(fds)), OwnedFds(fds))
    session.flush()


class OwnedFds(list):  # type: ignore[type-arg]
    """Descriptors that are closed once they are sent."""

    def __del__(self) -> None:
        for fd in self:
            os.close(fd)


def close_pool(session: Session, name: str, terminate: bool) -> None:
    """Ends a pool; nobody waits for that."""
    head = {"pool": name, "terminate": terminate}
    session.post(wire.encode(wire.POOL_CLOSE, head=head, request=session.new_request()))


