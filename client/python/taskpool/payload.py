"""How Python objects become items, and back. PROTOCOL.md, section 3.6."""

from __future__ import annotations

import array
import collections
import copyreg
import io
import pickle
import struct
import types
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any, Callable, Sequence

from . import names

try:
    from . import _native  # type: ignore[attr-defined]
except ImportError:
    _native = None  # type: ignore[assignment]

try:
    import cloudpickle
except ImportError:
    cloudpickle = None

_ALIGNMENT = 64
_PLAIN = 0x80  # the first byte of a pickle of protocol 2 or above
_WITH_BUFFERS = 1
_NUMBERS, _NUMBERS_BYTE = 2, b"\2"
_NUMBERS_HEAD = struct.Struct("<BBxxIQ")  # 2, type code, count, nanoseconds
#: Marks, in a buffer's length, one that its receiver copies by itself.
_COPIED = 1 << 63
#: Bytes from which a buffer travels beside the pickle, so that it is not copied into and out of it.
_LEAST_BUFFER = 1 << 16

# A connection pickled as an ordinary object would name a descriptor of another process; this sends a descriptor along.
copyreg.pickle(Connection, reduction.ForkingPickler._extra_reducers[Connection])  # type: ignore[attr-defined]


class Item:
    """One encoded object: parts to be written one after the other, each at a multiple of 64 but for a single one."""

    __slots__ = ("parts", "size")

    def __init__(self, parts: Sequence[Any]) -> None:
        self.parts = parts
        self.size = len(parts[0]) if len(parts) == 1 else sum(_aligned(memoryview(part).nbytes) for part in parts)

    def write(self, into: memoryview) -> None:
        """Copies the item; `into` has `size` bytes."""
        at = 0
        for part in self.parts:
            view = memoryview(part).cast("B")
            into[at:at + view.nbytes] = view
            at += _aligned(view.nbytes)

    def tobytes(self) -> bytes:
        if len(self.parts) == 1:
            return self.parts[0]
        data = bytearray(self.size)
        self.write(memoryview(data))
        return bytes(data)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


class _Beside:
    """A large bytes, bytearray or array whose content travels as a buffer of its own: pickle does that for none of them by
    itself. The receiver makes a copy of the buffer, so that it can be given as it lies."""

    __slots__ = ("buffer", "rebuild")

    def __init__(self, value: bytes | bytearray | array.array[Any]) -> None:
        self.buffer = pickle.PickleBuffer(value)
        if isinstance(value, array.array):
            self.rebuild: tuple[Any, ...] = (_restore_array, value.typecode)
        else:
            self.rebuild = (_restore_bytes if isinstance(value, bytes) else _restore_bytearray,)

    def __reduce_ex__(self, protocol: int) -> Any:  # type: ignore[override]
        return self.rebuild[0], (*self.rebuild[1:], self.buffer)


def _restore_bytes(content: Any) -> bytes:
    return bytes(content) if _native is None else _native.copy_bytes(content)  # type: ignore[no-any-return]


def _restore_bytearray(content: Any) -> bytearray:
    return bytearray(content) if _native is None else _native.copy_bytearray(content)  # type: ignore[no-any-return]


def _restore_array(typecode: str, content: Any) -> array.array[Any]:
    values: array.array[Any] = array.array(typecode)
    values.frombytes(content)
    return values


_LARGE = (bytes, bytearray, array.array)


def _beside(value: Any, found: list[pickle.PickleBuffer]) -> Any:
    """`value` with what is large in it, at its top or in the lists, tuples and dicts there, made ready to travel beside the
    pickle; `found` gets the buffers."""
    kind = type(value)
    if kind in _LARGE:
        if memoryview(value).nbytes < _LEAST_BUFFER:
            return value
        wrapped = _Beside(value)
        found.append(wrapped.buffer)
        return wrapped
    if kind is tuple or (kind is list and len(value) <= _MOST_LOOKED_AT):
        if any(type(element) in _LOOKED_INTO for element in value):
            return kind([_beside(element, found) for element in value])
    elif kind is dict and any(type(element) in _LARGE for element in value.values()):
        return {key: _beside(element, found) for key, element in value.items()}
    return value


def _looks_large(value: Any, depth: int) -> bool:
    """True if a buffer that should travel beside the pickle is in plain sight."""
    kind = type(value)
    if kind in _SMALL:
        return False
    if kind is tuple or kind is list:
        return depth > 0 and len(value) <= _MOST_LOOKED_AT and any([_looks_large(element, depth - 1) for element in value])
    if kind in _LARGE:
        return memoryview(value).nbytes >= _LEAST_BUFFER
    return getattr(value, "nbytes", 0) >= _LEAST_BUFFER


_SMALL = frozenset((int, float, bool, str, type(None), complex, dict, set))
#: Lists longer than this hold many small things rather than a few large ones.
_MOST_LOOKED_AT = 64
_LOOKED_INTO = frozenset((*_LARGE, tuple, list, dict))


def _dumps(value: Any, buffers: list[pickle.PickleBuffer] | None) -> bytes:
    callback = None if buffers is None else buffers.append
    try:
        data = pickle.dumps(value, 5, buffer_callback=callback)
    except Exception:
        if buffers:
            buffers.clear()
        return _dumps_hard(value, callback)
    if cloudpickle is not None and b"__main__" in data and names.main_module() is None:
        if buffers:
            buffers.clear()
        return _dumps_hard(value, callback)
    return data


class _Pickler(pickle.Pickler):
    """With multiprocessing's reducers, which send descriptors along."""

    dispatch_table = collections.ChainMap(
        reduction.ForkingPickler._extra_reducers, copyreg.dispatch_table)  # type: ignore[arg-type, attr-defined]


def _dumps_hard(value: Any, callback: Callable[[Any], Any] | None) -> bytes:
    """What plain pickle cannot: functions without a name with cloudpickle, sockets and the like with multiprocessing's."""
    if cloudpickle is not None:
        out = io.BytesIO()
        pickler = cloudpickle.CloudPickler(out, protocol=5, buffer_callback=callback)
        for kind, reducer in reduction.ForkingPickler._extra_reducers.items():  # type: ignore[attr-defined]
            if kind is not types.MethodType:
                pickler.dispatch_table = pickler.dispatch_table.new_child({kind: reducer})
        pickler.dump(value)
        return out.getvalue()
    out = io.BytesIO()
    _Pickler(out, 5, buffer_callback=callback).dump(value)
    return out.getvalue()


def encode(value: Any) -> Item:
    """The item of an object. Raises whatever its pickling raises."""
    if not _looks_large(value, 2):
        data = _dumps(value, None)
        if len(data) < _LEAST_BUFFER:  # so that there is no large buffer in it
            return Item((data,))
    buffers: list[pickle.PickleBuffer] = []
    found: list[pickle.PickleBuffer] = []
    data = _dumps(_beside(value, found), buffers)
    if not buffers:
        return Item((data,))
    views = []
    for buffer in buffers:
        try:
            views.append(buffer.raw())
        except BufferError:  # not contiguous in memory: it cannot be sent as it lies
            return Item((_dumps(value, None),))
    ours = set(map(id, found))
    sizes = [view.nbytes | (_COPIED if id(buffer) in ours else 0) for view, buffer in zip(views, buffers)]
    table = struct.pack(f"<II{1 + len(views)}Q", _WITH_BUFFERS, len(views), len(data), *sizes)
    return Item((table, data, *views))


def decode(item: Any) -> Any:
    """The object of an item, which is bytes or a view of them. Nothing in the object refers to the item. Raises
    pickle.UnpicklingError for one that is laid out wrongly, and whatever its unpickling raises."""
    view = memoryview(item)
    if not view.nbytes:
        raise pickle.UnpicklingError("an empty item")
    if view[0] == _PLAIN:
        return pickle.loads(view)
    if view[0] == _NUMBERS:
        raise pickle.UnpicklingError("numbers, where an object was expected")
    try:
        kind, count = struct.unpack_from("<II", view)
        if kind != _WITH_BUFFERS or count > view.nbytes // 8:
            raise pickle.UnpicklingError(f"an item of an unknown kind, {kind}")
        data_bytes, *sizes = struct.unpack_from(f"<{1 + count}Q", view, 8)
    except struct.error as error:
        raise pickle.UnpicklingError(f"an item that is cut: {error}") from None
    at = _aligned(8 + 8 * (1 + count))
    parts = []
    for size in (data_bytes, *(size & ~_COPIED for size in sizes)):
        if at + size > view.nbytes:
            raise pickle.UnpicklingError("an item that is cut")
        parts.append(view[at:at + size])
        at += _aligned(size)
    buffers = [part if size & _COPIED else _restore_bytearray(part) for part, size in zip(parts[1:], sizes)]
    return pickle.loads(parts[0], buffers=buffers)


def encode_numbers(elements: list[Any]) -> Item | None:
    """The item of a list of integers or of floats, which is cheaper to make and to read than a pickle; None of another, or without
    the extension, which gains nothing by it."""
    data = None if _native is None else _native.encode_numbers(elements)
    return None if data is None else Item((data,))


def decode_elements(item: Any) -> tuple[list[Any], bool]:
    """What the item of a map holds: the elements, and whether each is a tuple of arguments."""
    if memoryview(item)[:1] == _NUMBERS_BYTE:
        return decode_numbers(item)[1], False
    elements, star = decode(item)
    return elements, star


def decode_outcomes(item: Any) -> tuple[int, list[Any], dict[int, Any]]:
    """What the result of a map's item holds: nanoseconds, outcomes, failures."""
    if memoryview(item)[:1] == _NUMBERS_BYTE:
        return *decode_numbers(item), {}
    elapsed, outcomes, failures = decode(item)
    return elapsed, outcomes, failures


def decode_numbers(item: Any) -> tuple[int, list[Any]]:
    """Nanoseconds and elements of an item of numbers. Raises ValueError for one that is laid out wrongly."""
    if _native is not None:
        return _native.decode_numbers(item)
    view = memoryview(item)
    try:
        _, code, count, elapsed = _NUMBERS_HEAD.unpack_from(view)
        values: array.array[Any] = array.array({113: "q", 100: "d"}[code])
        values.frombytes(view[_NUMBERS_HEAD.size:])
    except (struct.error, KeyError):
        raise ValueError("numbers that are cut") from None
    if len(values) != count:
        raise ValueError("numbers that are cut")
    return elapsed, values.tolist()
