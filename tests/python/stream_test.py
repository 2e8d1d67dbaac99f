#!/usr/bin/env python3
"""The inner loops do the same with the extension and without it: streams of frames, outboxes, calls, chunks of maps."""

import mmap
import os
import pickle
import signal
import socket
import sys
import threading
import unittest
from unittest import mock

from support import PACKAGE

sys.path.insert(0, PACKAGE)

from taskpool import _native, payload, pending, stream, wire  # noqa: E402
from taskpool.runtime import page  # noqa: E402


class Recorder:
    """A handler that keeps its frames, and wants so many."""

    def __init__(self, wanted=1):
        self.frames = []
        self.wanted = wanted

    def on_frame(self, frame):
        self.frames.append(frame)
        return len(self.frames) == self.wanted

    def on_lost(self, error):
        raise AssertionError(error)


class Streams:
    """For both kinds."""

    kind = None

    def setUp(self):
        self.ours, self.theirs = socket.socketpair()
        self.addCleanup(self.ours.close)
        self.addCleanup(self.theirs.close)
        self.stream = self.kind(self.ours, wire.Frame, wire.BrokenStream)

    def test_any_split(self):
        frames = [wire.encode(wire.PING, head={"a": i}, body=b"x" * (i * 37 % 5), request=i) for i in range(50)]
        data = b"".join(frames)
        seen = []
        for at in range(0, len(data), 7):
            self.theirs.sendall(data[at:at + 7])
            self.assertTrue(self.stream.read())
            while (frame := self.stream.next()) is not None:
                seen.append(frame)
        self.assertEqual([frame.request for frame in seen], list(range(50)))
        self.assertEqual(seen[7].fields(), {"a": 7})
        self.assertEqual(seen[3].body, b"x" * (3 * 37 % 5))
        self.assertIsInstance(seen[0], wire.Frame)

    def test_a_large_frame(self):
        body = os.urandom(1 << 20)
        sender = threading.Thread(target=self.theirs.sendall, args=(wire.encode(wire.PING, body=body, request=3),))
        sender.start()
        while (frame := self.stream.next()) is None:
            self.stream.read()
        sender.join()
        self.assertEqual(frame.body, body)

    def test_nothing_and_the_end(self):
        self.assertFalse(self.stream.read(0, -1, False, False))
        self.assertFalse(self.stream.read(1, -1, False, True))
        wake = os.eventfd(1)
        self.addCleanup(os.close, wake)
        self.assertFalse(self.stream.read(-1, wake, False, False))
        self.theirs.close()
        with self.assertRaises(EOFError):
            self.stream.read()

    def test_broken_frames(self):
        self.theirs.sendall(wire.PREFIX.pack((1 << 20) + 1, 0, wire.PING, 0, 0, 0, 0, 0, 0))
        self.stream.read()
        self.assertRaises(wire.BrokenStream, self.stream.next)
        self.ours, self.theirs = socket.socketpair()
        self.stream = self.kind(self.ours, wire.Frame, wire.BrokenStream)
        self.theirs.sendall(wire.encode(wire.PING, fds=1))
        self.stream.read()
        self.assertRaises(wire.BrokenStream, self.stream.dispatch, {}, lambda frame: None)

    def test_descriptors(self):
        ends = [os.pipe() for _ in range(3)]
        for number, (out, into) in enumerate(ends):
            data = wire.encode(wire.PING, request=number, fds=1)
            socket.send_fds(self.theirs, [data], [out])
            os.close(out)
            os.write(into, b"%d" % number)
            os.close(into)
        while True:
            frame = self.stream.next()
            if frame is None:
                self.stream.read()
                continue
            self.assertEqual(os.read(frame.fds[0], 9), b"%d" % frame.request)
            os.close(frame.fds[0])
            if frame.request == 2:
                break

    def test_descriptors_go_with_their_frames(self):
        out, into = os.pipe()
        self.stream.queue(wire.encode(wire.PING, request=1))
        self.stream.queue(wire.encode(wire.PING, request=2, fds=1), [out])
        self.stream.queue(wire.encode(wire.PING, request=3))
        self.stream.queue(wire.encode(wire.PING, request=4, fds=2), [into, out])
        self.assertTrue(self.stream.flush())
        self.assertEqual(self.stream.queued, 0)
        other = stream.PlainStream(self.theirs)
        seen = []
        while len(seen) < 4:
            frame = other.next()
            if frame is None:
                other.read()
                continue
            seen.append((frame.request, len(frame.fds)))
            for fd in frame.fds:
                os.close(fd)
        self.assertEqual(seen, [(1, 0), (2, 1), (3, 0), (4, 2)])
        os.close(out)
        os.close(into)

    def test_a_peer_that_does_not_read(self):
        count = 0
        while True:
            self.stream.queue(wire.encode(wire.PING, body=b"y" * 5000, request=count))
            count += 1
            if not self.stream.flush():
                break
        self.assertGreater(self.stream.queued, 0)
        other = stream.PlainStream(self.theirs)
        seen = 0
        while seen < count:
            frame = other.next()
            if frame is None:
                other.read(0) or self.stream.flush()
                continue
            self.assertEqual((frame.request, frame.body), (seen, b"y" * 5000))
            seen += 1
        self.assertEqual(self.stream.queued, 0)
        self.theirs.close()
        self.stream.queue(b"more")
        self.assertRaises(OSError, self.stream.flush)

    def test_dispatch(self):
        once, twice, strays = Recorder(), Recorder(2), []
        handlers = {1: once, 2: twice}
        for request in (1, 2, 9, 2, 1):
            self.theirs.sendall(wire.encode(wire.OK, request=request))
        self.stream.read()
        self.stream.dispatch(handlers, strays.append)
        self.assertEqual(handlers, {})
        self.assertEqual((len(once.frames), len(twice.frames)), (1, 2))
        self.assertEqual([frame.request for frame in strays], [9, 1])

    def test_a_signal_waits_for_the_handlers(self):
        def interrupt(*_):
            raise KeyboardInterrupt

        class Slow(Recorder):
            def on_frame(self, frame):
                os.kill(os.getpid(), signal.SIGINT)
                for _ in range(1000):
                    pass
                return super().on_frame(frame)

        before = signal.signal(signal.SIGINT, interrupt)
        self.addCleanup(signal.signal, signal.SIGINT, before)
        handlers = {1: Slow(), 2: Slow()}
        slow = list(handlers.values())
        self.theirs.sendall(wire.encode(wire.OK, request=1) + wire.encode(wire.OK, request=2))
        self.stream.read()
        with self.assertRaises(KeyboardInterrupt):
            self.stream.dispatch(handlers, lambda frame: None)
            for _ in range(1000):
                pass
        self.assertEqual([len(one.frames) for one in slow], [1, 1])
        self.assertEqual(handlers, {})

    def test_closed(self):
        self.stream.queue(b"never")
        self.stream.close()
        self.assertEqual(self.stream.queued, 0)


class NativeStreams(Streams, unittest.TestCase):
    kind = _native.Stream

    def pending(self):
        class Result(pending.Pending):
            pass

        result = Result()
        self.counter = pending.Counter()
        result._count_in(self.counter)
        return result

    def test_a_small_call(self):
        result = self.pending()
        handlers = {}
        advice = self.stream.submit(handlers, result, 7, 3, (1, "two"), {"x": [3]})
        self.assertEqual(advice, stream.TO_BE_FLUSHED)  # the first for a while
        self.assertEqual((handlers, self.counter.count), ({7: result}, 1))
        self.stream.flush()
        other = stream.PlainStream(self.theirs)
        other.read()
        frame = other.next()
        self.assertEqual((frame.op, frame.request, frame.target, frame.count, frame.encoding),
                         (wire.APPLY, 7, 3, 1, wire.AS_PICKLE))
        self.assertEqual(payload.decode(frame.body), ((1, "two"), {"x": [3]}))
        self.theirs.sendall(wire.encode(wire.RESULT, body=pickle.dumps({"a": 1}, 5), request=7, encoding=wire.AS_PICKLE))
        self.stream.read()
        self.stream.dispatch(handlers, None)
        self.assertEqual((handlers, self.counter.count, result._done), ({}, 0, True))
        self.assertTrue(result._settle())
        self.assertEqual((result._value, result._error), ({"a": 1}, None))

    def test_a_result_that_cannot_be_unpickled(self):
        result = self.pending()
        handlers = {}
        self.stream.submit(handlers, result, 1, 1, (), {})
        self.theirs.sendall(wire.encode(wire.RESULT, body=b"\x80\x05garbage", request=1, encoding=wire.AS_PICKLE))
        self.stream.read()
        self.stream.dispatch(handlers, None)
        self.assertTrue(result._settle())
        self.assertIsInstance(result._error, pickle.UnpicklingError)

    def test_what_is_not_small(self):
        for argument in (bytes(1 << 16), bytearray(3), "x" * (1 << 16), object(), threading.Lock(), [bytes(1 << 17)]):
            result = self.pending()
            handlers = {}
            self.assertEqual(self.stream.submit(handlers, result, 1, 1, (argument,), {}), stream.NOT_SMALL)
            self.assertEqual((handlers, self.counter.count, self.stream.queued), ({}, 0, 0))

    def test_the_last_of_them_is_told(self):
        result = self.pending()
        told = []
        self.counter.on_idle = lambda: told.append(self.counter.count)
        result.on_frame = None  # is not plain while somebody waits for the count: on_frame() would be called
        self.counter.began()
        self.counter.ended()
        self.assertEqual(told, [0])


class PlainStreams(Streams, unittest.TestCase):
    kind = stream.PlainStream


class Outboxes(unittest.TestCase):
    """What both kinds of page send."""

    def page(self, kind):
        memory = mmap.mmap(-1, page.PAGE_BYTES)
        page.initialize(memoryview(memory))
        return kind(memoryview(memory))

    def sent(self, fill):
        """What each kind sends after `fill(page, channel)`, as frames; it has to be the same."""
        found = []
        for kind in (_native.Page, page.PlainPage):
            ours, theirs = socket.socketpair()
            with ours, theirs:
                one = self.page(kind)
                fill(one, ours)
                one.flush(ours)
                self.assertEqual(one.used, 0)
                ours.close()
                data = b""
                while more := theirs.recv(1 << 20):
                    data += more
            found.append(data)
        self.assertEqual(*found)
        decoder = wire.Decoder()
        decoder.feed(found[0])
        return list(iter(decoder.next, None))

    def test_results_of_a_map_are_joined(self):
        def fill(one, channel):
            for ticket in range(0xFFFFFFFE, 0xFFFFFFFE + 5):
                one.add_result(channel, ticket & 0xFFFFFFFF, False, wire.AS_PICKLE, b"item %d" % (ticket & 7))

        [frame] = self.sent(fill)
        self.assertEqual((frame.op, frame.request, frame.count, frame.encoding), (wire.RUN_RESULTS, 0xFFFFFFFE, 5, wire.AS_PICKLE))
        self.assertEqual([bytes(item) for item in wire.unpack(5, frame.body)],
                         [b"item 6", b"item 7", b"item 0", b"item 1", b"item 2"])

    def test_what_is_not_joined(self):
        self.assertEqual(len(self.sent(lambda one, channel: one.add_result(channel, 1, False, 3, b"x"))), 1)
        self.assertEqual(len(self.sent(lambda one, channel: [one.add_result(channel, 1, True, 3, b"x"),
                                                             one.add_result(channel, 2, True, 3, b"x")])), 2)
        self.assertEqual(len(self.sent(lambda one, channel: [one.add_result(channel, 1, False, 3, b"x"),
                                                             one.add_result(channel, 3, False, 3, b"x")])), 2)
        self.assertEqual(len(self.sent(lambda one, channel: [one.add_result(channel, 1, False, 3, b"x"),
                                                             one.add_result(channel, 2, False, 1, b"x")])), 2)
        self.assertEqual(len(self.sent(lambda one, channel: [one.add_result(channel, 1, False, 3, b"x"),
                                                             one.add(channel, wire.encode(wire.PING)),
                                                             one.add_result(channel, 2, False, 3, b"x")])), 3)


class Chunks(unittest.TestCase):
    def test_packing(self):
        elements = [1, "two", None, [3], 4.5, (6,), 7]
        for size in (1, 2, 3, 100):
            body, count, item_bytes = _native.pack_chunks(elements, 1, size, True, 1000, 1 << 16)
            items = [payload.decode(item) for item in wire.unpack(count, body)]
            self.assertEqual(sum((chunk for chunk, _ in items), []), elements[1:])
            self.assertTrue(all(star is True for _, star in items))
            self.assertEqual(item_bytes, len(body) - 4 * count)
        self.assertEqual(_native.pack_chunks(elements, 0, 1, False, 2, 1 << 16)[1], 2)
        self.assertEqual(_native.pack_chunks(elements, 0, 1, False, 1000, 1)[1], 1)
        self.assertEqual(_native.pack_chunks(elements, 7, 1, False, 1000, 1)[1:], (0, 0))
        self.assertEqual(_native.pack_chunks([1, object(), 3], 0, 1, False, 10, 1 << 16)[1], 1)  # payload.py sees to the second

    def test_numbers(self):
        for elements in (list(range(-5, 20)), [1 << 62, -(1 << 63), *range(9)], [0.5, float("inf"), *([-0.0] * 8)]):
            item = _native.encode_numbers(elements)
            self.assertEqual((item[0], len(item)), (2, 16 + 8 * len(elements)))
            self.assertEqual(repr(_native.decode_numbers(item)), repr((0, elements)))
            self.assertEqual(payload.decode_elements(item), (elements, False))
            self.assertEqual(payload.decode_outcomes(item), (0, elements, {}))
            with mock.patch.object(payload, "_native", None):
                self.assertEqual(repr(payload.decode_numbers(item)), repr((0, elements)))
                self.assertIsNone(payload.encode_numbers(elements))
            outcomes = [None] * len(elements)
            self.assertEqual(_native.unpack_outcomes(wire.pack([item]), 1, outcomes, 0, len(elements)), (1, len(elements), 0))
            self.assertEqual(repr(outcomes), repr(elements))
            for cut in (item[:-1], item[:20], item[:9], item[:2], item[:1] + b"x" + item[2:]):
                self.assertRaises(ValueError, _native.decode_numbers, cut)
                with mock.patch.object(payload, "_native", None):
                    self.assertRaises(ValueError, payload.decode_numbers, cut)
        for other in ([True] * 9, [*range(9), True], [*range(9), 1.5], [1.5] * 9 + [1], [*range(9), 1 << 63], list(range(7)), [],
                      list(range(8192)), list("abcdefghij"), tuple(range(9))):
            self.assertIsNone(_native.encode_numbers(other))

    def test_unpacking(self):
        def packed(*results):
            return wire.pack([pickle.dumps(result, 5) for result in results])

        outcomes = [None] * 5
        body = packed((10, ["a", "b"], {}), (20, ["c", "d"], {}), (5, ["e"], {}))
        self.assertEqual(_native.unpack_outcomes(body, 3, outcomes, 0, 2), (3, 5, 35))
        self.assertEqual(outcomes, ["a", "b", "c", "d", "e"])
        failed = packed((1, ["x", "y"], {}), (1, ["x", None], {1: (ValueError(), "")}), (1, ["z"], {}))
        self.assertEqual(_native.unpack_outcomes(failed, 3, outcomes, 0, 2), (1, 2, 1))
        for odd in (packed("no tuple"), packed((1, ["too", "many", "of them"], {})), packed((-1, ["a", "b"], {})),
                    wire.pack([b"garbage"]), wire.pack([b"\x80garbage"]), wire.pack([b""])):
            self.assertEqual(_native.unpack_outcomes(odd, 1, outcomes, 0, 2)[0], 0)
        self.assertRaises(ValueError, _native.unpack_outcomes, b"123", 1, outcomes, 0, 2)
        self.assertEqual(_native.unpack_outcomes(b"\xff\xff\xff\xff", 1, outcomes, 0, 2)[0], 0)


if __name__ == "__main__":
    unittest.main()
