#!/usr/bin/env python3
"""The Python package reads and writes the protocol's golden frames, and cuts any stream of them."""

import glob
import json
import os
import random
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
