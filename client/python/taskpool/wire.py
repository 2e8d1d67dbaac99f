"""Frames: bytes in, frames out, and back. PROTOCOL.md, sections 1 and 2. No sockets."""

from __future__ import annotations

import json
import struct
from typing import Any, Iterable, NamedTuple, Sequence

VERSION = 1
PREFIX = struct.Struct("<IHBBQIIBB6x")  # body, head, op, flags, request, target, count, encoding, fds
PREFIX_BYTES = PREFIX.size
REFERENCE = struct.Struct("<QQQ")  # segment, offset, bytes
MAX_BODY_BYTES = 1 << 20
MAX_HEAD_BYTES = 65535
MAX_INLINE_ITEM_BYTES = 1 << 16
PACK_BYTES = 1 << 16
ARENA_ALIGNMENT = 64
MAX_SEGMENTS = 64
MAX_PREPARED_CALLS = 4096
MAX_FUNCTION_BYTES = 1024
MAX_EXCEPTION_BYTES = 24 * 1024

HELLO, WELCOME, ERROR, OK, PREPARE, FORGET, APPLY, RESULT, MAP, INPUT, RESULTS, FAILED, DONE, PROGRESS, CANCEL = range(1, 16)
WAIT, FETCH, PS, WORKERS, POOLS, STATS, FUNCTIONS, FAILURES, POOL_OPEN, POOL_CLOSE, POOL_RESIZE = range(16, 27)
POOL_PAUSE, POOL_RESUME, RELOAD, DRAIN, SHUTDOWN, PING, ARENA_OPEN, ARENA_SEGMENT, ARENA_RELEASE, NESTED_WAIT = range(27, 37)
RUN, RUN_RESULTS, RUN_FAILED, DEFINE, ATTACH, DETACH, WANT_ROOM, ROOM, REPORT, WORKER_READY, WORKER_FAILED = range(64, 75)
OBJECT_OPEN, OBJECT_CLOSE, OBJECT_DELETE, STORE, STORE_REPLY, WATCH, CHANGED = range(128, 135)
RELEASE_REFS = 138
START, READY, START_FAILED, FORK, FORKED, FORK_FAILED, EXITED = range(96, 103)

IN_ARENA, LAST, QUIET = 1, 2, 2  # flags; the last one is of the store's requests
NONE, AS_JSON, AS_BYTES, AS_PICKLE = range(4)  # encodings; from 16 on: arrays of numbers
#: Encodings of arrays and the type codes that the modules array and struct have for them.
NUMBERS = dict(zip(range(16, 26), "bhiqBHIQfd"))

#: json.dumps() and json.loads() would make an encoder each time, and look for the encoding: in a new worker, memory of its own.
_to_text = json.JSONEncoder(separators=(",", ":")).encode
_from_text = json.JSONDecoder().decode


class Frame(NamedTuple):
    """One frame. `body` is bytes of its own; `fds` are owned by whoever takes the frame."""

    op: int
    flags: int
    request: int
    target: int
    count: int  # type: ignore[assignment]
    encoding: int
    head: bytes
    body: bytes
    fds: Sequence[int] = ()

    def fields(self) -> dict[str, Any]:
        """The head as an object. Raises ValueError for one that is none."""
        if not self.head:
            return {}
        fields = _from_text(self.head.decode())
        if not isinstance(fields, dict):
            raise ValueError("head: not an object")
        return fields


class BrokenStream(Exception):
    """The bytes cannot be followed any further: the connection has to close."""


def encode(op: int, *, head: dict[str, Any] | None = None, body: bytes = b"", flags: int = 0, request: int = 0,
           target: int = 0, count: int = 0, encoding: int = 0, fds: int = 0) -> bytes:
    """One frame. Raises ValueError for a head that is too large for one."""
    text = _to_text(head).encode() if head else b""
    if len(text) > MAX_HEAD_BYTES:
        raise ValueError(f"a head of {len(text)} bytes: at most {MAX_HEAD_BYTES}")
    return PREFIX.pack(len(body), len(text), op, flags, request, target, count, encoding, fds) + text + body


def decode(data: bytes) -> Frame:
    """The one frame that the bytes are. Raises BrokenStream."""
    decoder = Decoder()
    decoder.feed(data)
    frame = decoder.next()
    if frame is None:
        raise BrokenStream("half a frame")
    return frame


class Decoder:
    """Cuts a stream into frames; any split of it is fine."""

    def __init__(self) -> None:
        self._data = b""
        self._at = 0
        self._fds: list[int] = []

    def feed(self, data: bytes, fds: Iterable[int] = ()) -> None:
        """Appends what arrived, and the descriptors that came with it."""
        self._data = self._data[self._at:] + data if self._at < len(self._data) else data
        self._at = 0
        self._fds.extend(fds)

    def next(self) -> Frame | None:
        """The next whole frame, or None. Raises BrokenStream."""
        data, at = self._data, self._at
        if len(data) - at < PREFIX_BYTES:
            return None
        body, head, op, flags, request, target, count, encoding, fds = PREFIX.unpack_from(data, at)
        if body > MAX_BODY_BYTES:
            raise BrokenStream(f"a frame of {body} bytes")
        begin = at + PREFIX_BYTES
        middle = begin + head
        end = middle + body
        if end > len(data):
            return None
        passed: Sequence[int] = ()
        if fds:
            if fds > len(self._fds):
                raise BrokenStream("a frame's descriptors did not arrive")
            passed, self._fds = self._fds[:fds], self._fds[fds:]
        self._at = end
        return Frame(op, flags, request, target, count, encoding, data[begin:middle], data[middle:end], passed)

    def has_frame(self) -> bool:
        """Whether next() would return one, or raise."""
        have = len(self._data) - self._at
        return have >= PREFIX_BYTES and self.missing() <= 0

    def missing(self) -> int:
        """How many bytes the frame that has begun still needs, at least; 0 if none has."""
        have = len(self._data) - self._at
        if have < PREFIX_BYTES:
            return 0
        body, head = PREFIX.unpack_from(self._data, self._at)[:2]
        return PREFIX_BYTES + head + body - have


def pack(items: Sequence[bytes]) -> bytes:
    """Several items as one packed body."""
    return struct.pack(f"<{len(items)}I", *map(len, items)) + b"".join(items)


def unpack(count: int, body: bytes) -> list[memoryview]:
    """The items of a packed body. Raises BrokenStream for a table that is not that of the body."""
    offset = 4 * count
    if offset > len(body):
        raise BrokenStream("packed: the body is shorter than its table")
    view = memoryview(body)
    items = []
    for size in struct.unpack_from(f"<{count}I", body):
        items.append(view[offset:offset + size])
        offset += size
    if offset != len(body):
        raise BrokenStream("packed: the lengths do not sum to the body")
    return items


def references(body: bytes) -> list[tuple[int, int, int]]:
    """The (segment, offset, bytes) of a body in an arena. Raises BrokenStream."""
    if len(body) % REFERENCE.size:
        raise BrokenStream("references: the body is not a list of them")
    return [(segment, offset, size) for segment, offset, size in REFERENCE.iter_unpack(body)]
