"""multiprocessing's resource tracker, a process that removes the shared memory which a program has left behind.

Workers tell the program's, or nobody: one of a worker's own would remove, when that worker ends, what others use."""

from __future__ import annotations

import os
import sys
from multiprocessing import resource_tracker
from typing import Any

_tracker: Any = resource_tracker._resource_tracker  # type: ignore[attr-defined]
_adopted: int | None = None


def descriptor() -> int | None:
    """Where workers tell the tracker of this program; None if it has none, and seems to need none."""
    if _adopted is not None:
        return _adopted
    if f"{__package__}.shared_memory" in sys.modules:
        _tracker.ensure_running()
    fd: int | None = _tracker._fd
    if fd is not None:
        _tracker._stop = _do_not_await
    return fd


def _do_not_await(*_: object, **__: object) -> None:
    """Later Pythons stop the tracker at their end, and wait for it. It ends when nobody can tell it anything any more, and the
    process that workers are forked from can until this one has ended."""


def adopt(fd: int | None) -> None:
    """In a worker: what it does with shared memory is told there, from now on."""
    global _adopted
    _adopted = fd
    send_own = type(_tracker)._send

    def send(command: str, name: str, kind: str) -> None:
        if kind != "shared_memory":
            send_own(_tracker, command, name, kind)
        elif fd is not None:
            try:
                os.write(fd, f"{command}:{name}:{kind}\n".encode("ascii"))
            except OSError:  # it has gone
                pass

    _tracker._send = send
