"""The daemon's store on the wire: objects, operations, keys and values. PROTOCOL.md, section 3.5."""

from __future__ import annotations

import contextlib
import json
import pickle
import struct
import threading
import weakref
from typing import Any, Callable, Iterator, Sequence

from . import client, mapping, payload, wire
from .arena import Region
from .client import Session
from .errors import DaemonError, DaemonGone, UntrustedPickle, from_head

_OPERATION = struct.Struct("<HBxI")
_ARGUMENT = struct.Struct("<IBxxx")
_KEY, _REFS, _ITEMS = 32, 33, 34
_ARENA_BIT = 0x80
_I64, _F64 = 19, 25
_MOST_OPENED = 65536
#: A task that waits for the store lends its worker's place after so many seconds: most answers come sooner.
_LEND_AFTER = 0.002

# Operations, by their codes.
LEN, CLEAR, EXPECT, STAT, HOLD, UNHOLD = range(1, 7)
GET, CONTAINS, SET, DELETE, POP, POP_ITEM, GET_OR_SET, INCR, COMPARE_AND_SET, EXPIRE, SCAN = range(16, 27)
(LIST_GET, LIST_SET, LIST_INSERT, LIST_APPEND, LIST_EXTEND, LIST_POP, LIST_DELETE, LIST_SLICE, LIST_SET_SLICE,
 LIST_DELETE_SLICE, LIST_REVERSE, LIST_REPLACE) = range(48, 60)
VALUE_GET, VALUE_SET, VALUE_INCR, VALUE_COMPARE_AND_SET = range(80, 84)
ARRAY_GET, ARRAY_SET, ARRAY_SLICE, ARRAY_SET_SLICE, ARRAY_INCR, ARRAY_COMPARE_AND_SET = range(96, 102)
QUEUE_PUT, QUEUE_GET, QUEUE_STATE, TASK_DONE, QUEUE_JOIN = range(112, 117)
ACQUIRE, RELEASE, SYNC_STATE = range(128, 131)
EVENT_SET, EVENT_CLEAR, EVENT_IS_SET, EVENT_WAIT = range(144, 148)
CONDITION_WAIT, CONDITION_NOTIFY = 160, 161
BARRIER_WAIT, BARRIER_ACTED, BARRIER_RESET, BARRIER_ABORT, BARRIER_STATE = range(176, 181)


# Keys

def encode_key(value: Any) -> bytes:
    """The canonical bytes of a key; of what no other language knows, its pickle."""
    if value is None:
        return b"\x00"
    if isinstance(value, (bool, int)) or (isinstance(value, float) and value.is_integer()):
        number = int(value)
        magnitude = abs(number)
        return (b"\x01\x01" if number < 0 else b"\x01\x00") + magnitude.to_bytes((magnitude.bit_length() + 7) // 8, "big")
    if isinstance(value, float):
        return b"\x02" + (struct.pack("<d", value) if value == value else struct.pack("<Q", 0x7FF8000000000000))
    kind = type(value)
    if kind is str:
        try:
            return b"\x03" + value.encode()
        except UnicodeEncodeError:  # lone surrogates
            return b"\x06" + pickle.dumps(value, 5)
    if kind is bytes:
        return b"\x04" + value
    if kind is tuple:
        parts = [encode_key(part) for part in value]
        return b"\x05" + struct.pack("<I", len(parts)) + b"".join(struct.pack("<I", len(part)) + part for part in parts)
    hash(value)  # TypeError for what a dict would not take either
    return b"\x06" + pickle.dumps(value, 5)


def decode_key(data: bytes, trusted: bool) -> Any:
    kind, rest = data[0], data[1:]
    if kind == 0:
        return None
    if kind == 1:
        magnitude = int.from_bytes(rest[1:], "big")
        return -magnitude if rest[0] else magnitude
    if kind == 2:
        return struct.unpack("<d", rest)[0]
    if kind == 3:
        return rest.decode()
    if kind == 4:
        return rest
    if kind == 5:
        (count,) = struct.unpack_from("<I", rest)
        parts, at = [], 4
        for _ in range(count):
            (size,) = struct.unpack_from("<I", rest, at)
            parts.append(decode_key(rest[at + 4:at + 4 + size], trusted))
            at += 4 + size
        return tuple(parts)
    if not trusted:
        raise UntrustedPickle("a key that another user may have pickled")
    return pickle.loads(rest)


# Arguments

class Argument:
    """An argument of an operation: its bytes, or an item that may be too large for a frame; and the objects that it names."""

    __slots__ = ("encoding", "item", "refs")

    def __init__(self, encoding: int, item: payload.Item, refs: Sequence[int] = ()) -> None:
        self.encoding = encoding
        self.item = item
        self.refs = refs


def key(value: Any) -> Argument:
    return Argument(_KEY, payload.Item((encode_key(value),)))


def integer(value: int) -> Argument:
    return Argument(_I64, payload.Item((struct.pack("<q", value),)))


def value(value: Any) -> Argument:
    """A value. What other languages can read, and numbers that operations can add to, are stored as such."""
    kind = type(value)
    if kind is int and -(1 << 63) <= value < 1 << 63:
        return integer(value)
    if kind is float:
        return Argument(_F64, payload.Item((struct.pack("<d", value),)))
    if kind is bytes:
        return Argument(wire.AS_BYTES, payload.Item((value,)))
    if kind is bool or value is None:
        return Argument(wire.AS_JSON, payload.Item((json.dumps(value).encode(),)))
    if kind is str:
        try:
            return Argument(wire.AS_JSON, payload.Item((json.dumps(value, ensure_ascii=False).encode(),)))
        except UnicodeEncodeError:
            pass
    named: list[int] = []
    _naming.refs = named
    try:
        item = payload.encode(value)
    finally:
        _naming.refs = None
    return Argument(wire.AS_PICKLE, item, named)


class _Naming(threading.local):
    refs: list[int] | None = None
    ids: list[str] | None = None


_naming = _Naming()


def name_object(number: int, object_id: str) -> None:
    """For a proxy that is being pickled: the value names this object, and so keeps it alive where it is stored or sent."""
    if _naming.refs is not None and number not in _naming.refs:
        _naming.refs.append(number)
    if _naming.ids is not None and object_id not in _naming.ids:
        _naming.ids.append(object_id)


@contextlib.contextmanager
def noting_ids() -> Iterator[list[str]]:
    """Collects the ids of the objects that what is pickled meanwhile names."""
    found: list[str] = []
    _naming.ids = found
    try:
        yield found
    finally:
        _naming.ids = None


def items(values: Sequence[Argument]) -> Argument:
    """Several values as one argument."""
    return Argument(_ITEMS, payload.Item((b"".join(map(_pack_inline, values)),)))


def _pack_inline(argument: Argument) -> bytes:
    data = argument.item.tobytes()
    packed = _ARGUMENT.pack(len(data), argument.encoding) + data
    if argument.refs:
        refs = struct.pack(f"<{len(argument.refs)}Q", *argument.refs)
        packed += _ARGUMENT.pack(len(refs), _REFS) + refs
    return packed


def operation(code: int, *arguments: Argument) -> tuple[int, tuple[Argument, ...]]:
    return code, arguments


def decode_value(encoding: int, data: Any, trusted: bool) -> Any:
    """A value, or a key where an operation returns one. Raises UntrustedPickle, and whatever its unpickling raises."""
    if encoding == _I64:
        values = struct.unpack(f"<{len(data) // 8}q", data)
        return values[0] if len(values) == 1 else list(values)
    if encoding == _KEY:
        return decode_key(bytes(data), trusted)
    if encoding in wire.NUMBERS:
        code = wire.NUMBERS[encoding]
        values = struct.unpack(f"<{len(data) // struct.calcsize('<' + code)}{code}", data)
        return values[0] if len(values) == 1 else list(values)
    if encoding == wire.AS_PICKLE:
        if not trusted:
            raise UntrustedPickle("a value that another user may have pickled")
        return payload.decode(data)
    if encoding == wire.AS_JSON:
        return json.loads(bytes(data))
    return None if encoding == wire.NONE else bytes(data)


mapping.setup(lambda encoding, data, writer: decode_value(encoding, data, mapping.is_trusted(writer)), encode_key,
              lambda data, writer: decode_key(data, mapping.is_trusted(writer)))


# Requests

class _Waiter:
    """Waits for the one reply to a request."""

    __slots__ = ("_session", "_frame", "_error")

    def __init__(self, session: Session) -> None:
        self._session = session
        self._frame: wire.Frame | None = None
        self._error: BaseException | None = None

    def is_done(self) -> bool:
        return self._frame is not None or self._error is not None

    def on_frame(self, frame: wire.Frame) -> bool:
        if frame.op == wire.ERROR:
            self._error = from_head(frame.fields(), False)
        else:
            self._frame = frame
        return True

    def on_lost(self, error: DaemonError) -> None:
        self._error = error

    def wait(self, timeout: float | None = None) -> wire.Frame:
        self._session.wait(self.is_done, timeout)
        if self._error is not None:
            raise self._error
        assert self._frame is not None
        return self._frame


class _StoreReply:
    """What waits for the results of operations."""

    done = False
    count = 0
    body = b""
    error: BaseException | None = None

    def is_done(self) -> bool:
        return self.done


try:
    from ._native import StoreReply  # type: ignore[import-not-found]
except ImportError:
    StoreReply = _StoreReply


class Request(StoreReply):
    """A `store` request that has been sent: operations of which all are done or none."""

    error: BaseException | None

    def __init__(self, opened: Opened, count: int, body: bytes, regions: Sequence[Region] = ()) -> None:
        self._opened = opened
        self._session = opened.session
        self._operations = count, body
        self._regions = regions
        self._released = b""
        self._number = self._session.store(self, count, body)

    def on_frame(self, frame: wire.Frame) -> bool:
        if frame.op == wire.ERROR:
            self.error = from_head(frame.fields(), False)
        else:
            self.count, self.body = frame.count, frame.body
        self.done = True
        return True

    def on_lost(self, error: DaemonError) -> None:
        self.error = error
        self.done = True

    def finish(self) -> None:
        """Waits until it is done. A wait that is interrupted is taken back: raises what interrupted it."""
        while True:
            session = self._session
            try:
                session.wait(self.is_done, lend_after=_LEND_AFTER)
            except BaseException:
                if not self.done:
                    self._cancel()
                raise
            if self.error is None or not session.is_broken or not self._is_sent_again(session):
                break
        if self._regions:
            self._release()
        if self.error is not None:
            raise self.error

    def result(self) -> list[list[Any]]:
        """The same; what each operation returned."""
        self.finish()
        results: list[list[Any]] = parse(self.count, self.body, self._decode)
        if self._released:
            self._session.release(self._released)
        return results

    def _is_sent_again(self, broken: Session) -> bool:
        """Whether a new session asks the same once more. A daemon that knows this one does nothing twice."""
        try:
            if broken.may_go_on():
                client.default()
        except (DaemonError, OSError):
            pass
        return self._session is not broken

    def send_again(self, session: Session, number: int) -> None:
        """In a session that has taken over: asks again, under the old number."""
        if self._regions:  # the arena has gone, and what was in it
            return
        self._opened.move_to(session)
        self._session = session
        self.error, self.done = None, False
        session.expect(number, self)
        count, body = self._operations
        session.stream.queue(wire.PREFIX.pack(len(body), 0, wire.STORE, 0, number, 0, count, 0, 0) + body)

    def _release(self) -> None:
        for region in self._regions:
            self._session.release_up(region)
        self._regions = ()

    def _cancel(self) -> None:
        head = {"request": self._number}
        self._session.send(wire.encode(wire.CANCEL, head=head, request=self._session.new_request()))

    def _decode(self, encoding: int, data: bytes) -> Any:
        if not encoding & _ARENA_BIT:
            return decode_value(encoding, data, self._opened.is_trusted)
        self._released += data
        view = self._session.down.view(wire.references(data)[0])
        return decode_value(encoding & ~_ARENA_BIT, view, self._opened.is_trusted)


def _pack_operation(session: Session, code: int, target: int, arguments: Sequence[Argument], regions: list[Region]) -> bytes:
    """An operation's bytes. What is too large for a frame goes to the arena, into `regions`."""
    parts = [_OPERATION.pack(code, len(arguments), target)]
    for argument in arguments:
        if argument.encoding != _ITEMS and argument.item.size > wire.MAX_INLINE_ITEM_BYTES:
            region, memory = session.up.allocate(argument.item.size)
            regions.append(region)
            argument.item.write(memory)
            parts.append(_ARGUMENT.pack(wire.REFERENCE.size, argument.encoding | _ARENA_BIT) + wire.REFERENCE.pack(*region))
            if argument.refs:
                refs = struct.pack(f"<{len(argument.refs)}Q", *argument.refs)
                parts.append(_ARGUMENT.pack(len(refs), _REFS) + refs)
        else:
            parts.append(_pack_inline(argument))
    return b"".join(parts)


def _parse(count: int, body: bytes, decode: Callable[[int, bytes], Any]) -> list[list[Any]]:
    """The values that each of `count` operations returned; `decode` makes them of encodings and bytes."""
    at = 0
    results = []
    for _ in range(count):
        (values_left,) = struct.unpack_from("<I", body, at)
        at += 4
        values = []
        for _ in range(values_left):
            size, encoding = _ARGUMENT.unpack_from(body, at)
            at += _ARGUMENT.size
            values.append(decode(encoding, body[at:at + size]))
            at += size
        results.append(values)
    return results


def _pack(code: int, target: int, kinds: str, *arguments: Any) -> bytes | None:
    """An operation's bytes, if all its arguments are small and plain, else None. Kinds: k a key, v a value, i an integer."""
    return None


def _pack_sets(code: int, target: int, entries: dict[Any, Any], most: int, most_bytes: int) -> list[tuple[int, bytes]] | None:
    """Operations that set the entries, in batches (how many, their bytes), if all are small and plain, else None."""
    return None


try:
    from ._native import pack, pack_sets, parse  # type: ignore[import-not-found]
except ImportError:
    pack, pack_sets, parse = _pack, _pack_sets, _parse


# Objects

class Opened:
    """An object that this session has open under a number."""

    def __init__(self, session: Session, number: int, about: dict[str, Any]) -> None:
        self.session = session
        self.number = number
        self.id: str = about["object"]
        self.place: int = about.get("id", 0)  # by which values in the same segment name it
        self.about = about
        segments = _segments_of(session)
        self.reader = segments.reader(about)
        self.is_trusted = session.is_trusted and segments.has_one_writer(about)
        self._finalizer = weakref.finalize(self, _close, session, number)

    def move_to(self, session: Session) -> None:
        """Is from now on open in the session that has taken over, under the same number."""
        if self.session is session:
            return
        self._finalizer.detach()
        self.session = session
        request = session.new_request()
        session.expect(request, _Opening(session))
        session.stream.queue(wire.encode(wire.OBJECT_OPEN, head={"object": self.id}, request=request, target=self.number))
        self._finalizer = weakref.finalize(self, _close, session, self.number)

    def run(self, *operations: tuple[int, tuple[Argument, ...]]) -> list[list[Any]]:
        """Does the operations as one; the values that each returned. Raises DaemonError with the daemon's code."""
        regions: list[Region] = []
        body = b"".join([_pack_operation(self.session, code, self.number, arguments, regions) for code, arguments in operations])
        return Request(self, len(operations), body, regions).result()

    def run_packed(self, count: int, body: bytes) -> list[list[Any]]:
        """The same for operations that are bytes already."""
        return Request(self, count, body).result()

    def change_packed(self, count: int, body: bytes) -> None:
        """The same for operations that return nothing."""
        Request(self, count, body).finish()

    def do_quietly(self, code: int, argument: int) -> None:
        """Does an operation on an integer, which returns nothing, without waiting for it; a failure becomes a warning."""
        body = pack(code, self.number, "i", argument)
        if body is None:
            body = _pack_operation(self.session, code, self.number, [integer(argument)], [])
        self.session.store(None, 1, body, wire.QUIET)

    def one(self, code: int, *arguments: Argument) -> list[Any]:
        return self.run((code, arguments))[0]

    def delete(self) -> None:
        """Ends the object for everybody. Raises DaemonError."""
        self._ask_to_delete().wait()

    def delete_soon(self) -> None:
        """The same, whatever comes of it."""
        self._ask_to_delete()

    def _ask_to_delete(self) -> _Waiter:
        waiter = _Waiter(self.session)
        request = self.session.new_request()
        self.session.expect(request, waiter)
        self.session.send(wire.encode(wire.OBJECT_DELETE, request=request, target=self.number))
        return waiter


def _close(session: Session, number: int) -> None:
    if not session.is_broken:
        session.post(wire.encode(wire.OBJECT_CLOSE, target=number))
        session.free_objects.append(number)


def open_object(fields: dict[str, Any], initial: Argument | None = None) -> Opened:
    """Opens or makes an object; the fields are those of `object_open`."""
    session = client.default()
    if "store" not in session.welcome.get("capabilities", ()):
        raise DaemonError("this daemon has no store", "unknown_object")
    try:
        number = session.free_objects.pop()
    except IndexError:
        number = session.last_object = session.last_object + 1
        if number > _MOST_OPENED:
            raise DaemonError(f"a session may have {_MOST_OPENED} objects open", "limit_reached") from None
    body, encoding, count = b"", 0, 0
    if initial is not None:
        body, encoding, count = initial.item.tobytes(), initial.encoding, 1
    reply = _Opening(session)
    request = session.new_request()
    session.expect(request, reply)
    session.send(wire.encode(wire.OBJECT_OPEN, head=fields, body=body, encoding=encoding, count=count, request=request,
                             target=number))
    try:
        frame = reply.wait()
    except DaemonError:
        session.free_objects.append(number)
        raise
    return Opened(session, number, json.loads(frame.body))


def _segments_of(session: Session) -> mapping.Segments:
    if session.segments is None:
        session.segments = mapping.Segments(session.is_trusted)
    return session.segments


class _Opening(_Waiter):
    """Waits for an object to be opened. A descriptor comes with the first one of each segment, and is mapped before the next
    answer is looked at."""

    def on_frame(self, frame: wire.Frame) -> bool:
        if frame.fds:
            fields = json.loads(frame.body)
            _segments_of(self._session).attach(fields["segment"], fields["segment_bytes"], frame.fds[0])
        return super().on_frame(frame)


__all__ = ["Argument", "DaemonGone", "Opened", "Request", "integer", "items", "key", "open_object", "operation", "value"]
