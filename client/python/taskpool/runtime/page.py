"""The claim page that a worker shares with the supervisor. PROTOCOL.md, section 3.2."""

from __future__ import annotations

import os
import socket
import struct
import time
from typing import Any, Callable

from .. import wire

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

#: The outbox is sent when it has more than this, or when its oldest result has waited so long and another item begins.
FLUSH_BYTES = 32 * 1024
_FLUSH_SECONDS = 0.001

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
        self._outbox = memory[OUTBOX_OFFSET:]
        self._pid = os.getpid()
        #: Bytes that the outbox holds.
        self.used = 0
        self._oldest = 0.0
        #: Ticket, encoding and item of what it holds, as long as all of that may be joined.
        self._joinable: list[tuple[int, int, bytes]] = []
        self._others = False

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

    def is_due(self) -> bool:
        """Whether the outbox is to be sent before another item begins: its oldest result has waited long enough."""
        return self.used > 0 and time.monotonic() - self._oldest > _FLUSH_SECONDS

    def add(self, channel: socket.socket, data: bytes) -> None:
        """Puts a frame into the outbox. Raises OSError if that has to be sent first and cannot be."""
        self._others = True
        self._add(channel, data)

    def add_result(self, channel: socket.socket, ticket: int, is_single: bool, encoding: int, item: bytes) -> None:
        """Puts a result that fits into a frame into the outbox; those of a map may be sent as one frame."""
        head = wire.PREFIX.pack(len(item) + 4, 0, wire.RUN_RESULTS, 0, ticket, 0, 1, encoding, 0)
        if is_single:
            self._others = True
        self._add(channel, head + len(item).to_bytes(4, "little") + item)
        if not is_single:
            self._joinable.append((ticket, encoding, item))

    def _add(self, channel: socket.socket, data: bytes) -> None:
        others = self._others
        if self.used + len(data) > OUTBOX_BYTES:
            self.flush(channel)
            self._others = others
        if not self.used:
            self._oldest = time.monotonic()
        self._outbox[self.used:self.used + len(data)] = data
        self.used += len(data)
        self._words[_OUTBOX_BYTES] = self.used

    def flush(self, channel: socket.socket) -> None:
        """Sends what the outbox holds. Raises OSError."""
        if not self.used:
            return
        if os.getpid() != self._pid:  # a task that forked and returned in the child
            os._exit(0)
        channel.sendall(self._joined() or self._outbox[:self.used])
        self._words[_OUTBOX_BYTES] = 0
        self._words[_OUTBOX_RESETS] = (self._words[_OUTBOX_RESETS] + 1) & 0xFFFFFFFF
        self.used = 0
        self._joinable.clear()
        self._others = False

    def _joined(self) -> bytes | None:
        """What the outbox holds as one frame, if it is the results of several consecutive tickets of a map."""
        items = self._joinable
        if self._others or len(items) < 2:
            return None
        first, encoding, _ = items[0]
        if (items[-1][0] - first) & 0xFFFFFFFF != len(items) - 1 or any([item[1] != encoding for item in items]):
            return None
        body = wire.pack([item[2] for item in items])
        return wire.PREFIX.pack(len(body), 0, wire.RUN_RESULTS, 0, first, 0, len(items), encoding, 0) + body

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
