"""The claim page that a worker shares with the supervisor. PROTOCOL.md, section 3.2."""

from __future__ import annotations

import struct
import time
from typing import Any, Callable

try:
    from .. import _native  # type: ignore[attr-defined]
except ImportError:
    _native = None  # type: ignore[assignment]

MAGIC = 0x31505443
OUTBOX_OFFSET = 4096
OUTBOX_BYTES = 2 << 20
PAGE_BYTES = OUTBOX_OFFSET + OUTBOX_BYTES

# Indices of words of four or eight bytes.
_INTERRUPT_8 = 72 // 8
_RUNNING, _BUSY, _FINISHED, _OUTBOX_BYTES, _OUTBOX_RESETS, _POSITION = 32, 33, 34, 35, 36, 43
_STARTED_8, _WORKED_8 = 152 // 8, 160 // 8

Failed = Callable[[int, BaseException], None]


def initialize(memory: memoryview) -> None:
    """In the zygote: what the page begins with."""
    struct.pack_into("<II", memory, 0, MAGIC, OUTBOX_BYTES)


class PlainPage:
    """The page without the extension: Python cannot compare and swap, so that the supervisor claims for the worker (`claims`
    of `ready` is false). Each word is written by one store of its own size, which other processes see whole."""

    claims = False

    def __init__(self, memory: memoryview) -> None:
        self._words = memory[:OUTBOX_OFFSET].cast("I")
        self._longs = memory[:OUTBOX_OFFSET].cast("Q")

    def claim(self, ticket: int) -> bool:
        """Takes the ticket and marks the worker busy with it. False: it was taken back."""
        self._longs[_STARTED_8] = time.monotonic_ns()
        self._words[_POSITION] = 0
        self._words[_RUNNING] = ticket
        self._words[_BUSY] = 1
        return True

    def finish(self, ticket: int) -> None:
        """The result of the ticket is published."""
        self._words[_FINISHED] = (ticket + 1) & 0xFFFFFFFF
        self._words[_BUSY] = 0
        self._longs[_WORKED_8] += time.monotonic_ns() - self._longs[_STARTED_8]

    def skip(self, ticket: int) -> None:
        """The ticket was taken back; nothing of it has run."""
        self._words[_FINISHED] = (ticket + 1) & 0xFFFFFFFF

    def publish(self, size: int) -> None:
        """The outbox holds so many bytes of whole frames."""
        self._words[_OUTBOX_BYTES] = size

    def reset(self) -> None:
        """What the outbox held was sent; it is about to be overwritten."""
        self._words[_OUTBOX_BYTES] = 0
        self._words[_OUTBOX_RESETS] = (self._words[_OUTBOX_RESETS] + 1) & 0xFFFFFFFF

    def interrupt(self) -> int:
        """Why what runs is asked to stop: 1 cancelled, 2 soft timeout; 0 if it is not."""
        word = self._longs[_INTERRUPT_8]
        meant = word & 0xFFFFFFFF == (self._words[_RUNNING] + 1) & 0xFFFFFFFF and self._words[_BUSY]
        return word >> 32 if meant else 0

    def map(self, function: Callable[..., Any], elements: list[Any], star: bool, failed: Failed) -> list[Any]:
        """Calls the function with each element, or with each as its arguments, while the page says which. What raises an
        Exception is told to `failed` and is None in the list; anything else is raised."""
        words = self._words
        outcomes: list[Any] = []
        append = outcomes.append
        for position, element in enumerate(elements):
            words[_POSITION] = position
            try:
                append(function(*element) if star else function(element))
            except Exception as error:
                append(None)
                failed(position, error)
        return outcomes


Page: Any = PlainPage if _native is None else _native.Page
