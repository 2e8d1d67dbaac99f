"""The session's shared memory for large items. PROTOCOL.md, section 2."""

from __future__ import annotations

import bisect
import mmap
import os
import threading
from typing import Callable

from . import wire

Region = tuple[int, int, int]  # segment, offset, bytes, as a reference names it
_SMALLEST_SEGMENT = 16 << 20


def _round_up(size: int) -> int:
    return -(-size // wire.ARENA_ALIGNMENT) * wire.ARENA_ALIGNMENT


#: Kept beside what they do: Python 3.11 does not name them. Older kernels refuse them, and pages are then mapped as they are touched.
_MADV_POPULATE_READ, _MADV_POPULATE_WRITE = 22, 23
#: Bytes from which it pays to have pages mapped in one go: each that is mapped when it is touched costs an exception.
_LEAST_POPULATED = 1 << 18


class Memory:
    """The mapped memory of a segment."""

    __slots__ = ("size", "_memory", "_mapping", "_populate", "_populated")

    def __init__(self, fd: int, size: int, may_write: bool) -> None:
        prot = mmap.PROT_READ | (mmap.PROT_WRITE if may_write else 0)
        self.size = size
        self._mapping = mmap.mmap(fd, size, prot=prot)
        self._memory = memoryview(self._mapping)
        self._populate = _MADV_POPULATE_WRITE if may_write else _MADV_POPULATE_READ
        self._populated = 0  # bytes from the start whose pages are mapped, or have been left to themselves

    def part(self, offset: int, size: int) -> memoryview:
        """That much of it, all of which is about to be touched."""
        end = offset + size
        if end > self._populated and size >= _LEAST_POPULATED:
            begin = max(offset, self._populated) // mmap.PAGESIZE * mmap.PAGESIZE
            self._populated = end
            try:
                self._mapping.madvise(self._populate, begin, end - begin)
            except OSError:
                pass
        return self._memory[offset:end]


class _Space:
    """The free parts of one segment: first fit, neighbours joined."""

    def __init__(self, size: int) -> None:
        self._free = [(0, size)]

    def take(self, size: int) -> int | None:
        for index, (offset, room) in enumerate(self._free):
            if room >= size:
                if room == size:
                    del self._free[index]
                else:
                    self._free[index] = (offset + size, room - size)
                return offset
        return None

    def give(self, offset: int, size: int) -> None:
        index = bisect.bisect(self._free, (offset, 0))
        if index < len(self._free) and offset + size == self._free[index][0]:
            size += self._free.pop(index)[1]
        if index > 0 and sum(self._free[index - 1]) == offset:
            offset, before = self._free[index - 1]
            self._free[index - 1] = (offset, before + size)
        else:
            self._free.insert(index, (offset, size))


class UpArena:
    """Memory for what the client sends; the client hands it out. `open_segment` asks the daemon for a segment of at least so
    many bytes and returns its number, its size and its descriptor; it raises DaemonError `out_of_space`."""

    def __init__(self, open_segment: Callable[[int], tuple[int, int, int]]) -> None:
        self._open_segment = open_segment
        self._lock = threading.Lock()
        self._segments: dict[int, tuple[Memory, _Space]] = {}

    def allocate(self, size: int) -> tuple[Region, memoryview]:
        """A region and its memory. Raises DaemonError `out_of_space`."""
        rounded = _round_up(size)
        with self._lock:
            found = self._find(size, rounded)
        if found:
            return found
        number, segment_bytes, fd = self._open_segment(max(rounded, _SMALLEST_SEGMENT))
        try:
            memory = Memory(fd, segment_bytes, True)
        finally:
            os.close(fd)
        with self._lock:
            self._segments[number] = (memory, _Space(segment_bytes))
            found = self._find(size, rounded)
        assert found, "a fresh segment has room"
        return found

    def _find(self, size: int, rounded: int) -> tuple[Region, memoryview] | None:
        for number, (memory, space) in self._segments.items():
            offset = space.take(rounded)
            if offset is not None:
                return (number, offset, size), memory.part(offset, size)
        return None

    def release(self, region: Region) -> None:
        """The daemon has no further use for it: the task that it belongs to has ended."""
        number, offset, size = region
        with self._lock:
            self._segments[number][1].give(offset, _round_up(size))


class DownArena:
    """Memory in which results arrive; the supervisor hands it out."""

    def __init__(self) -> None:
        self._segments: dict[int, Memory] = {}

    def attach(self, number: int, size: int, fd: int) -> None:
        try:
            self._segments[number] = Memory(fd, size, False)
        finally:
            os.close(fd)

    def view(self, region: Region) -> memoryview:
        """Raises BrokenStream for a region that is in no segment."""
        number, offset, size = region
        if size == 0:
            return memoryview(b"")
        memory = self._segments.get(number)
        if memory is None or offset + size > memory.size:
            raise wire.BrokenStream(f"a result in segment {number}, which has no {size} bytes at {offset}")
        return memory.part(offset, size)
