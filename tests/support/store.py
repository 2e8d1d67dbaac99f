"""The shared store as a small client in Python sees it: keys, operations, objects. PROTOCOL.md, section 3.5, is what it
follows; it reads by asking the daemon, never from the segments."""

import json
import re
import struct
from pathlib import Path

from wire import BYTES, DEADLINE, IN_ARENA, JSON, NONE, REFERENCE, Failed  # noqa: F401

I64, F64 = 19, 25
KEY, REFS, ITEMS, ARENA_BIT = 32, 33, 34, 0x80
QUIET = 2
INLINE = 65536

_ROW = re.compile(r"^\| (\d+) \| `(\w+)` \| ([^|]*) \| (read|write|control)[^|]*\| ([^|]*) \| ([^|]*) \|", re.M)
PROTOCOL = (Path(__file__).resolve().parents[2] / "proto" / "PROTOCOL.md").read_text()
CODES = {name: int(code) for code, name, *_ in _ROW.findall(PROTOCOL.split("#### Operations")[1])}


def key(value):
    """A key in canonical form."""
    if value is None:
        return b"\x00"
    if isinstance(value, float) and not value.is_integer():
        return b"\x02" + struct.pack("<d", value)
    if isinstance(value, (bool, int, float)):
        number = int(value)
        size = (abs(number).bit_length() + 7) // 8
        return b"\x01" + (b"\x01" if number < 0 else b"\x00") + abs(number).to_bytes(size, "big")
    if isinstance(value, str):
        return b"\x03" + value.encode()
    if isinstance(value, bytes):
        return b"\x04" + value
    parts = [key(part) for part in value]
    return b"\x05" + struct.pack("<I", len(parts)) + b"".join(struct.pack("<I", len(part)) + part for part in parts)


def unkey(data):
    kind, rest = data[0], data[1:]
    if kind == 0:
        return None
    if kind == 1:
        return int.from_bytes(rest[1:], "big") * (-1 if rest[0] else 1)
    if kind == 2:
        return struct.unpack("<d", rest)[0]
    if kind == 3:
        return rest.decode()
    if kind == 4:
        return rest
    raise AssertionError(f"a key of kind {kind}")


def argument(encoding, data):
    return struct.pack("<IBxxx", len(data), encoding) + data


class Value:
    """A value with an encoding, and the ids of the objects that it names."""

    def __init__(self, data, encoding=BYTES, refs=(), place=None):
        self.data, self.encoding, self.refs, self.place = data, encoding, list(refs), place

    def pack(self):
        packed = argument(self.encoding | ARENA_BIT, REFERENCE.pack(*self.place)) if self.place else argument(
            self.encoding, self.data)
        return packed + (argument(REFS, struct.pack(f"<{len(self.refs)}Q", *self.refs)) if self.refs else b"")


def to_value(value):
    if isinstance(value, Value):
        return value
    if isinstance(value, bytes):
        return Value(value)
    return Value(json.dumps(value).encode(), JSON)


class Raw(bytes):
    """An argument that is written as it is."""


class Int(int):
    """An argument that is an integer, where a value could be one too."""


def operation(name, target, *arguments, code=None):
    """One operation. `arguments`: Int or Raw as they are, Value, or anything else for a value."""
    packed = b"".join(
        item if isinstance(item, Raw) else argument(I64, struct.pack("<q", item)) if isinstance(item, Int) else
        to_value(item).pack() for item in arguments)
    return struct.pack("<HBBI", CODES[name] if code is None else code, len(arguments), 0, target) + packed


def key_argument(value):
    return Raw(argument(KEY, key(value)))


def items_argument(values):
    return Raw(argument(ITEMS, b"".join(to_value(value).pack() for value in values)))


class Store:
    """The objects that one session has open."""

    def __init__(self, session):
        self.session = session
        self.last = 0

    def open(self, type="", name="", *, target=None, body=b"", encoding=NONE, **options):
        self.last = target or self.last + 1
        head = {"type": type, "name": name, **options}
        reply, fds = self.session.ask_frame("object_open", {k: v for k, v in head.items() if v not in ("", None)},
                                            target=self.last, body=body, encoding=encoding, count=1 if body else 0)
        return Object(self, self.last, reply, fds)

    def start(self, operations, flags=0):
        """Sends operations as one frame, and returns its request."""
        request = self.session.new_request()
        self.session.send("store", body=b"".join(operations), count=len(operations), request=request, flags=flags)
        return request

    def results(self, request):
        """A list of values for each operation; raises Failed."""
        reply = self.session.receive("store_reply", "error", request=request)
        if reply.op == "error":
            raise Failed(reply.head)
        return [[self.decode(*value) for value in result] for result in self.parse(reply.count, reply.body)]

    def run(self, *operations):
        return self.results(self.start(operations))

    @staticmethod
    def parse(count, body):
        at = 0
        results = []
        for _ in range(count):
            (values,) = struct.unpack_from("<I", body, at)
            at += 4
            result = []
            while len(result) < values or (at < len(body) and body[at + 4:at + 5] == bytes([REFS]) and result):
                size, encoding = struct.unpack_from("<IBxxx", body, at)
                data = body[at + 8:at + 8 + size]
                at += 8 + size
                if encoding != REFS:
                    result.append((encoding, data))
            results.append(result)
        assert at == len(body), "bytes behind the last result"
        return results

    def decode(self, encoding, data):
        if encoding & ARENA_BIT:
            data = self.session.read_down(data)[0]
            encoding &= ~ARENA_BIT
        if encoding == JSON:
            return json.loads(data)
        if encoding == I64 and len(data) == 8:
            return struct.unpack("<q", data)[0]
        if encoding == F64 and len(data) == 8:
            return struct.unpack("<d", data)[0]
        if encoding == KEY:
            return unkey(data)
        return None if encoding == NONE else data

    def cancel(self, request):
        return self.session.ask("cancel", {"request": request})["cancelled"]


class Object:
    """One opened object. op(NAME, ...) gives the only result: nothing, one value, or several."""

    def __init__(self, store, target, about, fds):
        self.store, self.target, self.about, self.fds = store, target, about, fds
        self.id = about["object"]
        self.number = about["id"]

    def op(self, name, *arguments):
        values = self.store.run(operation(name, self.target, *arguments))[0]
        return values[0] if len(values) == 1 else values or None

    def begin(self, name, *arguments, flags=0):
        """The same without waiting for the answer: returns the request."""
        return self.store.start([operation(name, self.target, *arguments)], flags)

    def end(self, request):
        values = self.store.results(request)[0]
        return values[0] if len(values) == 1 else values or None

    def close(self):
        self.store.session.send("object_close", target=self.target)

    def delete(self):
        self.store.session.ask("object_delete", target=self.target)

    def stat(self):
        version, entries, size = self.op("stat")
        return {"version": version, "entries": entries, "bytes": size}

    # Dicts

    def set(self, name, value, *ttl):
        return self.op("set", key_argument(name), value, *map(Int, ttl))

    def get(self, name):
        return self.op("get", key_argument(name))

    def items(self):
        """All entries by scan, in the order of insertion."""
        found, cursor = {}, (0, 0)
        while cursor != (-1, -1):
            page = self.store.run(operation("scan", self.target, Int(cursor[0]), Int(cursor[1]), Int(3)))[0]
            cursor = (page[0], page[1])
            for index in range(2, len(page), 3):
                found[page[index]] = (page[index + 2], page[index + 1])
        return {name: value for name, (_, value) in sorted(found.items(), key=lambda item: item[1][0])}

    # Lists

    def all(self):
        found, at = [], 0
        while True:
            page = self.store.run(operation("list_slice", self.target, Int(at), Int(2**62)))[0]
            if len(page) == 1:
                return found
            found += page[1:]
            at = page[0]
