#!/usr/bin/env python3
"""The Python package reads and writes the protocol's golden frames, and cuts any stream of them."""

import glob
import json
import os
import random
import struct
import sys
import unittest

from support import PACKAGE

sys.path.insert(0, PACKAGE)
from taskpool import payload, store, wire  # noqa: E402

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "proto", "golden", "v1", "*.json")


def golden():
    for path in sorted(glob.glob(GOLDEN)):
        with open(path) as file:
            yield os.path.basename(path), json.load(file)


class Wire(unittest.TestCase):
    def test_golden_frames(self):
        for name, about in golden():
            with self.subTest(name):
                data = bytes.fromhex(about["frame"])
                decoder = wire.Decoder()
                decoder.feed(data, range(100, 100 + about["fds"]))
                frame = decoder.next()
                self.assertIsNone(decoder.next())
                self.assertEqual(frame.fields(), about["head"])
                self.assertEqual((frame.request, frame.target, frame.count, frame.flags, len(frame.fds)),
                                 (about["request"], about["target"], about["count"], about["flags"], about["fds"]))
                self.assertEqual(getattr(wire, about["op"].upper(), frame.op), frame.op)
                again = wire.encode(frame.op, body=frame.body, flags=frame.flags, request=frame.request, target=frame.target,
                                    count=frame.count, encoding=frame.encoding, fds=len(frame.fds), head=frame.fields())
                self.assertEqual(wire.PREFIX.unpack_from(again)[2:], wire.PREFIX.unpack_from(data)[2:])

    def test_any_split(self):
        frames = [bytes.fromhex(about["frame"]) for _, about in golden() if not about["fds"]]
        stream = b"".join(frames)
        chance = random.Random(1)
        decoder, found, at = wire.Decoder(), 0, 0
        while at < len(stream):
            size = chance.choice((1, 3, 31, 33, 500))
            decoder.feed(stream[at:at + size])
            at += size
            while decoder.next() is not None:
                found += 1
        self.assertEqual(found, len(frames))

    def test_store_operations(self):
        """The extension packs and reads operations as Python does, and leaves to Python what is not small and plain."""
        from taskpool import _native

        plain = [0, 1, -1, 255, 256, -(1 << 63), (1 << 63) - 1, "", "text", "é" * 100, b"", b"bytes"]
        for name in plain:
            for value in [*plain, 2.5, None, True, False]:
                with self.subTest(key=name, value=value):
                    slowly = store._pack_operation(None, store.SET, 7, [store.key(name), store.value(value)], [])
                    self.assertEqual(_native.pack(store.SET, 7, "kv", name, value), slowly)
        self.assertEqual(_native.pack(store.ACQUIRE, 1, "ii", 5, -1),
                         store._pack_operation(None, store.ACQUIRE, 1, [store.integer(5), store.integer(-1)], []))
        for name in (1 << 70, 1.5, None, True, (1, 2), "\ud800", "x" * 1024, b"x" * 1024, [], 10 ** 30):
            self.assertIsNone(_native.pack(store.SET, 7, "kv", name, 1), name)
        for value in (1 << 70, (1, 2), "\ud800", 'a "quote"', "back\\slash", "line\n", "x" * 70000, b"x" * 70000, [], {}):
            self.assertIsNone(_native.pack(store.SET, 7, "kv", 1, value), value)
        self.assertRaises(TypeError, _native.pack, store.SET, 7, "kv", 1)

        entries = {f"key {i}": i for i in range(450)}
        batches = _native.pack_sets(store.SET, 7, entries, 200, 1 << 16)
        self.assertEqual([count for count, _ in batches], [200, 200, 50])
        self.assertEqual(b"".join(body for _, body in batches), b"".join(
            store._pack_operation(None, store.SET, 7, [store.key(name), store.value(value)], []) for name, value in entries.items()))
        large = _native.pack_sets(store.SET, 7, {i: b"x" * 40_000 for i in range(5)}, 200, 1 << 16)
        self.assertEqual([count for count, _ in large], [2, 2, 1])
        self.assertEqual(_native.pack_sets(store.SET, 7, {}, 200, 1 << 16), [])
        self.assertIsNone(_native.pack_sets(store.SET, 7, {1: 1, 2: []}, 200, 1 << 16))

    def test_store_results(self):
        from taskpool import _native

        def decode(encoding, data):
            return store.decode_value(encoding, data, True)

        values = [1, -5, 2.5, "text", b"bytes", None, True, (1, 2)]
        packed = [store._pack_inline(store.value(value)) for value in values]
        body = struct.pack("<I", len(values)) + b"".join(packed) + struct.pack("<I", 0) + struct.pack("<I", 1) + packed[0]
        for parse in (_native.parse, store._parse):
            self.assertEqual(parse(3, body, decode), [values, [], [1]])
        for cut in range(len(body)):
            self.assertRaises((ValueError, struct.error, EOFError), _native.parse, 3, body[:cut], decode)
        self.assertRaises(ValueError, _native.parse, 1, b"\xff" * 40, decode)

    def test_broken_streams(self):
        for data in (wire.PREFIX.pack(wire.MAX_BODY_BYTES + 1, 0, 1, 0, 0, 0, 0, 0, 0), wire.PREFIX.pack(0, 0, 1, 0, 0, 0, 0, 0, 1)):
            decoder = wire.Decoder()
            decoder.feed(data)
            self.assertRaises(wire.BrokenStream, decoder.next)
        for count, body in ((1, b""), (1, b"\x05\0\0\0abc"), (2, b"\x01\0\0\0\x01\0\0\0abc")):
            self.assertRaises(wire.BrokenStream, wire.unpack, count, body)
        self.assertRaises(wire.BrokenStream, wire.references, b"x" * 23)
        self.assertRaises(ValueError, wire.encode, wire.HELLO, head={"client": "x" * 70_000})

    def test_items(self):
        for value in (None, [1, "two"], b"x" * 200_000, {"a": bytearray(100_000)}, (b"y" * 65536, [b"z" * 70_000])):
            item = payload.encode(value)
            data = item.tobytes()
            self.assertEqual(len(data), item.size)
            self.assertEqual(payload.decode(data), value)
        good = payload.encode(b"x" * 100_000).tobytes()
        for bad in (b"", b"\x01", b"\x02" + good[1:], good[:70], good[:100], b"\x01\0\0\0\xff\xff\xff\xff" + good[8:]):
            self.assertRaises(Exception, payload.decode, bad)

    def test_keys(self):
        for key in (None, 0, 1, -1, 255, 256, 10**40, -(10**40), 2.5, float("inf"), "text", "", b"bytes", (), (1, ("a", b"b")),
                    frozenset([1, 2])):
            self.assertEqual(store.decode_key(store.encode_key(key), True), key)
        self.assertEqual(store.encode_key(1.0), store.encode_key(True))
        self.assertNotEqual(store.encode_key("1"), store.encode_key(1))
        self.assertRaises(TypeError, store.encode_key, [])


if __name__ == "__main__":
    unittest.main()
