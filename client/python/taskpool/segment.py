"""Reading the store's segments without asking the daemon, in plain Python: PROTOCOL.md, section 6, "Reading".

The extension module `_segment` does the same, faster. Loads are not ordered by anything but the machine here, so this is used only
where the machine keeps the order of loads (`is_safe`); elsewhere, without the extension, the daemon is asked.

A reader raises AskDaemon when the mapping does not tell: the object is gone, or it changed all the while."""

from __future__ import annotations

import mmap
import platform
import struct
import time
from typing import Any, Callable, NamedTuple, TypeVar

#: Whether a later load of this machine never sees older memory than an earlier one.
is_safe = platform.machine() in ("x86_64", "i686", "i386", "AMD64")

_TRIES = 64
_MAGIC, _FORMAT, _LIVE = 0x3145524F54535054, 2, 1
_UNIT = 64 * 1024
# Words of the header, of an object's record, of a block.
_BOUND, _SEED, _OWNER, _CHECK, _STATE, _USED = 2, 3, 4, 13, 14, 15
_ROOT, _ABOUT, _VERSION, _COUNT = 1, 2, 8, 9
_RECORD_WORDS, _HEADER_WORDS, _SLOTS_AT = 16, 4, 6
_PLACE = (1 << 36) - 1
_SEQUENCES = (1 << 28) - 1
_ENTRY, _TABLE, _NODE = 0, 1, 2
_HAS_EXPIRY, _HAS_REFS, _HAS_WRITER = 1, 2, 4
_MOST_REFS, _MOST_KEY, _MOST_VALUE = 4096, 1024, 8 << 20
_LEAF_ITEMS, _BRANCHES, _MOST_LEVELS = 60, 62, 8
_MASK = (1 << 64) - 1
_C1, _C2, _C3 = 0x9E3779B97F4A7C15, 0xD1B54A32D192ED03, 0x8CB92BA72F3D8DD7
_I64, _F64, _JSON, _BYTES = 19, 25, 1, 2
_REAL = struct.Struct("<d")
# Native words: each is loaded at once, and one after the other.
_SLOT, _HEADER = struct.Struct("@2Q"), struct.Struct("@4Q")
#: Slots that are looked at with less ado.
_NEARBY = 32
#: Keys whose canonical bytes and hashes are kept.
_MOST_KEPT = 4096
_KEPT_TYPES = frozenset((int, str, bytes))

_T = TypeVar("_T")


class AskDaemon(Exception):
    """The mapping does not tell: the daemon does."""


class _Changed(Exception):
    """Something was replaced while it was read: start over."""


class _Entry(NamedTuple):
    key: bytes
    order: int
    encoding: int
    writer: int
    data: bytes


def _mix(a: int, b: int) -> int:
    product = a * b
    return (product & _MASK) ^ (product >> 64)


def hash_key(key: bytes, seed: int) -> int:
    """The hash of a key's canonical bytes."""
    state = seed ^ _C1
    padded = key + bytes(-len(key) % 16)
    words = struct.unpack(f"<{len(padded) // 8}Q", padded)
    for a, b in zip(words[::2], words[1::2]):
        state = _mix(a ^ _C2 ^ seed, b ^ state)
    return _mix(state ^ _C3, len(key) ^ _C1) or 1


_decode: Callable[[int, bytes, int], Any]
_encode_key: Callable[[Any], bytes]
_decode_key: Callable[[bytes, int], Any]


def setup(decode: Callable[[int, bytes, int], Any], encode_key: Callable[[Any], bytes],
          decode_key: Callable[[bytes, int], Any]) -> None:
    """How values (encoding, data, the writer's uid) and keys (data, the writer's uid) are read, and keys are written."""
    global _decode, _encode_key, _decode_key
    _decode, _encode_key, _decode_key = decode, encode_key, decode_key


class Segment:
    """A segment of the store, mapped whole. Raises ValueError for what is none."""

    def __init__(self, memory: mmap.mmap) -> None:
        if len(memory) < 16 * _UNIT:
            raise ValueError("segment: too short")
        self.memory = memory
        self.words = words = memoryview(memory).cast("Q")
        if words[0] != _MAGIC or words[1] != _FORMAT:
            raise ValueError("segment: no magic, or another format")
        if words[_CHECK] != hash_key(memory[:8 * _CHECK], _MAGIC) or words[_BOUND] != len(memory):
            raise ValueError("segment: its header is damaged")
        self.seed, self.owner = words[_SEED], words[_OWNER] & 0xFFFFFFFF
        self.bound = len(memory) // 8
        self.seen_used = self.used()
        self.kept: dict[Any, tuple[bytes, int]] = {}  # canonical bytes and hashes of keys

    def find(self, offset: int, number: int) -> Reader:
        """The reader of the object with that id at that offset."""
        place = offset // 8
        if offset % 8 or place + _RECORD_WORDS > self.used() or self.words[place] != number or not number:
            raise AskDaemon("gone")
        return Reader(self, place, number)

    def used(self) -> int:
        """Words that exist. Their number only grows."""
        self.seen_used = used = min(self.words[_USED] // 8, self.bound)
        return used

    def key(self, name: Any) -> tuple[bytes, int]:
        """The canonical bytes and the hash of a key."""
        if type(name) not in _KEPT_TYPES:
            encoded = _encode_key(name)
            return encoded, hash_key(encoded, self.seed)
        kept = self.kept.get(name)
        if kept is None:
            encoded = _encode_key(name)
            kept = encoded, hash_key(encoded, self.seed)
            if len(self.kept) >= _MOST_KEPT:
                self.kept.clear()
            self.kept[name] = kept
        return kept


class Reader:
    """Reads one object of a segment."""

    def __init__(self, segment: Segment, place: int, number: int) -> None:
        self._segment = segment
        self._words = segment.words
        self._memory = segment.memory
        self._place = place
        self._number = number
        self._table_of = 0  # the root whose table is remembered: where its slots begin, and their number
        self._first = self._slots = 0

    # Steps of a read: each raises _Changed for what is not (or no longer) what a reference says.

    def _root(self) -> int:
        """The root first, because it is cleared after the id."""
        words, place = self._words, self._place
        root = words[place + _ROOT]
        if words[place] != self._number or words[_STATE] != _LIVE:
            raise AskDaemon("gone")
        return root

    def _check_root(self, root: int) -> None:
        if self._words[self._place + _ROOT] != root:
            raise _Changed

    def _block(self, reference: int, kind: int) -> int:
        """The place of the block of that kind which the reference names."""
        words, place = self._words, reference & _PLACE
        if place + _HEADER_WORDS > self._segment.used():
            raise _Changed
        sequence = words[place]
        if sequence & 1 or (sequence >> 1) & _SEQUENCES != reference >> 36:
            raise _Changed
        if words[place + 1] != self._number or words[place + 3] >> 56 & 3 != kind:
            raise _Changed
        return place

    def _entry(self, reference: int, wanted: bytes | None = None) -> _Entry | None:
        """The entry that a reference names; None if it has expired, or if its key is not the one that is wanted."""
        words, memory = self._words, self._memory
        place = self._block(reference, _ENTRY)
        sequence, order, about = words[place], words[place + 2], words[place + 3]
        key_bytes, value_bytes, flags = about & 0xFFFF, about >> 16 & 0xFFFFFF, about >> 58
        if key_bytes > _MOST_KEY or value_bytes > _MOST_VALUE:
            raise _Changed
        at, writer, expiry = place + _HEADER_WORDS, self._segment.owner, 0
        if flags:
            if at + 3 > self._segment.used():
                raise _Changed
            if flags & _HAS_WRITER:
                writer, at = words[at] & 0xFFFFFFFF, at + 1
            if flags & _HAS_EXPIRY:
                expiry, at = words[at], at + 1
            if flags & _HAS_REFS:
                refs = words[at]
                if refs > _MOST_REFS:
                    raise _Changed
                at += 1 + refs
        value_at = at + (key_bytes + 7) // 8
        if value_at + (value_bytes + 7) // 8 > self._segment.used():
            raise _Changed
        key = memory[8 * at:8 * at + key_bytes]
        data = b"" if wanted is not None and key != wanted else memory[8 * value_at:8 * value_at + value_bytes]
        if words[place] != sequence or (sequence >> 1) & _SEQUENCES != reference >> 36:
            raise _Changed
        if wanted is not None and key != wanted or expiry and expiry <= time.clock_gettime_ns(time.CLOCK_BOOTTIME):
            return None
        return _Entry(key, order, about >> 40 & 0xFF, writer, data)

    def _again(self, attempt: Callable[[], _T]) -> _T:
        """Tries until nothing changed meanwhile."""
        for _ in range(_TRIES):
            try:
                return attempt()
            except _Changed:
                continue
        raise AskDaemon("too_busy")

    def _consistently(self, read: Callable[[], _T]) -> tuple[int, _T]:
        """The version and what `read` found, which is of one moment."""
        version_at = self._place + _VERSION

        def attempt() -> tuple[int, _T]:
            version = self._words[version_at]
            if version & 1:
                raise _Changed
            found = read()
            if self._words[version_at] != version:
                raise _Changed
            return version, found

        return self._again(attempt)

    # Dicts

    def _table(self, root: int) -> tuple[int, int]:
        """Where the slots of a table begin, and their number."""
        place = self._block(root, _TABLE)
        slots = self._words[place + 2]
        if not slots or place + _SLOTS_AT + 2 * slots > self._segment.used():
            raise _Changed
        return place + _SLOTS_AT, slots

    def _find_nearby(self, name: Any) -> tuple[int, bytes] | None:
        """The encoding and the data of a plain key that is found where one looks first; None: who knows. The same steps as below,
        with less ado."""
        segment, words, memory, place, number = self._segment, self._words, self._memory, self._place, self._number
        key, tag = segment.kept.get(name) or segment.key(name) if type(name) in _KEPT_TYPES else segment.key(name)
        root = words[place + _ROOT]
        if words[place] != number or words[_STATE] != _LIVE:
            raise AskDaemon("gone")
        if root != self._table_of:
            if not root:
                return None
            try:
                self._first, self._slots = self._table(root)
            except _Changed:
                return None
            self._table_of = root
        position = tag * self._slots >> 64
        for slot in range(8 * self._first + 16 * position, 8 * self._first + 16 * min(position + _NEARBY, self._slots), 16):
            found, reference = _SLOT.unpack_from(memory, slot)
            if found == tag:
                break
        else:
            return None
        at = 8 * (reference & _PLACE)
        end = 8 * segment.seen_used
        if not reference or at + 32 > end:
            return None
        sequence, object_of, _, about = _HEADER.unpack_from(memory, at)
        key_at = at + 32
        key_end = key_at + (about & 0xFFFF)
        value_at = key_end + 7 & -8
        value_end = value_at + (about >> 16 & 0xFFFFFF)
        if (sequence & 1 or (sequence >> 1) & _SEQUENCES != reference >> 36 or object_of != number or about >> 56
                or value_end > end or memory[key_at:key_end] != key):
            return None
        data = memory[value_at:value_end]
        if words[at >> 3] != sequence or words[place + _ROOT] != root:
            return None
        return about >> 40 & 0xFF, data

    def _find(self, name: Any) -> _Entry | None:
        key, tag = self._segment.key(name)
        words = self._words
        if len(key) > _MOST_KEY:
            raise AskDaemon("too_busy")  # the daemon says what is wrong

        def attempt() -> _Entry | None:
            root = self._root()
            if not root:
                return None
            first, slots = self._table(root)
            position = tag * slots >> 64
            for _ in range(slots):
                found = words[first + 2 * position]
                if not found:
                    break
                if found == tag and (reference := words[first + 2 * position + 1]):
                    entry = self._entry(reference, key)
                    if entry is not None:
                        self._check_root(root)
                        return entry
                position += 1
                if position == slots:
                    position = 0
            self._check_root(root)
            return None

        return self._again(attempt)

    def _scan(self) -> list[_Entry]:
        root = self._root()
        if not root:
            return []
        first, slots = self._table(root)
        references = self._words[first + 1:first + 2 * slots:2].tolist()
        found = [entry for reference in references if reference and (entry := self._entry(reference)) is not None]
        self._check_root(root)
        found.sort(key=lambda entry: entry.order)
        return found

    def get(self, name: Any, default: Any) -> Any:
        """The value of a dict's key, or the default."""
        found = self._find_nearby(name)
        if found is not None:
            return _value_of(*found, self._segment.owner)
        entry = self._find(name)
        return default if entry is None else _value(entry)

    def contains(self, name: Any) -> bool:
        """Whether a dict has the key."""
        return self._find_nearby(name) is not None or self._find(name) is not None

    def length(self) -> int:
        """How many entries or items there are."""
        words, place = self._words, self._place
        self._root()
        count = words[place + _COUNT]
        self._root()  # still of this object
        return count

    def keys(self) -> list[Any]:
        """A dict's keys, in the order of insertion."""
        return [_decode_key(entry.key, entry.writer) for entry in self._consistently(self._scan)[1]]

    def items(self) -> list[tuple[Any, Any]]:
        """A dict's keys and values."""
        return [(_decode_key(entry.key, entry.writer), _value(entry)) for entry in self._consistently(self._scan)[1]]

    # Lists

    def _leaf(self, root: int, index: int) -> tuple[int, int, int] | None:
        """Where the items of a leaf are, their number, and the place of the wanted one among them; None beyond the end."""
        words, node = self._words, root
        for step in range(_MOST_LEVELS):
            place = self._block(node, _NODE)
            shape = words[place + 2]
            size, at = shape >> 8, place + _HEADER_WORDS
            if not shape & 0xFF:
                if size > _LEAF_ITEMS or at + size > self._segment.used():
                    raise _Changed
                if index < size:
                    return at, size, index
                if step:
                    raise _Changed
                return None
            if size > _BRANCHES or at + 2 * size > self._segment.used():
                raise _Changed
            for child in range(size):
                below = words[at + 2 * child + 1]
                if index < below:
                    node = words[at + 2 * child]
                    break
                index -= below
            else:
                if step:
                    raise _Changed
                return None
        raise _Changed

    def _list_item(self, index: int) -> _Entry | None:
        root = self._root()
        leaf = self._leaf(root, index) if root else None
        entry = None if leaf is None else self._entry(self._words[leaf[0] + leaf[2]])
        self._check_root(root)
        return entry

    def _item_from_end(self, back: int) -> _Entry | None:
        count = self._words[self._place + _COUNT]
        return self._list_item(count - back) if back <= count else None

    def _list_items(self) -> list[_Entry]:
        root = self._root()
        found: list[_Entry] = []
        while root and (leaf := self._leaf(root, len(found))) is not None:
            at, size, first = leaf
            for reference in self._words[at + first:at + size].tolist():
                entry = self._entry(reference)
                if entry is not None:
                    found.append(entry)
            self._check_root(root)
        self._check_root(root)
        return found

    def item(self, index: Any) -> Any:
        """A list's item; negative indexes count from the end. Raises IndexError."""
        wanted = index.__index__()
        if wanted >= 0:
            entry = self._again(lambda: self._list_item(wanted))
        else:
            entry = self._consistently(lambda: self._item_from_end(-wanted))[1]
        if entry is None:
            raise IndexError("list index out of range")
        return _value(entry)

    # All

    def _all(self) -> list[_Entry]:
        is_dict = self._words[self._place + _ABOUT] & 0xFF in (1, 3)
        return self._scan() if is_dict else self._list_items()

    def values(self) -> list[Any]:
        """A dict's values or a list's items."""
        return self.snapshot()[1]

    def snapshot(self) -> tuple[int, list[Any]]:
        """The version, and what values() returns."""
        version, entries = self._consistently(self._all)
        return version, [_value(entry) for entry in entries]

    def value(self) -> Any:
        """A value's content."""
        def attempt() -> _Entry | None:
            root = self._root()
            entry = self._entry(root) if root else None
            self._check_root(root)
            return entry

        entry = self._again(attempt)
        return None if entry is None else _value(entry)


def _value(entry: _Entry) -> Any:
    return _value_of(entry.encoding, entry.data, entry.writer)


def _value_of(encoding: int, data: bytes, writer: int) -> Any:
    if encoding == _I64 and len(data) == 8:
        return int.from_bytes(data, "little", signed=True)
    if encoding == _F64 and len(data) == 8:
        return _REAL.unpack(data)[0]
    if encoding == _JSON and data[:1] == b'"' and b"\\" not in data:
        return data[1:-1].decode()
    return data if encoding == _BYTES else _decode(encoding, data, writer)
