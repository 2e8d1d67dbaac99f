#!/usr/bin/python3
"""Clients that break the rules, and clients that die: what they get, and that nobody else notices."""

import os
import random
import resource
import select
import socket
import struct
import threading
import unittest

from story import (BYTES, IN_ARENA, JSON, LAST, MEMORY_FACTOR, OP, REFERENCE, SANITIZED, Daemon, Session, Story, encode,
                   eventually, pack)

PREFIX = "<IHBBQIIBB6s"


def resident(pid):
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def is_readable(sock):
    return bool(select.select([sock], [], [], 0)[0])


def is_writable(sock, seconds):
    return bool(select.select([], [sock], [], seconds)[1])


class Witness(threading.Thread):
    """A well-behaved session that works all the time; join() says how often it was served."""

    def __init__(self, daemon):
        super().__init__(daemon=True)
        self.session = daemon.session()
        self.ending = threading.Event()
        self.served = 0
        self.error = None

    def run(self):
        try:
            while not self.ending.is_set():
                assert self.session.apply("square", self.served) == self.served ** 2
                self.served += 1
        except Exception as error:  # pylint: disable=broad-except
            self.error = error

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        self.join()
        self.session.close()
        if self.error:
            raise self.error
        assert self.served > 0


class BrokenStreams(Story):
    def ends(self, data, code="bad_message", greet=True):
        """Sends bytes and checks that the connection ends with that error, and that another session works."""
        session = self.daemon.session() if greet else Session(self.daemon.socket, greet=False)
        try:
            session.socket.sendall(data)
            frame = session.receive("error", request=0)
            self.assertEqual(frame.head["code"], code, frame.head)
            while session.next_frame() is not None:
                pass
        finally:
            session.close()
        self.assertEqual(self.session().apply("square", 3), 9)
        return frame.head["detail"]

    def prefix(self, body=0, head=0, op=OP["ping"], flags=0, request=1, target=0, count=0, encoding=0, fds=0, rest=b"\0" * 6):
        return struct.pack(PREFIX, body, head, op, flags, request, target, count, encoding, fds, rest)

    def test_garbage(self):
        before = self.daemon.counter("protocol_errors_total")
        for data in (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2, b"\xff" * 64, bytes(range(1, 65))):
            with self.subTest(data[:8]):
                session = Session(self.daemon.socket, greet=False)
                session.socket.sendall(data)
                self.assertIn(session.receive("error").head["code"], ("bad_message", "frame_too_large"))
                session.close()
        self.assertEqual(self.daemon.counter("protocol_errors_total"), before + 3)

    def test_a_body_too_long(self):
        self.ends(self.prefix(body=(1 << 20) + 1), "frame_too_large")
        self.ends(self.prefix(body=0xffffffff), "frame_too_large")

    def test_reserved_bytes(self):
        self.ends(self.prefix(rest=b"\0\0\0\0\0\1"))

    def test_unknown_ops_flags_and_encodings(self):
        for fields in ({"op": 0}, {"op": 39}, {"op": 255}, {"flags": 4}, {"flags": 128}, {"encoding": 4}, {"encoding": 26}):
            with self.subTest(**fields):
                self.ends(self.prefix(**fields))

    def test_ops_that_go_the_other_way(self):
        for op in ("welcome", "result", "done", "ok", "error", 64, 73, 96, 102):
            with self.subTest(op):
                self.ends(encode(op, request=1))

    def test_a_head_that_is_no_object(self):
        self.ends(self.prefix(head=2) + b"[]")

    def test_a_frame_cut_off(self):
        before = self.daemon.counter("protocol_errors_total")
        whole = encode("apply", head={"function": "square"}, body=b"7", encoding=JSON, count=1, request=1)
        for end in range(1, len(whole), 7):
            session = self.daemon.session()
            session.socket.sendall(whole[:end])
            session.close()
        eventually(lambda: self.daemon.counter("protocol_errors_total") >= before + len(range(1, len(whole), 7)), "all are noticed")
        self.assertEqual(self.session().apply("square", 3), 9)

    def test_descriptors_that_did_not_arrive(self):
        self.ends(self.prefix(fds=1))
        self.ends(self.prefix(fds=9))

    def test_descriptors_that_nobody_asked_for_are_closed(self):
        pid = self.daemon.process.pid
        with self.daemon.session() as session:
            session.apply("square", 1)
            before = len(os.listdir(f"/proc/{pid}/fd"))
            read_end, write_end = os.pipe()
            for _ in range(50):
                session.send("ping", fds=[write_end], request=session.new_request())
                session.receive("ok")
            os.close(write_end)
            self.assertEqual(os.read(read_end, 1), b"")  # nobody else has it open any more
            os.close(read_end)
            self.assertLessEqual(len(os.listdir(f"/proc/{pid}/fd")), before)

    def test_another_version(self):
        hello = encode("hello", head={"version": 2}, request=1)
        self.assertIn("1", self.ends(hello, "unsupported_version", greet=False))

    def test_no_greeting(self):
        self.assertIn("hello", self.ends(encode("ping", request=1), greet=False))

    def test_two_greetings(self):
        self.ends(encode("hello", head={"version": 1}, request=1))


class BadFields(Story):
    def test_a_bad_head_fails_only_its_request(self):
        session = self.session()
        for head in (b"{", b"{}}", b'{"function":"square",}', b'{"function":"square","function":7}', b'{"\xff":1}',
                     b'{"a":' * 100 + b"1" + b"}" * 100, b'{"timeout_ms":1e3,"function":"square"}'):
            with self.subTest(head[:12]):
                request = session.new_request()
                frame = struct.pack("<IHBBQIIBB6x", 1, len(head), OP["apply"], 0, request, 0, 1, JSON, 0) + head + b"7"
                session.socket.sendall(frame)
                self.assert_fails("bad_message", session.result, request)
        self.assertEqual(session.apply("square", 3), 9)

    def test_references_outside_the_arena(self):
        session = self.session()
        segment = session.open_arena(1 << 20)
        size = len(session.up[segment])
        for reference in ((segment, 0, size + 1), (segment, size, 1), (segment, 0, 1 << 63), (segment, (1 << 64) - 64, 128),
                          (segment + 1, 0, 8), (0, 0, 8), (65, 0, 8), (1 << 40, 0, 8), (segment, 1, 8), (segment, 0, 0)):
            with self.subTest(reference=reference):
                for op in ("apply", "map"):
                    request = session.new_request()
                    session.send(op, head={"function": "echo"}, body=REFERENCE.pack(*reference), encoding=BYTES, count=1,
                                 flags=IN_ARENA | (LAST if op == "map" else 0), request=request)
                    self.assert_fails("bad_message", session.result if op == "apply" else session.outcomes, request)

    def test_another_session_s_arena_is_not_there(self):
        owner, other = self.session(), self.session()
        segment = owner.open_arena(1 << 20)
        request = other.new_request()
        other.send("apply", head={"function": "echo"}, body=REFERENCE.pack(segment, 0, 64), encoding=BYTES, count=1, flags=IN_ARENA,
                   request=request)
        self.assert_fails("bad_message", other.result, request)

    def test_regions_released_that_were_not_given(self):
        session = self.session()
        for body, count in ((REFERENCE.pack(1, 0, 64), 1), (b"x" * 23, 1), (REFERENCE.pack(1, 0, 64), 5)):
            request = session.new_request()
            session.send("arena_release", body=body, count=count, request=request)
            self.assert_fails("bad_message", session.result, request)
        result = session.start("big_result", 300_000)
        frame = session.receive("result", request=result)
        session.send("arena_release", body=frame.body, count=1)
        request = session.new_request()
        session.send("arena_release", body=frame.body, count=1, request=request)
        self.assert_fails("bad_message", session.result, request)
        self.assertEqual(len(session.result(session.start("big_result", 300_000))), 300_000)

    def test_arena_sizes(self):
        session = self.session()
        self.assert_fails("bad_argument", session.ask, "arena_open", {"bytes": 0})
        self.assert_fails("bad_message", session.ask, "arena_open", {"bytes": (1 << 36) + 1})
        self.assert_fails("out_of_space", session.ask, "arena_open", {"bytes": 1 << 36})
        self.assert_fails("bad_message", session.ask, "arena_open", {"bytes": 64, "segment": 1})
        self.assert_fails("bad_message", session.ask, "arena_open", {"bytes": -1})

    def test_a_request_number_in_use(self):
        session = self.session()
        session.send("map", head={"function": "square"}, request=7)
        session.send("map", head={"function": "square"}, request=7)
        self.assertEqual(session.receive("error", request=7).head["code"], "bad_message")

    def test_input_for_no_job_is_ignored(self):
        session = self.session()
        session.send("input", body=pack([b"1"]), encoding=JSON, count=1, flags=LAST, request=99)
        session.ask("ping")
        self.assertFalse(session.frames)


class Dying(Story):
    config = 'cancel_grace = "5s"'

    def test_in_the_middle_of_arena_bodies(self):
        data = os.urandom(8 << 20)
        for _ in range(20):
            with self.daemon.session() as session:
                segment = session.open_arena(len(data))
                session.up[segment][:len(data)] = data
                for _ in range(8):
                    session.send("apply", head={"function": "echo"}, body=REFERENCE.pack(segment, 0, len(data)), encoding=BYTES,
                                 count=1, flags=IN_ARENA, request=session.new_request())
        eventually(lambda: self.daemon.counter("jobs_known") == 0, "their jobs are gone")
        self.assertEqual(self.daemon.counter("arena_bytes"), 0)
        self.assertEqual(self.daemon.counter("workers_died_total"), 0)

    def test_a_body_that_changes_under_the_worker(self):
        session = self.session()
        segment = session.open_arena(4 << 20)
        memory = session.up[segment]
        good = b"[" + b"1," * 500_000 + b"1]"
        memory[:len(good)] = good
        for round_number in range(30):
            request = session.new_request()
            session.send("apply", head={"function": "doubled"}, body=REFERENCE.pack(segment, 0, len(good)), encoding=JSON, count=1,
                         flags=IN_ARENA, request=request)
            rng = random.Random(round_number)
            while not is_readable(session.socket):
                at = rng.randrange(len(good))
                memory[at:at + 1] = rng.choice((b"[", b'"', b"\\", b"\0", b"9"))
            reply = session.receive("result", "error", request=request)
            if reply.op == "error":
                self.assertEqual(reply.head["code"], "bad_argument")
            elif reply.flags & IN_ARENA:
                session.read_down(reply.body)
            memory[:len(good)] = good
        self.assertEqual(self.daemon.counter("workers_died_total"), 0)


class Floods(Story):
    def test_a_reader_that_never_reads(self):
        pid = self.daemon.process.pid
        before = resident(pid)
        with Witness(self.daemon):
            flooders = []
            for op, fields in (("ping", {}), ("apply", {"head": {"function": "nowhere"}, "body": b"1", "encoding": JSON, "count": 1}),
                               ("apply", {"head": {"function": "echo"}, "body": b" " * 65000 + b"1", "encoding": JSON, "count": 1})):
                session = self.daemon.session()
                session.socket.setblocking(False)
                flooders.append(session)
                data = encode(op, request=5, **fields)
                data *= max(1, 65536 // len(data))
                sent = 0
                while sent < 256 << 20 and is_writable(session.socket, 0.5):  # until it takes no more
                    sent += session.socket.send(data[sent % len(data):])
            self.assertLess(resident(pid) - before, (200 << 20) * MEMORY_FACTOR)
        for session in flooders:
            session.close()
        self.assertEqual(self.session().apply("square", 3), 9)

    def test_a_map_whose_results_nobody_reads_pauses(self):
        pid = self.daemon.process.pid
        with self.daemon.session() as session:
            session.socket.settimeout(None)
            request = session.new_request()
            session.send("map", head={"function": "echo"}, request=request)
            body = pack([b'"' + b"x" * 60_000 + b'"'] * 10)
            stop = threading.Event()

            def feed():
                try:
                    while not stop.is_set():
                        session.send("input", body=body, encoding=JSON, count=10, request=request)
                except OSError:
                    pass

            feeder = threading.Thread(target=feed, daemon=True)
            feeder.start()
            with Witness(self.daemon) as witness:
                goal = witness.served + 2000
                eventually(lambda: witness.served > goal or witness.error, "others are served")
            self.assertLess(resident(pid), (150 << 20) * MEMORY_FACTOR)
            stop.set()
            session.socket.shutdown(socket.SHUT_RDWR)
            feeder.join()


class FewDescriptors(unittest.TestCase):
    @unittest.skipIf(SANITIZED, "SKIPPED: without a free descriptor UBSan cannot read an object's type, and reports that it is wrong")
    def test_it_survives_having_none_left_and_recovers(self):
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        daemon = Daemon()
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, limits[1]))
            try:
                daemon.start()
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            first = daemon.session()
            waiting = []
            for _ in range(100):
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                sock.connect(daemon.socket)
                waiting.append(sock)
            eventually(lambda: "accept" in daemon.log(), "it has run out")
            self.assertEqual(first.apply("square", 3), 9)
            with self.assertRaises(Exception) as caught:
                first.open_arena(1 << 20)
            self.assertEqual(getattr(caught.exception, "code", ""), "system")
            for sock in waiting:
                sock.close()
            with daemon.session() as session:
                self.assertEqual(session.apply("square", 4), 16)
                session.open_arena(1 << 20)
            self.assertEqual(first.apply("square", 5), 25)
            first.close()
            self.assertEqual(daemon.log().count("event=accept "), 1, daemon.log())  # not one each time it tried
        finally:
            daemon.__exit__(None)

    def test_more_sessions_than_allowed(self):
        with Daemon("max_sessions = 2") as daemon:
            first, second = daemon.session(), daemon.session()
            third = Session(daemon.socket, greet=False)
            frame = third.receive("error", request=0)
            self.assertEqual(frame.head["code"], "limit_reached")
            self.assertIn("max_sessions", frame.head["detail"])
            self.assertIsNone(third.next_frame())
            third.close(), second.close()
            self.assertEqual(first.apply("square", 3), 9)
            eventually(lambda: first.ask("stats") and next(row["value"] for row in first.ask("stats")["counters"]
                                                            if row["name"] == "sessions_open") == 1, "the second is gone")
            with daemon.session() as session:
                self.assertEqual(session.apply("square", 4), 16)
            first.close()


SPARED = [OP[name] for name in ("pool_resize", "pool_pause", "reload", "drain", "shutdown")]  # they may do what they say


class Stream:
    """What a session has sent and the daemon has not made a whole frame of. After a byte more or less, the next frame begins
    elsewhere than it was meant to, and the length of some head becomes the op of a frame that is as good as any."""

    def __init__(self):
        self.rest = b""

    def completes(self, data, ops):
        """True if the daemon would take one of these requests from `data`, which is to be left out then."""
        buffer, at = self.rest + data, 0
        while len(buffer) - at >= 32:
            body, head, op = struct.unpack_from("<IHB", buffer, at)
            if len(buffer) - at < 32 + head + body:
                break
            if op in ops:
                return True
            at += 32 + head + body
        self.rest = buffer[at:]
        return False


class Fuzz(Story):
    config = 'cancel_grace = "100ms"\nmax_nesting = 2'

    def test_mutated_frames(self):
        for seed in (20, 4, 8):
            with self.subTest(seed=seed):
                self.mutate_frames(random.Random(seed))

    def mutate_frames(self, rng):
        seeds = [encode("apply", head={"function": "echo"}, body=b"7", encoding=JSON, count=1, request=1),
                 encode("apply", target=1, body=b"7", encoding=JSON, count=1, request=1),
                 encode("map", head={"function": "square", "chunk": 2}, body=pack([b"1", b"22"]), encoding=JSON, count=2, flags=LAST,
                        request=2),
                 encode("map", head={"function": "square"}, body=pack([b"1"]), encoding=JSON, count=1, request=3),
                 encode("input", body=pack([b"1"]), encoding=JSON, count=1, flags=LAST, request=3),
                 encode("map", head={"function": "square", "result_element": "i64"}, body=bytes(80), encoding=19, count=10, flags=LAST,
                        request=4),
                 encode("apply", head={"function": "echo"}, body=REFERENCE.pack(1, 0, 4096), encoding=BYTES, count=1, flags=IN_ARENA,
                        request=5),
                 encode("prepare", head={"function": "square", "priority": 5}, target=1, request=6),
                 encode("cancel", head={"request": 2}, request=7), encode("wait", head={"task": "x", "timeout_ms": 5}, request=8),
                 encode("fetch", head={"task": "x"}, request=9), encode("ps", head={"limit": 5}, request=10),
                 encode("workers", request=11), encode("pools", request=12), encode("stats", request=13),
                 encode("functions", request=14), encode("failures", head={"limit": 3}, request=15),
                 encode("pool_open", head={"name": "p", "workers": 1}, request=16), encode("pool_close", head={"pool": "p"}, request=17),
                 encode("arena_open", head={"bytes": 65536}, request=18),
                 encode("arena_release", body=REFERENCE.pack(1, 0, 64), count=1, request=19),
                 encode("nested_wait", target=1), encode("log", head={"task": "x"}, request=20), encode("ping", request=21)]
        with Witness(self.daemon):
            session, stream, frames = None, Stream(), 0
            for _ in range(2000):
                if session is None:
                    session, stream, frames = self.daemon.session(), Stream(), 0
                data = bytearray(rng.choice(seeds))
                for _ in range(rng.choice((0, 1, 1, 2, 4))):
                    kind = rng.randrange(4)
                    at = rng.randrange(len(data))
                    if kind == 0:
                        data[at] = rng.randrange(256)
                    elif kind == 1:
                        data[at] ^= 1 << rng.randrange(8)
                    elif kind == 2:
                        del data[at:at + rng.randrange(1, 5)]
                    else:
                        data[at:at] = rng.randbytes(rng.randrange(1, 5))
                    if not data:
                        data = bytearray(b"\0")
                if stream.completes(data, SPARED):
                    continue
                frames += 1
                try:
                    session.socket.sendall(data)
                    while is_readable(session.socket):
                        if session.next_frame() is None:
                            raise EOFError
                    if frames > 20:
                        raise EOFError
                except (OSError, EOFError):
                    session.close()
                    session = None
            if session:
                session.close()
        eventually(lambda: self.daemon.counter("jobs_known") == 0, "all of it has ended")
        eventually(lambda: len(self.daemon.ask("pools")["pools"]) == 1, "their pools are gone")
        self.assertEqual(self.session().apply("square", 3), 9)


if __name__ == "__main__":
    unittest.main()
