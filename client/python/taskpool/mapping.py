"""The segments of the store that a session has mapped, and what reads them: the extension, or Python."""

from __future__ import annotations

import mmap
import os
from typing import Any

from . import segment

try:
    from ._segment import AskDaemon, Segment, setup  # type: ignore[import-not-found]
    READER = "extension"
except ImportError:  # not built: the same in Python, if this machine lets Python read memory that somebody else writes
    from .segment import AskDaemon, Segment, setup
    READER = "python" if segment.is_safe else "daemon"


#: Where a segment says whose it is, and how that begins if it is a user's.
_DOMAIN_OFFSET, _USER = 40, b"uid:"

__all__ = ["AskDaemon", "READER", "Segments", "UNMAPPED", "is_trusted", "setup"]


class Unmapped:
    """The reader of what is in no segment that this process can read: the daemon is asked for everything."""

    def get(self, name: Any, default: Any) -> Any:
        raise AskDaemon("unmapped")

    def contains(self, name: Any) -> bool:
        raise AskDaemon("unmapped")

    def item(self, index: Any) -> Any:
        raise AskDaemon("unmapped")

    def length(self) -> int:
        raise AskDaemon("unmapped")

    def keys(self) -> list[Any]:
        raise AskDaemon("unmapped")

    def values(self) -> list[Any]:
        raise AskDaemon("unmapped")

    def items(self) -> list[tuple[Any, Any]]:
        raise AskDaemon("unmapped")

    def snapshot(self) -> tuple[int, list[Any]]:
        raise AskDaemon("unmapped")

    def value(self) -> Any:
        raise AskDaemon("unmapped")


UNMAPPED = Unmapped()


class Segments:
    """What one session has mapped: nothing if its daemon is not trusted, which writes all of it."""

    def __init__(self, is_trusted: bool) -> None:
        self._is_used = is_trusted and READER != "daemon"
        self._segments: dict[int, Any] = {}
        self._own: set[int] = set()  # segments to which nobody else writes

    def attach(self, number: int, size: int, fd: int) -> None:
        """Maps a segment; takes the descriptor. One that cannot be read is left to the daemon."""
        try:
            if os.pread(fd, len(_USER), _DOMAIN_OFFSET) == _USER:
                self._own.add(number)
            if self._is_used:
                self._segments[number] = Segment(mmap.mmap(fd, size, prot=mmap.PROT_READ))
        except (OSError, ValueError):
            pass
        finally:
            os.close(fd)

    def has_one_writer(self, about: dict[str, Any]) -> bool:
        """Whether only this user wrote what is in the object that `object_open` told about."""
        return about.get("segment", -1) in self._own

    def reader(self, about: dict[str, Any]) -> Any:
        """What reads the object that `object_open` told about."""
        found = self._segments.get(about.get("segment", -1))
        if found is None:
            return UNMAPPED
        try:
            return found.find(about["offset"], about["id"])
        except AskDaemon:
            return UNMAPPED


def is_trusted(writer: int) -> bool:
    """Whether pickles of that user may be read: he might run what he likes as this user anyway."""
    return writer in (os.geteuid(), 0)
